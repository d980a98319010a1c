/* What the agent asks the secure element. Each function wakes the chip, and puts it to sleep again. They return false if
 * the loader met no chip at this boot, or if the chip does not do what it is asked: it fails, is not locked, or has other
 * rules. An agent for boards without a chip links no_chip.c. */
#ifndef BLOCKOTA_CHIP_H
#define BLOCKOTA_CHIP_H

#include <stdbool.h>
#include <stdint.h>

enum { CHIP_SIGNATURE = 64, CHIP_SERIAL = 9 };

/* Add 1 to the counter of entries, and return it. */
bool chip_count(uint32_t *number);

/* Get 32 random bytes. */
bool chip_random(uint8_t random[32]);

/* Read the serial number. */
bool chip_read_serial(uint8_t serial[CHIP_SERIAL]);

/* Make the MAC of a challenge with the key that the gateway shares. */
bool chip_mac(const uint8_t challenge[32], uint8_t mac[32]);

/* Sign a digest with the key of the device. */
bool chip_sign(const uint8_t digest[32], uint8_t signature[CHIP_SIGNATURE]);

/* Return whether the gateway signed a digest. */
bool chip_verify_gateway(const uint8_t digest[32], const uint8_t signature[CHIP_SIGNATURE]);

#endif
