/* USART1 at 115200 baud with 8 data bits and no parity, on PA9 and PA10, from a clock of 24 MHz. */
#include "clock.h"
#include "port.h"
#include "registers.h"

enum {
  CLOCK_USART1 = 1 << 14,
  CLOCK_PORT_A = 1 << 2,
  PINS_USART1 = 0x444444B4, /* PA9 driven by the peripheral, PA10 an input */
  RATE_115200 = 208,        /* 24 MHz / 208 = 115,385 baud */
  CR1_RUN = 0x200C,         /* UE, TE and RE */
  SR_RECEIVED = 1 << 5,
  SR_EMPTY = 1 << 7,
};

static void start_once(void) {
  if (USART1_CR1 & CR1_RUN) return;
  clock_raise();
  RCC_APB2ENR |= CLOCK_USART1 | CLOCK_PORT_A;
  GPIOA_CRH = PINS_USART1;
  USART1_BRR = RATE_115200;
  USART1_CR1 = CR1_RUN;
}

int port_receive(void) {
  start_once();
  return USART1_SR & SR_RECEIVED ? (int)(USART1_DR & 0xFF) : -1;
}

void port_send(uint8_t byte) {
  start_once();
  while (!(USART1_SR & SR_EMPTY)) {}
  USART1_DR = byte;
}
