/* What the loader asks the secure element. A program without one links no_secure_element.c. */
#ifndef BLOCKOTA_SECURE_ELEMENT_H
#define BLOCKOTA_SECURE_ELEMENT_H

#include "image.h"

enum verdict {
  CHIP_ABSENT,   /* no secure element answered: the loader proves integrity only */
  CHIP_UNUSED,   /* it answered, but checked no signature: it is not locked, or has no key for images */
  CHIP_SILENT,   /* it answered first, and then not at all or wrongly: an image that ran may run, no successor may */
  CHIP_ACCEPTED, /* it verified digest and signature */
  CHIP_REFUSED,  /* it refused them, or the image has no signature */
};

/* Verify the signature of an intact image: called with slot 1 before the exchange, and with slot 0 at each boot. */
enum verdict secure_element_verify(const struct image *image);

#endif
