#include "state.h"

#include "bytes.h"
#include "port.h"

enum { CHECK_AT = DIGEST_SIZE, MARKS_AT = DIGEST_SIZE + 4 };

static const uint32_t ZERO = 0;

uint32_t crc32(const uint8_t *bytes, uint32_t size) {
  uint32_t crc = 0xFFFFFFFF;
  while (size--) {
    crc ^= *bytes++;
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
  }
  return ~crc;
}

bool word_is_set(uint32_t address) {
  uint32_t word = read_32(port_flash(address));
  /* A word that a power failure left half written may read differently at the next boot, so finish it. */
  if (word != 0xFFFFFFFF && word) port_program(address, &ZERO, sizeof ZERO);
  return word != 0xFFFFFFFF;
}

void word_set(uint32_t address) {
  if (!word_is_set(address)) port_program(address, &ZERO, sizeof ZERO);
}

bool state_is_marked(enum mark mark) { return word_is_set(STATE + MARKS_AT + 4 * mark); }

void state_mark(enum mark mark) { word_set(STATE + MARKS_AT + 4 * mark); }

const uint8_t *state_requested(void) {
  const uint8_t *digest = port_flash(STATE);
  return read_32(digest + CHECK_AT) == crc32(digest, DIGEST_SIZE) ? digest : 0;
}

enum phase state_phase(void) {
  if (!state_requested()) return PHASE_IDLE;
  if (state_is_marked(MARK_REVERT)) return PHASE_REVERTING;
  if (!state_is_marked(MARK_SWAPPED)) return PHASE_REQUESTED;
  return state_is_marked(MARK_CONFIRMED) ? PHASE_CONFIRMED : PHASE_TRIAL;
}

bool state_request(const uint8_t digest[DIGEST_SIZE]) {
  enum phase phase = state_phase();
  if (phase != PHASE_IDLE && phase != PHASE_CONFIRMED) return false;
  if (!state_is_blank()) state_end();

  uint32_t aligned[DIGEST_SIZE / 4], check = crc32(digest, DIGEST_SIZE);
  for (uint32_t i = 0; i < DIGEST_SIZE / 4; i++) aligned[i] = read_32(digest + 4 * i);
  return port_program(STATE, aligned, DIGEST_SIZE) && port_program(STATE + CHECK_AT, &check, sizeof check) &&
         state_requested();
}

bool state_is_blank(void) {
  return bytes_are_erased(port_flash(CYCLE), STATE + PAGE_SIZE - CYCLE);
}

void state_end(void) {
  /* First, so that no request is valid while the journals that belong to it disappear. */
  port_program(STATE + CHECK_AT, &ZERO, sizeof ZERO);
  for (uint32_t page = CYCLE; page <= STATE; page += PAGE_SIZE) port_erase(page);
}
