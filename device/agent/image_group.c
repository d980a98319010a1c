/* The group of images (mcumgr, "Application/software image management group"). */
#include "image_group.h"

#include "boot_report.h"
#include "bytes.h"
#include "events.h"
#include "port.h"
#include "slot_writer.h"
#include "state.h"

enum { NO_NUMBER = UINT32_MAX, HEADER_SIZE = 32 };
static const uint32_t IMAGE_MAGIC = 0x96F3B83D;

const char *image_fault(struct image *image) {
  struct image running;
  if (!image_read(SLOT_1, image)) return "not an MCUboot image";
  if (!image_is_intact(image)) return "damaged image";
  if (!image_fits(image)) return "image for another board";
  if (image_read(SLOT_0, &running) && image->security_counter < running.security_counter)
    return "security counter below that of the running image";
  return 0;
}

/* Write a number of up to five digits, without a division, which a Cortex-M0 has not. */
static char *write_number(char *at, uint32_t number) {
  bool has_begun = false;
  for (uint32_t unit = 10000, step = 0; step < 5; step++) {
    char digit = '0';
    for (; number >= unit; number -= unit) digit++;
    has_begun = has_begun || digit != '0' || unit == 1;
    if (has_begun) *at++ = digit;
    unit = unit == 10000 ? 1000 : unit == 1000 ? 100 : unit == 100 ? 10 : 1;
  }
  return at;
}

void image_put_version(struct cbor_writer *writer, const uint8_t version[8]) {
  char text[18], *at = write_number(text, version[0]);
  *at++ = '.';
  at = write_number(at, version[1]);
  *at++ = '.';
  at = write_number(at, read_16(version + 2));
  cbor_put_string(writer, CBOR_TEXT, (const uint8_t *)text, (uint32_t)(at - text));
}

static void put_image(struct cbor_writer *writer, uint32_t number, const struct image *image) {
  enum phase phase = state_phase();
  bool is_running = number == 0;
  cbor_put_head(writer, CBOR_MAP, 8);
  cbor_put_number(writer, "slot", number);
  cbor_put_text(writer, "version");
  image_put_version(writer, image->version);
  cbor_put_bytes(writer, "hash", image->digest, DIGEST_SIZE);
  cbor_put_bool(writer, "bootable", true);
  cbor_put_bool(writer, "pending", !is_running && phase == PHASE_REQUESTED);
  cbor_put_bool(writer, "confirmed", is_running && phase != PHASE_TRIAL);
  cbor_put_bool(writer, "active", is_running);
  cbor_put_bool(writer, "permanent", false);
}

enum smp_error image_state(struct smp_exchange *exchange) {
  struct image running, other;
  bool has_other = image_read(SLOT_1, &other);
  if (!image_read(SLOT_0, &running)) return SMP_UNKNOWN;
  cbor_put_head(&exchange->answer, CBOR_MAP, 2);
  cbor_put_text(&exchange->answer, "images");
  cbor_put_head(&exchange->answer, CBOR_ARRAY, has_other ? 2 : 1);
  put_image(&exchange->answer, 0, &running);
  if (has_other) put_image(&exchange->answer, 1, &other);
  cbor_put_number(&exchange->answer, "splitStatus", 0);
  return SMP_OK;
}

static enum smp_error confirm(struct smp_exchange *exchange, const uint8_t *hash) {
  struct image running;
  enum phase phase = state_phase();
  bool is_running = !hash || (image_read(SLOT_0, &running) && bytes_are_equal(hash, running.digest, DIGEST_SIZE));
  if (!is_running) return smp_refuse(exchange, SMP_BAD_STATE, "only the running image can be confirmed");
  if (phase == PHASE_CONFIRMED) return SMP_OK; /* the client did not get the first answer */
  if (phase != PHASE_TRIAL) return smp_refuse(exchange, SMP_BAD_STATE, "no image is on trial");
  state_mark(MARK_CONFIRMED);
  event_add(EVENT_CONFIRMED, 0);
  return SMP_OK;
}

/* Request the image of slot 1 for a trial at the next boot. */
static enum smp_error request(struct smp_exchange *exchange, const uint8_t *hash) {
  struct image image;
  if (!image_read(SLOT_1, &image) || !bytes_are_equal(hash, image.digest, DIGEST_SIZE))
    return smp_refuse(exchange, SMP_NO_ENTRY, "slot 1 has no image with this hash");
  if (state_phase() == PHASE_REQUESTED) return SMP_OK;
  if (!slot_is_free()) return smp_refuse(exchange, SMP_BAD_STATE, "slot 1 has the image to return to");
  const char *fault = image_fault(&image);
  if (fault) return smp_refuse(exchange, SMP_INVALID, fault);

  /* The exchange moves pages between the slots, after which the record would be wrong. */
  slot_close(image.total_size);
  return state_request(image.digest) ? SMP_OK : SMP_UNKNOWN;
}

