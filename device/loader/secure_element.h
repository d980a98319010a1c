/* What the loader asks the secure element. A program without one links no_secure_element.c. */
#ifndef BLOCKOTA_SECURE_ELEMENT_H
#define BLOCKOTA_SECURE_ELEMENT_H

#include "image.h"

enum verdict {
  CHIP_ABSENT,   /* no secure element answered: the loader proves integrity only */
  CHIP_UNUSED,   /* it answered, but checks no images: it is not locked, has other rules, or never accepted one */
  CHIP_SILENT,   /* it answered first, and then not at all or wrongly: an image that ran may run, no successor may */
  CHIP_ACCEPTED, /* it verified digest and signature */
  CHIP_REFUSED,  /* it refused them, or the image has no signature */
};

/* Ask whether the digest of an image is the kept one, which the secure element finds out while the loader computes the
 * digest. False if there is none. */
bool secure_element_ask(const struct image *image);

/* Verify the signature of an intact image: called with slot 1 before the exchange, and with slot 0 at each boot.
 * `was_asked` is what secure_element_ask returned for this image. */
enum verdict secure_element_verify(const struct image *image, bool was_asked);

#endif
