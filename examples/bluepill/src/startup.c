/* Vector table and reset code of a Cortex-M3; no library is linked. */
#include <stdint.h>

extern uint32_t stack_top, data_load, data_start, data_end, bss_start, bss_end;

int main(void);
void systick_handler(void);

static void stop(void)
{
    for (;;)
        __asm__ volatile("wfi");
}

void reset_handler(void)
{
    const uint32_t *from = &data_load;

    for (uint32_t *to = &data_start; to < &data_end;)
        *to++ = *from++;
    for (uint32_t *to = &bss_start; to < &bss_end;)
        *to++ = 0;
    main();
    stop();
}

/* The 16 vectors of the Cortex-M3 core; the firmware uses none of the chip's peripheral interrupts. */
__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    &stack_top,
    (const void *)reset_handler,
    [2 ... 14] = (const void *)stop,
    (const void *)systick_handler,
};
