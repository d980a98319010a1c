/* Values in memory, at any address. */
#ifndef BLOCKOTA_BYTES_H
#define BLOCKOTA_BYTES_H

#include <stdbool.h>
#include <stdint.h>

/* The attribute makes the compiler load an unaligned value in parts where the core cannot (Cortex-M0). */
struct unaligned_16 { uint16_t value; } __attribute__((packed));
struct unaligned_32 { uint32_t value; } __attribute__((packed));

/* Read a value of a little-endian format; the supported cores are little endian. */
static inline uint32_t read_16(const uint8_t *bytes) { return ((const struct unaligned_16 *)(const void *)bytes)->value; }
static inline uint32_t read_32(const uint8_t *bytes) { return ((const struct unaligned_32 *)(const void *)bytes)->value; }

static inline void write_32(uint8_t *bytes, uint32_t value) { ((struct unaligned_32 *)(void *)bytes)->value = value; }

bool bytes_are_equal(const uint8_t *first, const uint8_t *second, uint32_t size);

/* Return whether bytes of flash are erased. */
bool bytes_are_erased(const uint8_t *bytes, uint32_t size);

#endif
