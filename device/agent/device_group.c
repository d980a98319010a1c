/* The group of BlockOTA (docs/device.md, "Commands"): identity, events until they are acknowledged, and sectors. */
#include "boot_report.h"
#include "bytes.h"
#include "chip.h"
#include "events.h"
#include "image_group.h"
#include "port.h"
#include "sha256.h"
#include "state.h"

/* A signature takes the chip a tenth of a second, so few are made for one answer. A frame has space for six. */
enum { EVENTS_IN_ANSWER = 8, SIGNED_IN_ANSWER = 4, SECTORS_IN_REQUEST = 8 };

/* Sign the fields of an entry as a contract checks them: numbers of fixed length, big endian. */
static bool sign_event(const struct event *event, uint8_t signature[CHIP_SIGNATURE]) {
  static const char PURPOSE[] = "blockota-event";
  struct sha256 state;
  uint8_t number[4], digest[DIGEST_SIZE];
  if (!event->is_counted) return false;
  write_32(number, __builtin_bswap32(event->number));
  sha256_begin(&state);
  sha256_add(&state, (const uint8_t *)PURPOSE, sizeof PURPOSE - 1);
  sha256_add(&state, number, sizeof number);
  sha256_add(&state, &event->kind, 2); /* and the detail after it */
  sha256_add(&state, event->digest, DIGEST_SIZE);
  sha256_end(&state, digest);
  return chip_sign(digest, signature);
}

static void put_event(struct cbor_writer *writer, const struct event *event) {
  uint8_t signature[CHIP_SIGNATURE];
  bool is_signed = sign_event(event, signature);
#define EVENT_FIELDS "number" FIELD_NUMBER "kind" FIELD_NUMBER "detail" FIELD_NUMBER "digest" FIELD_DIGEST
  cbor_put_map(writer, is_signed ? EVENT_FIELDS "signature" FIELD_SIGNATURE : EVENT_FIELDS, event->number,
               (uint32_t)event->kind, (uint32_t)event->detail, event->digest, signature);
}

enum smp_error device_events(struct smp_exchange *exchange) {
  const struct event *found[EVENTS_IN_ANSWER];
  bool has_chip = LAST_BOOT->flags & BOOT_CHIP_PRESENT;
  uint32_t count = events_waiting(found, has_chip ? SIGNED_IN_ANSWER : EVENTS_IN_ANSWER);
  cbor_put_map(&exchange->answer, "events" FIELD_LAST);
  cbor_put_head(&exchange->answer, CBOR_ARRAY, count);
  for (uint32_t i = 0; i < count; i++) put_event(&exchange->answer, found[i]);
  return SMP_OK;
}

enum smp_error device_acknowledge(struct smp_exchange *exchange) {
  if (!events_acknowledge(smp_number(exchange, "number", 0))) return SMP_INVALID;
  cbor_put_map(&exchange->answer, "");
  return SMP_OK;
}

/* Prove the contents of pages of slot 0: the digest covers the gateway's nonce, so it cannot be computed before. */
enum smp_error device_sectors(struct smp_exchange *exchange) {
  struct sha256 state;
  struct cbor_item sectors;
  uint8_t digest[DIGEST_SIZE], mac[32];
  const uint8_t *nonce = smp_digest(exchange, "nonce");
  if (!nonce || !cbor_find(exchange->body, "sectors", CBOR_BYTES, &sectors)) return SMP_INVALID;
  if (!sectors.value || sectors.value > SECTORS_IN_REQUEST) return SMP_INVALID;

  sha256_begin(&state);
  sha256_add(&state, nonce, DIGEST_SIZE);
  for (uint32_t i = 0; i < sectors.value; i++) {
    if (sectors.data[i] >= SLOT_SIZE / PAGE_SIZE) return SMP_INVALID;
    sha256_add(&state, port_flash(SLOT_0 + sectors.data[i] * PAGE_SIZE), PAGE_SIZE);
  }
  sha256_end(&state, digest);
  const char *fields = chip_mac(digest, mac) ? "digest" FIELD_DIGEST "mac" FIELD_DIGEST : "digest" FIELD_DIGEST;
  cbor_put_map(&exchange->answer, fields, digest, mac);
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
