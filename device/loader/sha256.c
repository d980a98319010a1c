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

/* FIPS 180-4 section 6.2.2. The working variables a to h move to the next place in each round: as a window of eight words
 * that moves towards the start of an array, only two of them change. */
static void compress(uint32_t hash[8], const uint8_t *block) {
  uint32_t trail[64 + 8], schedule[64], *work = trail + 64;
  for (int i = 0; i < 8; i++) work[i] = hash[i];

  for (uint32_t *word = schedule; word < schedule + 64; word++) {
    if (word < schedule + 16) {
      *word = big_endian(block);
      block += 4;
    } else {
      uint32_t early = word[-15], late = word[-2];
      *word = word[-16] + (rotated(early, 7) ^ rotated(early, 18) ^ early >> 3) + word[-7] +
              (rotated(late, 17) ^ rotated(late, 19) ^ late >> 10);
    }

    uint32_t a = work[0], e = work[4];
    uint32_t first = work[7] + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) +
                     ((e & work[5]) ^ (~e & work[6])) + ROUND[word - schedule] + *word;
    uint32_t second = (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) +
                      ((a & work[1]) ^ (a & work[2]) ^ (work[1] & work[2]));
    work[3] += first;
    *--work = first + second;
  }
  for (int i = 0; i < 8; i++) hash[i] += work[i];
}

static const uint32_t INITIAL[8] = {
  0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

void sha256_begin(struct sha256 *state) {
  state->size = 0;
#pragma GCC unroll 1 /* the table is smaller than eight constants in the code */
  for (int i = 0; i < 8; i++) state->hash[i] = INITIAL[i];
}

void sha256_add(struct sha256 *state, const uint8_t *data, uint32_t size) {
  while (size--) {
    state->block[state->size++ % BLOCK] = *data++;
    if (state->size % BLOCK == 0) compress(state->hash, state->block);
  }
}

void sha256_end(struct sha256 *state, uint8_t digest[32]) {
  /* Padding (section 5.1.1): a one bit, zeros, and the number of bits. */
  uint32_t at = state->size % BLOCK;
  state->block[at++] = 0x80;
  for (; at != LENGTH_AT; at = at % BLOCK + 1) {
    if (at == BLOCK) compress(state->hash, state->block);
    state->block[at % BLOCK] = 0;
  }
  write_32(state->block + LENGTH_AT, __builtin_bswap32(state->size >> 29));
  write_32(state->block + LENGTH_AT + 4, __builtin_bswap32(state->size << 3));
  compress(state->hash, state->block);

  for (uint32_t i = 0; i < 8; i++) write_32(digest + 4 * i, __builtin_bswap32(state->hash[i]));
}

void sha256(const uint8_t *data, uint32_t size, uint8_t digest[32]) {
  struct sha256 state;
  sha256_begin(&state);
  sha256_add(&state, data, size);
  sha256_end(&state, digest);
}
