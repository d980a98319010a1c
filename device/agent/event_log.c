#include "events.h"

#include "bytes.h"
#include "chip.h"
#include "image.h"
#include "port.h"
#include "state.h"

enum {
  ENTRIES = EVENTS_SIZE / EVENT_SIZE,
  IN_PAGE = PAGE_SIZE / EVENT_SIZE,
  CHECKED_SIZE = offsetof(struct event, check),
  LONGEST_CATCHING_UP = 32,
};

_Static_assert(sizeof(struct event) <= EVENT_SIZE && EVENTS_SIZE == 2 * PAGE_SIZE, "two pages of entries");

static uint32_t address_of(uint32_t index) { return EVENTS + index % ENTRIES * EVENT_SIZE; }

/* Return an entry; NULL if there is none, or one that a power failure left incomplete. */
static const struct event *entry_at(uint32_t index) {
  const struct event *event = (const struct event *)(const void *)port_flash(address_of(index));
  return event->check == crc32((const uint8_t *)event, CHECKED_SIZE) ? event : 0;
}

/* Find the entry with the highest number. Return its index, or UINT32_MAX if there is none. */
static uint32_t find_newest(uint32_t *number) {
  uint32_t newest = UINT32_MAX;
  *number = 0;
  for (uint32_t i = 0; i < ENTRIES; i++) {
    const struct event *event = entry_at(i);
    if (event && event->number > *number) {
      newest = i;
      *number = event->number;
    }
  }
  return newest;
}

/* Return the place after an entry. The other page is erased when this one is full, so that 16 entries always stay. What
 * an interrupted erase or write left is passed over, or erased. */
static uint32_t find_place(uint32_t newest) {
  uint32_t index = newest + 1;
  while (index % IN_PAGE && !bytes_are_erased(port_flash(address_of(index)), EVENT_SIZE)) index++;
  uint32_t address = address_of(index);
  if (address % PAGE_SIZE == 0 && !bytes_are_erased(port_flash(address), PAGE_SIZE)) port_erase(address);
  return address;
}

void event_add(enum event_kind kind, uint8_t detail) {
  struct image running;
  struct event event = {.kind = (uint8_t)kind, .detail = detail};
  uint32_t last, counter, place = find_place(find_newest(&last));
  if (!image_read(SLOT_0, &running)) return;
  for (uint32_t i = 0; i < DIGEST_SIZE; i++) event.digest[i] = running.digest[i];

  /* While the chip does not answer, entries are numbered without it; its counter then catches up. */
  event.number = last + 1;
  for (uint32_t i = 0; i < LONGEST_CATCHING_UP && !event.is_counted && chip_count(&counter); i++)
    if (counter > last) {
      event.number = counter;
      event.is_counted = true;
    }
  event.check = crc32((const uint8_t *)&event, CHECKED_SIZE);
  port_program(place, &event, CHECKED_SIZE + sizeof event.check);
}

uint32_t events_waiting(const struct event **found, uint32_t room) {
  uint32_t number, count = 0, newest = find_newest(&number);
  /* The page that was begun first has the older entries. */
  uint32_t first = newest & IN_PAGE ? 0 : IN_PAGE;
  for (uint32_t i = 0; i < ENTRIES && count < room; i++) {
    const struct event *event = entry_at(first + i);
    if (event && !word_is_set(address_of(first + i) + offsetof(struct event, acknowledged))) found[count++] = event;
  }
  return count;
}

bool events_acknowledge(uint32_t number) {
  uint32_t last;
  find_newest(&last);
  if (!number || number > last) return false;
  for (uint32_t i = 0; i < ENTRIES; i++) {
    const struct event *event = entry_at(i);
    if (event && event->number <= number) word_set(address_of(i) + offsetof(struct event, acknowledged));
  }
  return true;
}
