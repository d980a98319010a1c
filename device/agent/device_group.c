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
  cbor_put_head(&exchange->answer, CBOR_MAP, 2);
  cbor_put_number(&exchange->answer, "waiting", waiting);
  cbor_put_text(&exchange->answer, "events");
  cbor_put_head(&exchange->answer, CBOR_ARRAY, count);
  for (uint32_t i = 1; i <= count; i++) {
    const struct event *event = &ring[(before_first + i) % RING_SIZE];
    cbor_put_head(&exchange->answer, CBOR_MAP, 4);
    cbor_put_number(&exchange->answer, "number", event->number);
    cbor_put_number(&exchange->answer, "kind", event->kind);
    cbor_put_number(&exchange->answer, "detail", event->detail);
    cbor_put_bytes(&exchange->answer, "digest", event->digest, DIGEST_SIZE);
  }
  return SMP_OK;
}

enum smp_error device_acknowledge(struct smp_exchange *exchange) {
  uint32_t number = smp_number(exchange, "number", 0);
  if (!number || number > last) return smp_refuse(exchange, SMP_INVALID, "no such event");
  if (number > before_first) before_first = number;
  cbor_put_head(&exchange->answer, CBOR_MAP, 0);
  return SMP_OK;
}

enum smp_error device_identity(struct smp_exchange *exchange) {
  struct image running;
  uint32_t flags = LAST_BOOT->flags;
  if (!image_read(SLOT_0, &running)) return SMP_UNKNOWN;
  cbor_put_head(&exchange->answer, CBOR_MAP, 9);
  cbor_put_word(&exchange->answer, "board", BOARD_NAME);
  cbor_put_bytes(&exchange->answer, "id", (const uint8_t *)(uintptr_t)DEVICE_ID, DEVICE_ID_SIZE);
  cbor_put_text(&exchange->answer, "version");
  image_put_version(&exchange->answer, running.version);
  cbor_put_bytes(&exchange->answer, "digest", running.digest, DIGEST_SIZE);
  cbor_put_number(&exchange->answer, "counter", running.security_counter);
  cbor_put_word(&exchange->answer, "proof", flags & BOOT_SIGNATURE_CHECKED ? "authenticated" : "integrity only");
  cbor_put_number(&exchange->answer, "flags", flags);
  cbor_put_number(&exchange->answer, "refusal", LAST_BOOT->refusal);
  cbor_put_number(&exchange->answer, "slot", SLOT_SIZE);
  return SMP_OK;
}
