/* Sequential patches of detools 0.53, which make a file from another one (its docs, "Patch file format").
 *
 * A patch is taken a byte at a time, and its result leaves a byte at a time. The patch is not trusted: it cannot read
 * outside the base, make more bytes than announced, or run for ever; the caller compares the SHA-256 of the result. */
#ifndef BLOCKOTA_DELTA_H
#define BLOCKOTA_DELTA_H

#include <stdbool.h>
#include <stdint.h>

/* Begin a patch for a base, from which it makes a file of `size` bytes. */
void delta_begin(uint32_t base, uint32_t base_size, uint32_t size);

/* Take the next byte of the patch. False if the patch is damaged, has another format, or delta_put failed. */
bool delta_take(uint8_t byte);

/* Return whether the file is complete. */
bool delta_is_complete(void);

/* Take the next byte of the file; provided by the user of this module. */
bool delta_put(uint8_t byte);

#endif
