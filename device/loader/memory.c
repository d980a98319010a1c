/* The functions that the compiler calls to clear and to copy structures. */
#include <stddef.h>
#include <stdint.h>

/* "used": the calls appear after the optimisation of the whole program. */
__attribute__((used)) void *memset(void *target, int value, size_t size);
__attribute__((used)) void *memcpy(void *restrict target, const void *restrict source, size_t size);

void *memset(void *target, int value, size_t size) {
  for (uint8_t *at = target; size--;) *at++ = (uint8_t)value;
  return target;
}

void *memcpy(void *restrict target, const void *restrict source, size_t size) {
  const uint8_t *from = source;
  for (uint8_t *at = target; size--;) *at++ = *from++;
  return target;
}
