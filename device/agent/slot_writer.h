/* Write a file into slot 1, from its first to its last byte.
 *
 * A record in the last page of the slot names the file, so that an upload goes on after a power failure; a file that
 * needs this page has no record, and begins again. */
#ifndef BLOCKOTA_SLOT_WRITER_H
#define BLOCKOTA_SLOT_WRITER_H

#include <stdbool.h>
#include <stdint.h>

enum slot_source { SLOT_CLOSED, SLOT_UPLOAD, SLOT_DELTA };

struct slot_file {
  /* The record in the slot has the same bytes. */
  uint8_t sha256[32];      /* of the whole file */
  uint32_t size;

  uint32_t written;        /* bytes in the slot; a multiple of PROGRAM_UNIT, or `size` */
  enum slot_source source; /* where the bytes come from; SLOT_CLOSED if no file is being written */
  bool is_named;           /* `sha256` is known */
};

/* The file that is being written. */
extern struct slot_file slot_file;

/* Return whether the file that is being written comes from here, and has this size and SHA-256. */
bool slot_file_is(enum slot_source source, uint32_t size, const uint8_t *sha256);

/* Whether slot 1 may be changed: it has neither the image to return to nor a requested one. */
bool slot_is_free(void);

/* Erase the slot, and begin a file. `sha256` is NULL if it is not known. False after an error of the flash. Only an
 * upload has a record. */
bool slot_begin(enum slot_source source, uint32_t size, const uint8_t *sha256);

/* Erase the slot, and forget the file. False after an error of the flash. */
bool slot_erase(void);

/* Find the upload that a reset interrupted, if no file is being written. The slot must be free. */
void slot_restore(void);

/* Forget the file, and spoil its record. `size` is the size of the file: a file that needs the slot's last page has no
 * record. */
void slot_close(uint32_t size);

/* Forget the file, and spoil the header of its image, so that what was written of it cannot be requested. */
void slot_discard(void);

/* Write what follows. `data` is aligned to a word; `size` is a multiple of PROGRAM_UNIT, or what is left of the file.
 * Bytes after `data` up to the next multiple of PROGRAM_UNIT are changed. False after an error of the flash. */
bool slot_write(uint8_t *data, uint32_t size);

/* Return whether the SHA-256 of the first `size` bytes of a slot is `expected`. */
bool slot_has_sha256(uint32_t slot, uint32_t size, const uint8_t *expected);

#endif
