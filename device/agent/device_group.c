/* The group of BlockOTA (docs/device.md, "Commands"): identity, and events until they are acknowledged. */
#include "boot_report.h"
#include "bytes.h"
#include "events.h"
#include "image_group.h"
#include "port.h"
#include "state.h"

enum { RING_SIZE = 16, EVENTS_IN_ANSWER = 8 };

/* The entries with the numbers from `before_first` + 1 to `last`, each at its number modulo the size. */
static struct event ring[RING_SIZE];
static uint32_t before_first, last;

void event_add(enum event_kind kind, uint8_t detail) {
  struct image running;
  if (!image_read(SLOT_0, &running)) return;
  struct event *event = &ring[++last % RING_SIZE];
  if (last - before_first > RING_SIZE) before_first++;
  event->number = last;
  event->kind = (uint8_t)kind;
  event->detail = detail;
  for (uint32_t i = 0; i < DIGEST_SIZE; i++) event->digest[i] = running.digest[i];
}

enum smp_error device_events(struct smp_exchange *exchange) {
  uint32_t waiting = last - before_first, count = waiting < EVENTS_IN_ANSWER ? waiting : EVENTS_IN_ANSWER;
  cbor_put_map(&exchange->answer, "events" FIELD_LAST);
  cbor_put_head(&exchange->answer, CBOR_ARRAY, count);
  for (uint32_t i = 1; i <= count; i++) {
    const struct event *event = &ring[(before_first + i) % RING_SIZE];
    cbor_put_map(&exchange->answer, "number" FIELD_NUMBER "kind" FIELD_NUMBER "detail" FIELD_NUMBER "digest" FIELD_DIGEST,
                 event->number, event->kind, event->detail, event->digest);
  }
  return SMP_OK;
}

enum smp_error device_acknowledge(struct smp_exchange *exchange) {
  uint32_t number = smp_number(exchange, "number", 0);
  if (!number || number > last) return SMP_INVALID;
  if (number > before_first) before_first = number;
  cbor_put_map(&exchange->answer, "");
  return SMP_OK;
}

enum smp_error device_identity(struct smp_exchange *exchange) {
  struct image running;
  uint32_t flags = LAST_BOOT->flags;
  image_read(SLOT_0, &running);
  cbor_put_map(&exchange->answer,
               "board" FIELD_TEXT "version" FIELD_TEXT "digest" FIELD_DIGEST "counter" FIELD_NUMBER "proof" FIELD_TEXT
               "flags" FIELD_NUMBER "refusal" FIELD_NUMBER "slot" FIELD_NUMBER "id" FIELD_LAST,
               BOARD_NAME, image_version(&running), running.digest, running.security_counter,
               flags & BOOT_SIGNATURE_CHECKED ? "authenticated" : "integrity only", flags, (uint32_t)LAST_BOOT->refusal,
               SLOT_SIZE);
  cbor_put_string(&exchange->answer, CBOR_BYTES, (const uint8_t *)(uintptr_t)DEVICE_ID, DEVICE_ID_SIZE);
  return SMP_OK;
}
