/* The functions of the loader that an image may call, so that it needs no copy of its own.
 *
 * The table is behind the four vectors of the loader; the linker scripts of loader and image know the place. An image
 * must compare the magic number first. It changes with the table, and a loader in the field is not replaced. */
#ifndef BLOCKOTA_FUNCTIONS_H
#define BLOCKOTA_FUNCTIONS_H

#include "atecc608.h"
#include "image.h"
#include "sha256.h"
#include "state.h"

enum { LOADER_FUNCTIONS_MAGIC = 0x424C0001 };

struct loader_functions {
  uint32_t magic;
  bool (*port_erase)(uint32_t address);
  bool (*port_program)(uint32_t address, const void *data, uint32_t size);
  bool (*bytes_are_equal)(const uint8_t *first, const uint8_t *second, uint32_t size);
  bool (*bytes_are_erased)(const uint8_t *bytes, uint32_t size);
  void (*sha256_begin)(struct sha256 *state);
  void (*sha256_add)(struct sha256 *state, const uint8_t *data, uint32_t size);
  void (*sha256_end)(struct sha256 *state, uint8_t digest[32]);
  void (*sha256)(const uint8_t *data, uint32_t size, uint8_t digest[32]);
  uint32_t (*crc32)(const uint8_t *bytes, uint32_t size);
  bool (*image_read)(uint32_t slot, struct image *image);
  bool (*image_is_intact)(const struct image *image);
  bool (*image_fits)(const struct image *image);
  enum phase (*state_phase)(void);
  void (*state_mark)(enum mark mark);
  bool (*state_request)(const uint8_t digest[DIGEST_SIZE]);
  bool (*state_is_blank)(void);
  void (*state_end)(void);
  bool (*word_is_set)(uint32_t address);
  void (*word_set)(uint32_t address);

  /* NULL in a loader without the driver of a secure element. They take and leave the bus and the system timer; interrupts
   * are on afterwards. */
  bool (*chip_wake)(void);
  enum chip_result (*chip_run)(const struct chip_command *command, uint8_t *answer, uint32_t size);
  void (*chip_close)(void);
};

extern const struct loader_functions loader_functions;

#endif
