#include "bytes.h"

bool bytes_are_equal(const uint8_t *first, const uint8_t *second, uint32_t size) {
  while (size--)
    if (*first++ != *second++) return false;
  return true;
}

bool bytes_are_erased(const uint8_t *bytes, uint32_t size) {
  while (size--)
    if (*bytes++ != 0xFF) return false;
  return true;
}
