/* The flash controller of an nRF51822. Code that runs from flash waits while an operation lasts. */
#include "port.h"
#include "registers.h"

enum { READ_ONLY, WRITE, ERASE };

static void wait(void) {
  while (!(NVMC_READY & 1)) {}
}

/* The controller reports no errors. */
bool port_erase(uint32_t address) {
  NVMC_CONFIG = ERASE;
  wait();
  NVMC_ERASEPAGE = address;
  wait();
  NVMC_CONFIG = READ_ONLY;
  return true;
}

bool port_program(uint32_t address, const void *data, uint32_t size) {
  const uint32_t *source = data;
  NVMC_CONFIG = WRITE;
  wait();
  for (uint32_t i = 0; i < size / PROGRAM_UNIT; i++) {
    if (source[i] == 0xFFFFFFFF) continue;
    REGISTER(address + PROGRAM_UNIT * i) = source[i];
    wait();
  }
  NVMC_CONFIG = READ_ONLY;
  return true;
}