enum smp_error image_set_state(struct smp_exchange *exchange) {
  struct cbor_item item;
  const uint8_t *hash = smp_bytes(exchange, "hash", DIGEST_SIZE);
  bool is_confirmation = cbor_find(exchange->body, "confirm", CBOR_SIMPLE, &item) && item.value == CBOR_TRUE;
  if (!hash && (!is_confirmation || cbor_find(exchange->body, "hash", CBOR_BYTES, &item))) return SMP_INVALID;
  enum smp_error error = is_confirmation ? confirm(exchange, hash) : request(exchange, hash);
  return error ? error : image_state(exchange);
}

/* Begin an upload with its first part, or find the one that was interrupted. */
static enum smp_error begin_upload(struct smp_exchange *exchange, const struct cbor_item *data) {
  uint32_t size = smp_number(exchange, "len", 0);
  const uint8_t *sha256 = smp_bytes(exchange, "sha", DIGEST_SIZE);
  /* Clients number the slot here, others the pair of slots; both mean slot 1. */
  if (smp_number(exchange, "image", 0) > 1) return smp_refuse(exchange, SMP_INVALID, "no such image");
  if (size > SLOT_SIZE) return smp_refuse(exchange, SMP_INVALID, "larger than the slot");

  bool is_same = slot_file.source == SLOT_UPLOAD && slot_file.is_named && slot_file.size == size;
  if (is_same && sha256 && bytes_are_equal(sha256, slot_file.sha256, DIGEST_SIZE)) return SMP_OK;
  if (data->value < HEADER_SIZE || size < HEADER_SIZE || read_32(data->data) != IMAGE_MAGIC)
    return smp_refuse(exchange, SMP_INVALID, "not an MCUboot image");
  uint32_t load_address = read_32(data->data + 4);
  if (load_address && load_address != SLOT_0) return smp_refuse(exchange, SMP_INVALID, "image for another board");
  return slot_begin(SLOT_UPLOAD, size, sha256) ? SMP_OK : SMP_UNKNOWN;
}

enum smp_error image_finish(struct smp_exchange *exchange, uint32_t offset) {
  struct image image;
  bool is_same = !slot_file.is_named || slot_has_sha256(SLOT_1, slot_file.size, slot_file.sha256);
  const char *fault = is_same ? image_fault(&image) : 0;
  if (!is_same || fault) {
    slot_close(slot_file.size);
    if (fault) return smp_refuse(exchange, SMP_INVALID, fault);
  }
  cbor_put_head(&exchange->answer, CBOR_MAP, 2);
  cbor_put_number(&exchange->answer, "off", offset);
  cbor_put_bool(&exchange->answer, "match", is_same);
  return SMP_OK;
}

enum smp_error image_upload(struct smp_exchange *exchange) {
  struct cbor_item data;
  uint32_t offset = smp_number(exchange, "off", NO_NUMBER);
  if (!slot_is_free()) return smp_refuse(exchange, SMP_BUSY, "slot 1 is in use until the image is confirmed");
  if (offset == NO_NUMBER || !cbor_find(exchange->body, "data", CBOR_BYTES, &data)) return SMP_INVALID;

  slot_restore();
  if (offset == 0) {
    enum smp_error error = begin_upload(exchange, &data);
    if (error) return error;
  }
  if (slot_file.source != SLOT_UPLOAD) return smp_refuse(exchange, SMP_BAD_STATE, "no upload has begun");

  /* Another offset than the next one is answered with the next one. */
  if (offset == slot_file.written) {
    uint32_t left = slot_file.size - offset, size = data.value;
    if (size > left) return smp_refuse(exchange, SMP_INVALID, "larger than announced");
    if (size < left) size -= size % PROGRAM_UNIT;
    /* In the packet's memory, where there is space for it: the request is not needed any more. */
    uint8_t *aligned = (uint8_t *)(uintptr_t)exchange->body;
    for (uint32_t i = 0; i < size; i++) aligned[i] = data.data[i];
    if (!slot_write(aligned, size)) return smp_refuse(exchange, SMP_UNKNOWN, "the flash reports an error");
  }
  if (slot_file.written == slot_file.size) return image_finish(exchange, slot_file.size);
  cbor_put_head(&exchange->answer, CBOR_MAP, 1);
  cbor_put_number(&exchange->answer, "off", slot_file.written);
  return SMP_OK;
}

enum smp_error image_erase(struct smp_exchange *exchange) {
  enum phase phase = state_phase();
  if (smp_number(exchange, "slot", 1) != 1) return smp_refuse(exchange, SMP_INVALID, "slot 0 is running");
  if (phase == PHASE_TRIAL || phase == PHASE_REVERTING)
    return smp_refuse(exchange, SMP_BAD_STATE, "slot 1 has the image to return to");
  if (!slot_erase()) return SMP_UNKNOWN;
  cbor_put_head(&exchange->answer, CBOR_MAP, 0);
  return SMP_OK;
}
