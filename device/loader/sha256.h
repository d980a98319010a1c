/* SHA-256 (FIPS 180-4). */
#ifndef BLOCKOTA_SHA256_H
#define BLOCKOTA_SHA256_H

#include <stdint.h>

/* A digest that is being computed. */
struct sha256 {
  uint32_t hash[8], size; /* the bytes that were added */
  uint8_t block[64];
};

void sha256_begin(struct sha256 *state);
void sha256_add(struct sha256 *state, const uint8_t *data, uint32_t size);
void sha256_end(struct sha256 *state, uint8_t digest[32]);

/* Write the digest of `size` bytes at `data` to `digest`. Uses about 800 bytes of stack. */
void sha256(const uint8_t *data, uint32_t size, uint8_t digest[32]);

#endif
