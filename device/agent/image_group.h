/* What upload and delta have in common. */
#ifndef BLOCKOTA_IMAGE_GROUP_H
#define BLOCKOTA_IMAGE_GROUP_H

#include "image.h"
#include "smp.h"

/* Return why the image of slot 1 may not replace the running one. The loader decides again. */
enum smp_error image_fault(struct image *image);

/* Answer a part of a file with the offset of the next one. If `offset` is `size`, the file is complete: compare its
 * SHA-256, and refuse a file whose image may not run. */
enum smp_error image_answer_part(struct smp_exchange *exchange, uint32_t offset, uint32_t size);

/* Return "1.2.3", the version without its build number. The next call changes the text. */
const char *image_version(const struct image *image);

#endif
