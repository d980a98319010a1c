/* Reset of the loader, and the start of an image. */
#include "loader.h"
#include "port.h"
#include "registers.h"

enum {
  HSI_ON = 1 << 0,
  PLL_ON = 1 << 24,
  PLL_READY = 1 << 25,
  SWITCH = 3,
  SWITCH_PLL = 2,
  SWITCH_STATUS = 3 << 2,
  PLL_TIMES_6 = 4 << 18,
};

extern const uint32_t stack_top;
_Noreturn void reset_handler(void);

/* The loader enables no interrupt. A fault resets, and the next boot continues where this one ended. */
__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
  &stack_top, reset_handler, port_reset, port_reset, port_reset, port_reset, port_reset,
};

/* 24 MHz from the internal oscillator: the fastest clock at which flash needs no wait state (PM0075 section 3.1). */
static void raise_clock(void) {
  RCC_CFGR = PLL_TIMES_6;
  RCC_CR |= PLL_ON;
  while (!(RCC_CR & PLL_READY)) {}
  RCC_CFGR = PLL_TIMES_6 | SWITCH_PLL;
  while ((RCC_CFGR & SWITCH_STATUS) != SWITCH_PLL << 2) {}
}

static void restore_clock(void) {
  RCC_CFGR = 0;
  while (RCC_CFGR & SWITCH_STATUS) {}
  RCC_CR &= ~(uint32_t)PLL_ON;
}

void reset_handler(void) {
  raise_clock();
  loader_run();
}

void port_start_image(uint32_t vector_table) {
  const uint32_t *vectors_of_image = (const uint32_t *)(uintptr_t)vector_table;
  restore_clock();
  SCB_VTOR = vector_table;
  __asm volatile("msr msp, %0\n bx %1" ::"r"(vectors_of_image[0]), "r"(vectors_of_image[1]));
  __builtin_unreachable();
}
