/* What happened to the images: entries in flash, which stay until the gateway acknowledges them.
 *
 * They are written one after the other into two pages. A torn page or entry costs at most the entry that was being
 * written; at least the last 16 entries stay. */
#ifndef BLOCKOTA_EVENTS_H
#define BLOCKOTA_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EVENT_SIZE = 64 };

enum event_kind {
  EVENT_STARTED = 1,  /* an image started; the detail is the flags of the boot report */
  EVENT_REFUSED = 2,  /* the loader refused the requested image; the detail is the `refusal` of the boot report */
  EVENT_CONFIRMED = 3, /* the running image was confirmed: the receipt */
};

struct event {
  uint32_t number;    /* the secure element's counter, or one more than that of the entry before */
  uint8_t kind, detail;
  uint16_t is_counted; /* the number is the secure element's */
  uint8_t digest[32]; /* of the running image */
  uint32_t check;     /* CRC-32 of what is before it; written last */
  uint32_t acknowledged; /* a word that is written once (state.h) */
};

/* Add an entry; the oldest page is erased if both are full. */
void event_add(enum event_kind kind, uint8_t detail);

/* Find the oldest entries that were not acknowledged, at most `room`, and return their number. */
uint32_t events_waiting(const struct event **found, uint32_t room);

/* Acknowledge the entries up to a number. False if no entry has it yet. */
bool events_acknowledge(uint32_t number);

#endif
