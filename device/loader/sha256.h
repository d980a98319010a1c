/* SHA-256 (FIPS 180-4). */
#ifndef BLOCKOTA_SHA256_H
#define BLOCKOTA_SHA256_H

#include <stdint.h>

/* Write the digest of `size` bytes at `data` to `digest`. Uses about 400 bytes of stack. */
void sha256(const uint8_t *data, uint32_t size, uint8_t digest[32]);

#endif
