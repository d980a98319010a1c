/* Mutual authentication: the device proves itself to a gateway, and takes an image only if this gateway offered it. */
#ifndef BLOCKOTA_SESSION_H
#define BLOCKOTA_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "smp.h"

/* Return whether an image with this digest may be written or requested, or, with NULL, any image may be written. It may
 * if a gateway that the secure element knows has offered it since the last reset, or if no secure element checks images
 * on this device. */
bool session_allows(const uint8_t *digest);

#endif
