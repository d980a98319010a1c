#include "clock.h"

#include "registers.h"

enum {
  PLL_ON = 1 << 24,
  PLL_READY = 1 << 25,
  SWITCH_PLL = 2,
  SWITCH_STATUS = 3 << 2,
  PLL_TIMES_6 = 4 << 18,
};

void clock_raise(void) {
  RCC_CFGR = PLL_TIMES_6;
  RCC_CR |= PLL_ON;
  while (!(RCC_CR & PLL_READY)) {}
  RCC_CFGR = PLL_TIMES_6 | SWITCH_PLL;
  while ((RCC_CFGR & SWITCH_STATUS) != SWITCH_PLL << 2) {}
}

void clock_restore(void) {
  RCC_CFGR = 0;
  while (RCC_CFGR & SWITCH_STATUS) {}
  RCC_CR &= ~(uint32_t)PLL_ON;
}
