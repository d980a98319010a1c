#include "slot_writer.h"

#include "bytes.h"
#include "port.h"
#include "sha256.h"
#include "state.h"

/* The record: the SHA-256 of the file, and its size. */
enum { RECORD_SIZE = 36, LARGEST_WITH_RECORD = SLOT_SIZE - PAGE_SIZE };
static const uint32_t LAST_PAGE = SLOT_1 + SLOT_SIZE - PAGE_SIZE;
static const uint32_t RECORD = SLOT_1 + SLOT_SIZE - RECORD_SIZE;

_Alignas(4) struct slot_file slot_file;

bool slot_is_free(void) {
  enum phase phase = state_phase();
  return phase == PHASE_IDLE || phase == PHASE_CONFIRMED;
}

bool slot_file_is(enum slot_source source, uint32_t size, const uint8_t *sha256) {
  return slot_file.source == source && slot_file.is_named && slot_file.size == size && sha256 &&
         bytes_are_equal(sha256, slot_file.sha256, sizeof slot_file.sha256);
}

static bool erase_page(uint32_t page) {
  return bytes_are_erased(port_flash(page), PAGE_SIZE) || port_erase(page);
}

bool slot_erase(void) {
  slot_file.source = SLOT_CLOSED;
  /* A confirmed or requested cycle ends here, because the loader must not find its marks beside another image. */
  if (!state_is_blank()) state_end();
  /* The page with the record goes first, because the record stands for the pages before it. */
  bool is_done = erase_page(LAST_PAGE);
  for (uint32_t page = SLOT_1; page < LAST_PAGE; page += PAGE_SIZE) is_done = is_done && erase_page(page);
  return is_done;
}

bool slot_begin(enum slot_source source, uint32_t size, const uint8_t *sha256) {
  if (!slot_erase()) return false;
  slot_file.source = source;
  slot_file.is_named = sha256 != 0;
  slot_file.size = size;
  slot_file.written = 0;
  if (!sha256) return true;
  for (uint32_t i = 0; i < 32; i++) slot_file.sha256[i] = sha256[i];
  return source != SLOT_UPLOAD || size > LARGEST_WITH_RECORD || port_program(RECORD, &slot_file, RECORD_SIZE);
}

void slot_restore(void) {
  const uint8_t *record = port_flash(RECORD);
  uint32_t size = read_32(record + 32);
  if (slot_file.source || !size || size > LARGEST_WITH_RECORD) return;

  /* The last page that is not erased may be incomplete or, after a power failure, have any content. */
  uint32_t page = (size - 1) / PAGE_SIZE * PAGE_SIZE;
  while (page && bytes_are_erased(port_flash(SLOT_1 + page), PAGE_SIZE)) page -= PAGE_SIZE;
  if (!erase_page(SLOT_1 + page)) return;
  for (uint32_t i = 0; i < RECORD_SIZE; i++) ((uint8_t *)&slot_file)[i] = record[i];
  slot_file.written = page;
  slot_file.is_named = true;
  slot_file.source = SLOT_UPLOAD;
}

void slot_close(uint32_t size) {
  slot_file.source = SLOT_CLOSED;
  /* A record of size 0 names no file. */
  if (size <= LARGEST_WITH_RECORD) word_set(RECORD + 32);
}

void slot_discard(void) {
  slot_close(slot_file.size);
  word_set(SLOT_1);
}

bool slot_write(uint8_t *data, uint32_t size) {
  uint32_t whole = size;
  while (whole % PROGRAM_UNIT) data[whole++] = 0xFF;
  if (!port_program(SLOT_1 + slot_file.written, data, whole)) return false;
  slot_file.written += size;
  return true;
}

bool slot_has_sha256(uint32_t slot, uint32_t size, const uint8_t *expected) {
  uint8_t digest[32];
  sha256(port_flash(slot), size, digest);
  return bytes_are_equal(digest, expected, sizeof digest);
}
