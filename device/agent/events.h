/* What happened to the images: a ring of entries, which stay until the gateway acknowledges them or power is lost. */
#ifndef BLOCKOTA_EVENTS_H
#define BLOCKOTA_EVENTS_H

#include <stdint.h>

enum event_kind {
  EVENT_STARTED = 1,  /* an image started; the detail is the flags of the boot report */
  EVENT_REFUSED = 2,  /* the loader refused the requested image; the detail is the `refusal` of the boot report */
  EVENT_CONFIRMED = 3, /* the running image was confirmed: the receipt */
};

struct event {
  uint32_t number;    /* counts up by one from 1 */
  uint8_t kind, detail;
  uint8_t digest[32]; /* of the running image */
};

/* Add an entry; the oldest is overwritten if the ring is full. */
void event_add(enum event_kind kind, uint8_t detail);

#endif
