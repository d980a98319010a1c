/* The bus of the secure element: I2C1 on PB6 and PB7 at 100 kHz (RM0008 section 26), by polling.
 *
 * The loader runs at 24 MHz. Every wait is bounded, so that a line that is held low makes the chip absent, and does not
 * stop the boot. */
#include "bus.h"
#include "registers.h"

enum {
  CLOCK_MHZ = 24,
  HALF_PERIOD = 120, /* clock cycles at 100 kHz: SCL is low and high for 5 microseconds each */
  APB1_I2C1 = 1 << 21,
  APB2_PORT_B = 1 << 3,
  PINS_6_7 = 0xFF << 24,
  OPEN_DRAIN_6_7 = (int)(0xDDu << 24), /* alternate function, open drain, 10 MHz */
  INPUTS_6_7 = 0x44 << 24, /* floating inputs, as after a reset */
  CR1_ENABLED = 1 << 0,
  CR1_START = 1 << 8,
  CR1_STOP = 1 << 9,
  CR1_ACK = 1 << 10,
  CR1_RESET = 1 << 15,
  SR1_STARTED = 1 << 0,
  SR1_ADDRESSED = 1 << 1,
  SR1_FINISHED = 1 << 2,
  SR1_RECEIVED = 1 << 6,
  SR1_EMPTY = 1 << 7,
  SR1_REFUSED = 1 << 10,
  TICKS_PER_BYTE = 4000, /* many times the nine bits of a byte */
  SYSTICK_ON = 1 << 2 | 1 << 1 | 1 << 0, /* the core's clock, an interrupt, on */
  CLEAR_SYSTICK = 1 << 25,
};

/* Wait for a flag; return false if the chip refuses, or nothing happens. */
static bool comes(uint32_t flag) {
  for (int i = 0; i < TICKS_PER_BYTE; i++) {
    uint32_t status = I2C1_SR1;
    if (status & SR1_REFUSED) return false;
    if (status & flag) return true;
  }
  return false;
}

static bool end(bool result) {
  I2C1_CR1 |= CR1_STOP;
  I2C1_SR1 = 0; /* clears the refusal; the other flags follow the line */
  return result;
}

/* Send the start condition and an address. */
static bool begin(uint32_t address) {
  I2C1_CR1 |= CR1_START | CR1_ACK;
  if (!comes(SR1_STARTED)) return false;
  I2C1_DR = address;
  if (!comes(SR1_ADDRESSED)) return false;
  (void)I2C1_SR2; /* reading SR1 and then SR2 ends the phase of the address */
  return true;
}

void bus_wake(void) {
  RCC_APB1ENR |= APB1_I2C1;
  RCC_APB2ENR |= APB2_PORT_B;
  GPIOB_CRL = (GPIOB_CRL & ~(uint32_t)PINS_6_7) | (uint32_t)OPEN_DRAIN_6_7;
  I2C1_CR1 = CR1_RESET; /* a reset of the controller may have interrupted a transfer */
  I2C1_CR1 = 0;
  I2C1_CR2 = CLOCK_MHZ;
  I2C1_CCR = HALF_PERIOD;
  I2C1_TRISE = CLOCK_MHZ + 1;
  I2C1_CR1 = CR1_ENABLED;
  /* Nine bits of 10 microseconds, of which eight are zero: long enough for the chip. No device acknowledges. */
  begin(0);
  end(true);
}

void bus_close(void) {
  I2C1_CR1 = CR1_RESET;
  I2C1_CR1 = 0;
  GPIOB_CRL = (GPIOB_CRL & ~(uint32_t)PINS_6_7) | INPUTS_6_7;
  RCC_APB1ENR &= ~(uint32_t)APB1_I2C1;
  RCC_APB2ENR &= ~(uint32_t)APB2_PORT_B;
}

bool bus_write(uint8_t first, const uint8_t *data, uint32_t size) {
  if (!begin(CHIP_ADDRESS << 1)) return end(false);
  I2C1_DR = first;
  for (uint32_t i = 0; i < size; i++) {
    if (!comes(SR1_EMPTY)) return end(false);
    I2C1_DR = data[i];
  }
  return end(comes(SR1_FINISHED));
}

bool bus_read(uint8_t *data, uint32_t size) {
  if (!begin(CHIP_ADDRESS << 1 | 1)) return end(false);
  for (uint32_t i = 0; i < size; i++) {
    /* The last byte is not acknowledged: the bits take effect for the byte that is being received. */
    if (i + 1 == size) I2C1_CR1 = (I2C1_CR1 & ~(uint32_t)CR1_ACK) | CR1_STOP;
    if (!comes(SR1_RECEIVED)) return end(false);
    data[i] = (uint8_t)I2C1_DR;
  }
  I2C1_SR1 = 0;
  return true;
}

void bus_wait(uint32_t milliseconds) {
  SYST_RVR = CLOCK_MHZ * 1000 - 1;
  SYST_CVR = 0;
  /* A masked interrupt ends the sleep of the core, and is not handled. */
  __asm volatile("cpsid i");
  SYST_CSR = SYSTICK_ON;
  for (uint32_t i = 0; i < milliseconds; i++) {
    __asm volatile("wfi");
    SCB_ICSR = CLEAR_SYSTICK;
  }
  SYST_CSR = 0;
  SCB_ICSR = CLEAR_SYSTICK;
  __asm volatile("cpsie i");
}
