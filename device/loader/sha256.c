#include "sha256.h"

#include "bytes.h"

enum { BLOCK = 64, LENGTH_AT = 56 };

/* FIPS 180-4 section 4.2.2. */
static const uint32_t ROUND[64] = {
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
  0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
  0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static inline uint32_t rotated(uint32_t word, uint32_t count) { return word >> count | word << (32 - count); }

static inline uint32_t big_endian(const uint8_t *bytes) {
  return __builtin_bswap32(read_32(bytes));
}

/* FIPS 180-4 section 6.2.2; the schedule is a ring of the last 16 words. */
static void compress(uint32_t hash[8], const uint8_t *block) {
  uint32_t work[8], schedule[16];
  for (int i = 0; i < 8; i++) work[i] = hash[i];

  for (int t = 0; t < 64; t++) {
    uint32_t word;
    if (t < 16) {
      word = big_endian(block + 4 * t);
    } else {
      uint32_t early = schedule[(t + 1) & 15], late = schedule[(t + 14) & 15];
      word = schedule[t & 15] + (rotated(early, 7) ^ rotated(early, 18) ^ early >> 3) + schedule[(t + 9) & 15] +
             (rotated(late, 17) ^ rotated(late, 19) ^ late >> 10);
    }
    schedule[t & 15] = word;

    uint32_t a = work[0], e = work[4];
    uint32_t first = work[7] + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) +
                     ((e & work[5]) ^ (~e & work[6])) + ROUND[t] + word;
    uint32_t second = (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) +
                      ((a & work[1]) ^ (a & work[2]) ^ (work[1] & work[2]));
    for (int i = 7; i > 0; i--) work[i] = work[i - 1];
    work[4] += first;
    work[0] = first + second;
  }
  for (int i = 0; i < 8; i++) hash[i] += work[i];
}

void sha256(const uint8_t *data, uint32_t size, uint8_t digest[32]) {
  uint32_t hash[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
  };
  uint32_t left = size;
  for (; left >= BLOCK; left -= BLOCK, data += BLOCK) compress(hash, data);

  /* Padding (section 5.1.1): a one bit, zeros, and the number of bits. */
  uint8_t last[BLOCK];
  for (uint32_t i = 0; i < BLOCK; i++) last[i] = i < left ? data[i] : i == left ? 0x80 : 0;
  if (left >= LENGTH_AT) {
    compress(hash, last);
    for (uint32_t i = 0; i < BLOCK; i++) last[i] = 0;
  }
  /* A size below 2^32 bytes needs five bytes of the length. */
  last[59] = (uint8_t)(size >> 29);
  size <<= 3;
  for (uint32_t i = 0; i < 4; i++) last[63 - i] = (uint8_t)(size >> 8 * i);
  compress(hash, last);

  for (uint32_t i = 0; i < 32; i++) digest[i] = (uint8_t)(hash[i / 4] >> (24 - 8 * (i & 3)));
}
