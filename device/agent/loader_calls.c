/* The functions of the loader, under the names of its headers. */
#include "bytes.h"
#include "functions.h"
#include "port.h"

bool port_erase(uint32_t address) { return loader_functions.port_erase(address); }

bool port_program(uint32_t address, const void *data, uint32_t size) {
  return loader_functions.port_program(address, data, size);
}

bool bytes_are_equal(const uint8_t *first, const uint8_t *second, uint32_t size) {
  return loader_functions.bytes_are_equal(first, second, size);
}

bool bytes_are_erased(const uint8_t *bytes, uint32_t size) { return loader_functions.bytes_are_erased(bytes, size); }

void sha256_begin(struct sha256 *state) { loader_functions.sha256_begin(state); }

void sha256_add(struct sha256 *state, const uint8_t *data, uint32_t size) {
  loader_functions.sha256_add(state, data, size);
}

void sha256_end(struct sha256 *state, uint8_t digest[32]) { loader_functions.sha256_end(state, digest); }

void sha256(const uint8_t *data, uint32_t size, uint8_t digest[32]) { loader_functions.sha256(data, size, digest); }

uint32_t crc32(const uint8_t *bytes, uint32_t size) { return loader_functions.crc32(bytes, size); }

bool image_read(uint32_t slot, struct image *image) { return loader_functions.image_read(slot, image); }

bool image_is_intact(const struct image *image) { return loader_functions.image_is_intact(image); }

bool image_fits(const struct image *image) { return loader_functions.image_fits(image); }

enum phase state_phase(void) { return loader_functions.state_phase(); }

void state_mark(enum mark mark) { loader_functions.state_mark(mark); }

bool state_request(const uint8_t digest[DIGEST_SIZE]) { return loader_functions.state_request(digest); }

bool state_is_blank(void) { return loader_functions.state_is_blank(); }

void state_end(void) { loader_functions.state_end(); }

bool word_is_set(uint32_t address) { return loader_functions.word_is_set(address); }

void word_set(uint32_t address) { loader_functions.word_set(address); }
