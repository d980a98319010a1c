/* MCUboot images in a slot (MCUboot, docs/design.md, "Image format"), as imgtool makes them. */
#ifndef BLOCKOTA_IMAGE_H
#define BLOCKOTA_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "state.h"

struct image {
  uint32_t slot;             /* address of the header */
  uint32_t load_address;     /* the slot that the program was linked for, with `imgtool --rom-fixed`; else 0 */
  uint32_t header_size;      /* with its padding; the vector table follows */
  uint32_t hashed_size;      /* header, program and protected TLVs */
  uint32_t total_size;       /* with all TLVs */
  uint32_t security_counter; /* protected TLV 0x50; 0 without one */
  uint8_t version[8];        /* ih_ver: major, minor, revision (2 bytes), build (4 bytes), little endian */
  const uint8_t *digest;     /* SHA-256 TLV 0x10, 32 bytes in flash */
  const uint8_t *signature;  /* ECDSA TLV 0x22, DER; NULL without one */
  uint32_t signature_size;
};

/* Read header and TLVs of a slot; reads nothing outside the slot. False unless both are complete. */
bool image_read(uint32_t slot, struct image *image);

/* Return whether the load address is slot 0, the initial stack lies in RAM and the reset vector in the program. */
bool image_fits(const struct image *image);

/* Return whether the SHA-256 of header, program and protected TLVs is the digest of the image. */
bool image_is_intact(const struct image *image);

#endif
