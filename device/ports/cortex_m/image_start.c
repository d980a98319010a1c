/* The start of a program in slot 0, after the loader has set the stack pointer, and VTOR if the core has one. */
#include <stdint.h>

extern const uint32_t stack_top, data_load;
extern uint32_t data_start, data_end, bss_start, bss_end;
_Noreturn void image_run(void);
_Noreturn void reset_handler(void);
_Noreturn void fault_handler(void);
_Noreturn void port_reset(void);

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
  &stack_top, reset_handler, fault_handler, fault_handler, fault_handler, fault_handler, fault_handler,
};

/* During a trial the loader counts the boots, so an image that faults is rolled back. */
void fault_handler(void) { port_reset(); }

void reset_handler(void) {
  const uint32_t *source = &data_load;
  for (uint32_t *word = &data_start; word < &data_end;) *word++ = *source++;
  for (uint32_t *word = &bss_start; word < &bss_end;) *word++ = 0;
  image_run();
}
