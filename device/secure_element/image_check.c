/* The hash authenticator: the secure element decides whether the vendor signed an image. */
#include "atecc608.h"
#include "port.h"
#include "secure_element.h"

enum {
  BOOT_FULL_COPY = 7,  /* verify digest and signature, and keep the digest */
  BOOT_KEPT_DIGEST = 6, /* compare with the kept digest */
  READ_32_BYTES = 0x82, /* of the data zone */
};

/* Let the chip begin. If it does not take the command, there is no answer to it. */
static void begin_secure_boot(uint8_t mode, const struct image *image, const uint8_t *signature) {
  struct chip_command command = {
    .opcode = CHIP_SECURE_BOOT,
    .mode = mode,
    .data = image->digest,
    .size = DIGEST_SIZE,
    .more = signature,
    .more_size = signature ? 64 : 0,
  };
  chip_send(&command);
}

/* Return whether the chip has never accepted an image. */
static bool has_kept_nothing(void) {
  uint8_t digest[DIGEST_SIZE], bits = 0;
  struct chip_command command = {.opcode = CHIP_READ, .mode = READ_32_BYTES, .parameter = SLOT_BOOT_DIGEST << 3};
  if (chip_run(&command, digest, sizeof digest) != CHIP_DONE) return false;
  for (uint32_t i = 0; i < DIGEST_SIZE; i++) bits |= digest[i];
  return !bits;
}

static enum verdict find_verdict(const struct image *image) {
  uint8_t signature[64];
  /* (1) The image that the chip accepted last is recognised by its digest, without the slower verification. */
  enum chip_result result = chip_receive(0, 0);
  if (result == CHIP_DONE) return CHIP_ACCEPTED;
  if (result == CHIP_REJECTED) return CHIP_UNUSED;
  if (result == CHIP_FAILED) return CHIP_SILENT;
  /* (2) Another image needs the vendor's signature; its digest is then kept in place of the former one. */
  if (image->signature && chip_read_signature(image->signature, image->signature_size, signature)) {
    begin_secure_boot(BOOT_FULL_COPY, image, signature);
    result = chip_receive(0, 0);
    if (result == CHIP_DONE) return CHIP_ACCEPTED;
    if (result == CHIP_FAILED) return CHIP_SILENT;
  }
  /* (3) A chip with another vendor's key has never accepted an image: the device goes on with what it runs, without the
   * chip's word. No successor is accepted. */
  return image->slot == SLOT_0 && has_kept_nothing() ? CHIP_UNUSED : CHIP_REFUSED;
}

bool secure_element_ask(const struct image *image) {
  if (!chip_wake()) return false;
  begin_secure_boot(BOOT_KEPT_DIGEST, image, 0);
  return true;
}

enum verdict secure_element_verify(const struct image *image, bool was_asked) {
  enum verdict verdict = was_asked ? find_verdict(image) : CHIP_ABSENT;
  chip_close();
  return verdict;
}
