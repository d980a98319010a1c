/* The flash controller of an STM32F103 (PM0075). Code that runs from flash waits while an operation lasts. */
#include "port.h"
#include "registers.h"

enum {
  KEY_1 = 0x45670123,
  KEY_2 = (int)0xCDEF89AB,
  CR_PROGRAM = 1 << 0,
  CR_PAGE_ERASE = 1 << 1,
  CR_START = 1 << 6,
  CR_LOCK = 1 << 7,
  SR_BUSY = 1 << 0,
  SR_PROGRAM_ERROR = 1 << 2,
  SR_PROTECTED = 1 << 4,
  SR_END = 1 << 5,
};

static void unlock(uint32_t operation) {
  if (FLASH_CR & CR_LOCK) {
    FLASH_KEYR = KEY_1;
    FLASH_KEYR = (uint32_t)KEY_2;
  }
  /* The flags are cleared by writing ones. */
  FLASH_SR = SR_END | SR_PROTECTED | SR_PROGRAM_ERROR;
  FLASH_CR = operation;
}

/* Wait for the end of an operation; return whether it succeeded. */
static bool is_done(void) {
  while (FLASH_SR & SR_BUSY) {}
  return !(FLASH_SR & (SR_PROGRAM_ERROR | SR_PROTECTED));
}

static bool lock(bool result) {
  FLASH_CR = CR_LOCK;
  return result;
}

bool port_erase(uint32_t address) {
  unlock(CR_PAGE_ERASE);
  FLASH_AR = address;
  FLASH_CR = CR_PAGE_ERASE | CR_START;
  return lock(is_done());
}

bool port_program(uint32_t address, const void *data, uint32_t size) {
  const uint16_t *source = data;
  volatile uint16_t *target = (volatile uint16_t *)(uintptr_t)address;
  bool result = true;
  unlock(CR_PROGRAM);
  for (uint32_t i = 0; result && i < size / 2; i++) {
    /* An erased half-word already has this value. */
    if (source[i] == 0xFFFF) continue;
    target[i] = source[i];
    result = is_done();
  }
  return lock(result);
}
