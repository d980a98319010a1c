/* The serial line of the micro:bit at 115200 baud with 8 data bits and no parity. The interface chip of the board shows
 * it as a port on USB. */
#include "port.h"
#include "registers.h"

enum { PIN_TX = 24, PIN_RX = 25, BAUD_115200 = 0x01D7E000, ENABLED = 4, RECEIVED = 1 << 2, UART_INTERRUPT = 1 << 2 };

static void start_once(void) {
  if (UART_ENABLE == ENABLED) return;
  /* The baud rate needs the crystal. */
  CLOCK_HFCLKSTARTED = 0;
  CLOCK_HFCLKSTART = 1;
  while (!CLOCK_HFCLKSTARTED) {}
  UART_PSELTXD = PIN_TX;
  UART_PSELRXD = PIN_RX;
  UART_BAUDRATE = BAUD_115200;
  UART_ENABLE = ENABLED;
  UART_STARTTX = 1;
  UART_STARTRX = 1;
  /* A masked interrupt wakes the core. The vectors are those of the loader, because a Cortex-M0 has no VTOR. */
  __asm volatile("cpsid i");
  UART_INTENSET = RECEIVED;
  NVIC_ISER = UART_INTERRUPT;
}

int port_receive(void) {
  start_once();
  if (!UART_RXDRDY) {
    __asm volatile("wfi");
    NVIC_ICPR = UART_INTERRUPT;
  }
  if (!UART_RXDRDY) return -1;
  UART_RXDRDY = 0;
  return (int)(UART_RXD & 0xFF);
}

void port_send(uint8_t byte) {
  start_once();
  UART_TXDRDY = 0;
  UART_TXD = byte;
  while (!UART_TXDRDY) {}
}
