/* BlockOTA's example firmware: prints its version on USART1, then shows that it is running.
 *
 * 1.0.0 toggles the board's LED; 1.1.0 also prints its up time; 1.2.0 also prints samples of
 * a sine wave, from a table that fills most of the flash.
 */
#include <stdint.h>

#include "stm32f103.h"

#if VERSION_MINOR >= 2
#include "wave.h"
#endif

#define CLOCK_HZ 24000000u
#define BAUD 115200u

static volatile uint32_t milliseconds;

void systick_handler(void)
{
    milliseconds++;
}

/* Run at 24 MHz from the internal oscillator. After the boot ROM's Go command the ROM's clock
 * is still running; the processor must not run from the PLL while the PLL is configured. */
static void start_clock(void)
{
    RCC_CR |= RCC_CR_HSION;
    while (!(RCC_CR & RCC_CR_HSIRDY))
        ;
    RCC_CFGR = 0;
    while (RCC_CFGR & RCC_CFGR_SWS)
        ;
    RCC_CR = (RCC_CR & RCC_CR_HSICAL) | RCC_CR_HSITRIM_CENTRE | RCC_CR_HSION;
    while (RCC_CR & RCC_CR_PLLRDY)
        ;
    RCC_CIR = 0;
    RCC_CFGR = RCC_CFGR_PLLMUL_6;
    RCC_CR |= RCC_CR_PLLON;
    while (!(RCC_CR & RCC_CR_PLLRDY))
        ;
    RCC_CFGR = RCC_CFGR_PLLMUL_6 | RCC_CFGR_SW_PLL;
    while ((RCC_CFGR & RCC_CFGR_SWS) != RCC_CFGR_SWS_PLL)
        ;
}

/* Set USART1 on PA9 to 115200 baud, 8 data bits and even parity. The boot ROM uses the same
 * settings, so the terminal that flashed the board can stay connected. */
static void start_line(void)
{
    const uint32_t used = RCC_APB2_GPIOA | RCC_APB2_GPIOC | RCC_APB2_USART1;

    RCC_APB2RSTR = used;
    RCC_APB2RSTR = 0;
    RCC_APB2ENR = used;
    GPIOA_CRH = 0x444444B4u; /* PA9: alternate function, push-pull, 50 MHz */
    GPIOC_CRH = 0x44244444u; /* PC13: the LED, push-pull, 2 MHz */
    USART1_BRR = (CLOCK_HZ + BAUD / 2) / BAUD;
    USART1_CR1 = USART_CR1_UE | USART_CR1_M | USART_CR1_PCE | USART_CR1_TE;
}

static void start_ticks(void)
{
    SYST_CSR = 0;
    SYST_RVR = CLOCK_HZ / 1000u - 1u;
    SYST_CVR = 0;
    SYST_CSR = SYST_CSR_CLKSOURCE | SYST_CSR_TICKINT | SYST_CSR_ENABLE;
}

static void put_text(const char *text)
{
    while (*text) {
        while (!(USART1_SR & USART_SR_TXE))
            ;
        USART1_DR = (uint8_t)*text++;
    }
}

static void put_number(uint32_t number)
{
    char digits[11];
    char *first = digits + sizeof digits - 1;

    *first = 0;
    do
        *--first = (char)('0' + number % 10u);
    while (number /= 10u);
    put_text(first);
}

static void put_up_time(void)
{
    put_text("up ");
    put_number(milliseconds / 1000u);
    put_text(" s");
}

static void put_banner(void)
{
    put_text("BlockOTA bluepill " VERSION " (");
    put_number(FLASH_SIZE_KIB);
    put_text(" KiB flash, ");
    put_up_time();
    put_text(")\r\n");
}

#if VERSION_MINOR >= 2
/* One period of the sine takes ten seconds, so successive lines show different samples. */
static void put_wave(void)
{
    const int32_t sample = wave[milliseconds % 10000u * (WAVE_STEPS / 10000u)];

    put_text(sample < 0 ? ", wave -" : ", wave ");
    put_number((uint32_t)(sample < 0 ? -sample : sample));
}
#endif

static void put_heartbeat(void)
{
    GPIOC_ODR ^= 1u << 13;
#if VERSION_MINOR >= 1
    put_up_time();
#if VERSION_MINOR >= 2
    put_wave();
#endif
    put_text("\r\n");
#endif
}

int main(void)
{
    SCB_VTOR = 0x08000000u;
    start_clock();
    start_line();
    start_ticks();
    __asm__ volatile("cpsie i");
    put_banner();
    for (uint32_t next = 1000u;; next += 1000u) {
        while (milliseconds < next)
            __asm__ volatile("wfi");
        put_heartbeat();
    }
}
