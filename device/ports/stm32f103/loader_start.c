/* Reset of the loader, and the start of an image. */
#include "clock.h"
#include "loader.h"
#include "port.h"
#include "registers.h"

extern const uint32_t stack_top;
_Noreturn void reset_handler(void);

/* The loader enables no interrupt, so every fault is a hard fault. It resets, and the next boot continues where this one
 * ended. The table of functions follows the vectors that the core can use. */
__attribute__((section(".vectors"), used)) static const void *const vectors[4] = {
  &stack_top, reset_handler, port_reset, port_reset,
};

void reset_handler(void) {
  clock_raise();
  loader_run();
}

void port_start_image(uint32_t vector_table) {
  const uint32_t *vectors_of_image = (const uint32_t *)(uintptr_t)vector_table;
  clock_restore();
  SCB_VTOR = vector_table;
  __asm volatile("msr msp, %0\n bx %1" ::"r"(vectors_of_image[0]), "r"(vectors_of_image[1]));
  __builtin_unreachable();
}
