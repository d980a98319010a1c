/* The state of an update, in flash words that are written once (docs/device.md, "State").
 *
 * A cycle begins with a request, which names the image of slot 1 by its digest, and ends when the image is confirmed
 * or rolled back. The state page holds one cycle:
 *
 *   bytes 0 to 31    digest of the requested image (its SHA-256 TLV)
 *   bytes 32 to 35   check: the CRC-32 of the digest; written last, set to zero when the cycle ends
 *   bytes 36 to ...  marks, one word each: 0xFFFFFFFF clear, any other value set
 *
 * A mark is set after the work that it stands for is done, so a mark that a power failure left half written counts as
 * set. A request whose check is wrong does not count: the slots are then untouched, or the cycle had ended. */
#ifndef BLOCKOTA_STATE_H
#define BLOCKOTA_STATE_H

#include <stdbool.h>
#include <stdint.h>

enum { DIGEST_SIZE = 32, TRIES = 3 };

enum mark {
  MARK_SWAPPED,   /* the pages of the slots are exchanged */
  MARK_TRIED,     /* the first of TRIES marks: a trial boot began */
  MARK_CONFIRMED = MARK_TRIED + TRIES, /* the image reported that it works */
  MARK_REVERT,    /* the loader decided to exchange the pages back */
};

enum phase {
  PHASE_IDLE,      /* no request: slot 0 runs and is confirmed */
  PHASE_REQUESTED, /* the exchange has not ended, or not begun */
  PHASE_TRIAL,     /* slot 0 is the requested image, not confirmed */
  PHASE_CONFIRMED, /* slot 0 is the requested image, confirmed; the cycle is not cleaned up */
  PHASE_REVERTING, /* the pages are being exchanged back */
};

/* Return the phase of the cycle in the state page. */
enum phase state_phase(void);

/* Return whether a mark is set. */
bool state_is_marked(enum mark mark);

/* Set a mark; setting it again has no effect. */
void state_mark(enum mark mark);

/* Begin a cycle: request the image of slot 1 with this digest. Ends a confirmed cycle first.
 * False if a cycle is in progress, or the flash controller reported an error. */
bool state_request(const uint8_t digest[DIGEST_SIZE]);

/* Return the digest of the requested image; NULL without a request. */
const uint8_t *state_requested(void);

/* Return whether the pages of state and journals are erased. */
bool state_is_blank(void);

/* End the cycle: set the check to zero, and erase the pages of journals and state, that with the check last. Each step
 * is repeatable. */
void state_end(void);

/* A word of flash that is written once, such as a mark of the state page or of a journal: return whether it is set,
 * and set it. */
bool word_is_set(uint32_t address);
void word_set(uint32_t address);

/* Return the CRC-32 of IEEE 802.3. */
uint32_t crc32(const uint8_t *bytes, uint32_t size);

#endif
