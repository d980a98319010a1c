/* What upload and delta have in common. */
#ifndef BLOCKOTA_IMAGE_GROUP_H
#define BLOCKOTA_IMAGE_GROUP_H

#include "image.h"
#include "smp.h"

/* Return why the image of slot 1 may not replace the running one, in words; NULL if it may. The loader decides again. */
const char *image_fault(struct image *image);

/* Answer the last part of a file: compare its SHA-256, and refuse a file whose image may not run. */
enum smp_error image_finish(struct smp_exchange *exchange, uint32_t offset);

/* Write `version` as "1.2.3", without the build number. */
void image_put_version(struct cbor_writer *writer, const uint8_t version[8]);

#endif
