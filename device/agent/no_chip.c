#include "chip.h"
#include "session.h"

bool chip_count(uint32_t *number) {
  (void)number;
  return false;
}

bool chip_mac(const uint8_t challenge[32], uint8_t mac[32]) {
  (void)challenge;
  (void)mac;
  return false;
}

bool chip_sign(const uint8_t digest[32], uint8_t signature[CHIP_SIGNATURE]) {
  (void)digest;
  (void)signature;
  return false;
}

bool session_allows(const uint8_t *digest) {
  (void)digest;
  return true;
}

enum smp_error device_session(struct smp_exchange *exchange) {
  (void)exchange;
  return SMP_NOT_SUPPORTED;
}

enum smp_error device_open(struct smp_exchange *exchange) {
  (void)exchange;
  return SMP_NOT_SUPPORTED;
}
