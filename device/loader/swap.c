#include "swap.h"

#include "bytes.h"
#include "port.h"
#include "state.h"

enum { PAGES = SLOT_SIZE / PAGE_SIZE, STEPS = 3, ATTEMPTS = 3 };

_Static_assert(PAGES * STEPS * 4 <= JOURNAL_SIZE, "a journal has one word for each step");

bool swap_has_begun(uint32_t journal) {
  return !bytes_are_erased(port_flash(journal), PAGES * STEPS * 4);
}

static bool copy_page(uint32_t target, uint32_t source) {
  for (int attempt = 0; attempt < ATTEMPTS; attempt++)
    if (port_erase(target) && port_program(target, port_flash(source), PAGE_SIZE) &&
        bytes_are_equal(port_flash(target), port_flash(source), PAGE_SIZE))
      return true;
  return false;
}

/* Each step reads a page that it does not change, and its mark is set after it: a step that was cut off is repeated
 * with the same result. Equal pages need no step; of a page without marks, both copies are still as they were. */
static bool swap_page(uint32_t page, uint32_t marks) {
  uint32_t first = SLOT_0 + page * PAGE_SIZE, second = SLOT_1 + page * PAGE_SIZE;
  const uint32_t copies[STEPS][2] = {{SCRATCH, first}, {first, second}, {second, SCRATCH}};
  int step = STEPS;
  while (step && !word_is_set(marks + 4 * (step - 1))) step--;
  if (!step && bytes_are_equal(port_flash(first), port_flash(second), PAGE_SIZE)) return true;
  for (; step < STEPS; step++) {
    if (!copy_page(copies[step][0], copies[step][1])) return false;
    word_set(marks + 4 * step);
  }
  return true;
}

bool swap_pages(uint32_t journal) {
  for (uint32_t page = 0; page < PAGES; page++)
    if (!swap_page(page, journal + page * STEPS * 4)) return false;
  return true;
}
