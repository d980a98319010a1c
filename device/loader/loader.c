#include "loader.h"

#include "boot_report.h"
#include "bytes.h"
#include "image.h"
#include "port.h"
#include "secure_element.h"
#include "state.h"
#include "swap.h"

/* Return why the image of a slot may not run; add what the secure element answered to the report. */
static enum refusal find_fault(uint32_t slot, struct image *image, struct boot_report *report) {
  if (!image_read(slot, image)) return REFUSED_INCOMPLETE;
  bool was_asked = secure_element_ask(image);
  if (!image_is_intact(image)) return REFUSED_DAMAGED;
  if (!image_fits(image)) return REFUSED_OTHER_BOARD;
  enum verdict verdict = secure_element_verify(image, was_asked);
  report->flags &= (uint16_t)~(BOOT_CHIP_PRESENT | BOOT_SIGNATURE_CHECKED);
  if (verdict != CHIP_ABSENT) report->flags |= BOOT_CHIP_PRESENT;
  if (verdict == CHIP_ACCEPTED) report->flags |= BOOT_SIGNATURE_CHECKED;
  /* A chip that fails does not stop the image that ran before, but no other image becomes its successor. */
  bool is_refused = verdict == CHIP_REFUSED || (verdict == CHIP_SILENT && slot == SLOT_1);
  return is_refused ? REFUSED_SIGNATURE : REFUSED_NOTHING;
}

/* Return why the image of slot 1 may not replace that of slot 0. `requested` is its digest, or NULL for any. */
static enum refusal find_fault_in_successor(const uint8_t *requested, struct boot_report *report) {
  struct image next, running;
  if (!image_read(SLOT_1, &next)) return REFUSED_INCOMPLETE;
  if (requested && !bytes_are_equal(next.digest, requested, DIGEST_SIZE)) return REFUSED_OTHER_IMAGE;
  enum refusal fault = find_fault(SLOT_1, &next, report);
  if (fault) return fault;
  /* The floor is the counter of the running image, even if its bytes are damaged; without a header there is none. */
  if (image_read(SLOT_0, &running) && next.security_counter < running.security_counter) return REFUSED_DOWNGRADE;
  return REFUSED_NOTHING;
}

static _Noreturn void start(const struct image *image, struct boot_report *report) {
  report->magic = BOOT_REPORT_MAGIC;
  *LAST_BOOT = *report;
  port_start_image(image->slot + image->header_size);
}

static void swap_or_reset(uint32_t journal) {
  /* A page that does not take its content may do so at a later boot, with another supply voltage or temperature. */
  if (!swap_pages(journal)) port_reset();
}

/* PHASE_REQUESTED: exchange the slots if the requested image may run; else end the cycle. */
static void answer_request(struct boot_report *report) {
  /* Once a page has moved, no slot has a complete image: digests are of no use until the last page has moved. */
#ifndef FAULT_DIGEST_DURING_SWAP
  if (!swap_has_begun(JOURNAL_FORWARD))
#endif
  {
    enum refusal refusal = find_fault_in_successor(state_requested(), report);
    if (refusal) {
      report->flags |= BOOT_REQUEST_REFUSED;
      report->refusal = (uint16_t)refusal;
      state_end();
      return;
    }
  }
  swap_or_reset(JOURNAL_FORWARD);
  state_mark(MARK_SWAPPED);
}

/* PHASE_TRIAL: start the image on trial, or decide to exchange the slots back. */
static void try_image(struct boot_report *report) {
  struct image image, previous;
  if (!find_fault(SLOT_0, &image, report)) {
    int trial = 0;
    while (trial < TRIES && state_is_marked(MARK_TRIED + trial)) trial++;
    /* Without an image to return to, the image stays on trial. */
    if (trial < TRIES || find_fault(SLOT_1, &previous, &(struct boot_report){0})) {
      if (trial < TRIES) state_mark(MARK_TRIED + trial);
      report->flags |= BOOT_TRIAL;
      start(&image, report);
    }
  }
  state_mark(MARK_REVERT);
}

/* PHASE_IDLE: start slot 0; if its image is damaged, request that of slot 1. */
static void start_confirmed(struct boot_report *report) {
  struct image image;
  /* A power failure while a cycle ended left the rest of it. */
  if (!state_is_blank()) {
    if (state_is_marked(MARK_REVERT)) report->flags |= BOOT_ROLLED_BACK;
    state_end();
  }
  if (!find_fault(SLOT_0, &image, report)) start(&image, report);
  if (find_fault_in_successor(0, report) || !image_read(SLOT_1, &image) || !state_request(image.digest)) port_reset();
}

void loader_run(void) {
  struct boot_report report = {0};
  for (;;) switch (state_phase()) {
    case PHASE_REQUESTED:
      answer_request(&report);
      break;
    case PHASE_TRIAL:
      try_image(&report);
      break;
    case PHASE_REVERTING:
      swap_or_reset(JOURNAL_BACK);
      report.flags |= BOOT_ROLLED_BACK;
      state_end();
      break;
    case PHASE_CONFIRMED:
      state_end();
      break;
    case PHASE_IDLE:
      start_confirmed(&report);
    }
}
