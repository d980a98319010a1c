/* The group of images (mcumgr, "Application/software image management group"). */
#include "image_group.h"

#include "boot_report.h"
#include "bytes.h"
#include "events.h"
#include "port.h"
#include "session.h"
#include "slot_writer.h"
#include "state.h"

enum { NO_NUMBER = UINT32_MAX, HEADER_SIZE = 32 };
static const uint32_t IMAGE_MAGIC = 0x96F3B83D;

enum smp_error image_fault(struct image *image) {
  struct image running;
  if (!image_read(SLOT_1, image)) return SMP_NOT_AN_IMAGE;
  if (!image_is_intact(image)) return SMP_DAMAGED_IMAGE;
  if (!image_fits(image)) return SMP_OTHER_BOARD;
  if (image_read(SLOT_0, &running) && image->security_counter < running.security_counter) return SMP_DOWNGRADE;
  return SMP_OK;
}

/* Write a number of up to five digits, without a division, because a Cortex-M0 cannot divide. */
static char *write_number(char *at, uint32_t number) {
  static const uint16_t UNITS[] = {10000, 1000, 100, 10, 1};
  char *start = at;
  for (uint32_t i = 0; i < sizeof UNITS / sizeof *UNITS; i++) {
    char digit = '0';
    for (; number >= UNITS[i]; number -= UNITS[i]) digit++;
    if (at != start || digit != '0' || UNITS[i] == 1) *at++ = digit;
  }
  return at;
}

const char *image_version(const struct image *image) {
  static char text[18];
  char *at = write_number(text, image->version[0]);
  *at++ = '.';
  at = write_number(at, image->version[1]);
  *at++ = '.';
  *write_number(at, read_16(image->version + 2)) = 0;
  return text;
}

static void put_image(struct cbor_writer *writer, uint32_t number, const struct image *image) {
  enum phase phase = state_phase();
  bool is_running = number == 0;
  cbor_put_map(writer,
               "slot" FIELD_NUMBER "version" FIELD_TEXT "hash" FIELD_DIGEST "bootable" FIELD_BOOL "pending" FIELD_BOOL
               "confirmed" FIELD_BOOL "active" FIELD_BOOL,
               number, image_version(image), image->digest, true, !is_running && phase == PHASE_REQUESTED,
               is_running && phase != PHASE_TRIAL, is_running);
}

enum smp_error image_state(struct smp_exchange *exchange) {
  struct image image;
  uint32_t count = image_read(SLOT_1, &image) ? 2 : 1;
  cbor_put_map(&exchange->answer, "splitStatus" FIELD_NUMBER "images" FIELD_LAST, 0);
  cbor_put_head(&exchange->answer, CBOR_ARRAY, count);
  /* The running image has been read by the loader. */
  for (uint32_t number = 0; number < count; number++) {
    image_read(number ? SLOT_1 : SLOT_0, &image);
    put_image(&exchange->answer, number, &image);
  }
  return SMP_OK;
}

static enum smp_error confirm(const uint8_t *hash) {
  struct image running;
  enum phase phase = state_phase();
  bool is_running = !hash || (image_read(SLOT_0, &running) && bytes_are_equal(hash, running.digest, DIGEST_SIZE));
  if (!is_running) return SMP_NOT_RUNNING;
  if (phase == PHASE_CONFIRMED) return SMP_OK; /* the client did not get the first answer */
  if (phase != PHASE_TRIAL) return SMP_NO_TRIAL;
  state_mark(MARK_CONFIRMED);
  event_add(EVENT_CONFIRMED, 0);
  return SMP_OK;
}

/* Request the image of slot 1 for a trial at the next boot. */
static enum smp_error request(const uint8_t *hash) {
  struct image image;
  if (!image_read(SLOT_1, &image) || !bytes_are_equal(hash, image.digest, DIGEST_SIZE))
    return SMP_NO_SUCH_HASH;
  if (!session_allows(image.digest)) return SMP_NO_OFFER;
  if (state_phase() == PHASE_REQUESTED) return SMP_OK;
  if (!slot_is_free()) return SMP_SLOT_IN_USE;
  enum smp_error fault = image_fault(&image);
  if (fault) return fault;

  /* The exchange moves pages between the slots, after which the record would be wrong. */
  slot_close(image.total_size);
  return state_request(image.digest) ? SMP_OK : SMP_UNKNOWN;
}

enum smp_error image_set_state(struct smp_exchange *exchange) {
  struct cbor_item item;
  const uint8_t *hash = smp_digest(exchange, "hash");
  bool is_confirmation = cbor_find(exchange->body, "confirm", CBOR_SIMPLE, &item) && item.value == CBOR_TRUE;
  if (!hash && (!is_confirmation || cbor_find(exchange->body, "hash", CBOR_BYTES, &item))) return SMP_INVALID;
  enum smp_error error = is_confirmation ? confirm(hash) : request(hash);
  return error ? error : image_state(exchange);
}

/* Begin an upload with its first part, or find the one that was interrupted. */
static enum smp_error begin_upload(struct smp_exchange *exchange, const struct cbor_item *data) {
  uint32_t size = smp_number(exchange, "len", 0);
  const uint8_t *sha256 = smp_digest(exchange, "sha");
  /* Some clients give the number of the slot here, others that of the pair of slots; both mean slot 1. */
  if (smp_number(exchange, "image", 0) > 1) return SMP_INVALID;
  if (size > SLOT_SIZE) return SMP_LARGER_THAN_SLOT;

  if (slot_file_is(SLOT_UPLOAD, size, sha256)) return SMP_OK;
  if (data->value < HEADER_SIZE || size < HEADER_SIZE || read_32(data->data) != IMAGE_MAGIC)
    return SMP_NOT_AN_IMAGE;
  uint32_t load_address = read_32(data->data + 4);
  if (load_address && load_address != SLOT_0) return SMP_OTHER_BOARD;
  return slot_begin(SLOT_UPLOAD, size, sha256) ? SMP_OK : SMP_UNKNOWN;
}

enum smp_error image_answer_part(struct smp_exchange *exchange, uint32_t offset, uint32_t size) {
  struct image image;
  bool is_same = true;
  const char *fields = "off" FIELD_NUMBER;
  if (offset == size) {
    is_same = !slot_file.is_named || slot_has_sha256(SLOT_1, slot_file.size, slot_file.sha256);
    enum smp_error fault = is_same ? image_fault(&image) : SMP_OK;
    if (is_same && !fault && !session_allows(image.digest)) fault = SMP_NO_OFFER;
    if (!is_same || fault) slot_discard();
    if (fault) return fault;
    fields = "off" FIELD_NUMBER "match" FIELD_BOOL;
  }
  cbor_put_map(&exchange->answer, fields, offset, is_same);
  return SMP_OK;
}

enum smp_error image_upload(struct smp_exchange *exchange) {
  struct cbor_item data;
  uint32_t offset = smp_number(exchange, "off", NO_NUMBER);
  if (!slot_is_free()) return SMP_SLOT_IN_USE;
  if (!session_allows(0)) return SMP_NO_OFFER;
  if (offset == NO_NUMBER || !cbor_find(exchange->body, "data", CBOR_BYTES, &data)) return SMP_INVALID;

  slot_restore();
  if (offset == 0) {
    enum smp_error error = begin_upload(exchange, &data);
    if (error) return error;
  }
  if (slot_file.source != SLOT_UPLOAD) return SMP_NOTHING_BEGUN;

  /* Another offset than the next one is answered with the next one. */
  if (offset == slot_file.written) {
    uint32_t left = slot_file.size - offset, size = data.value;
    if (size > left) return SMP_LARGER_THAN_ANNOUNCED;
    if (size < left) size -= size % PROGRAM_UNIT;
    /* In the packet's memory, where there is space for it: the request is not needed any more. */
    uint8_t *aligned = (uint8_t *)(uintptr_t)exchange->body;
    for (uint32_t i = 0; i < size; i++) aligned[i] = data.data[i];
    if (!slot_write(aligned, size)) return SMP_UNKNOWN;
  }
  return image_answer_part(exchange, slot_file.written, slot_file.size);
}

enum smp_error image_erase(struct smp_exchange *exchange) {
  enum phase phase = state_phase();
  if (smp_number(exchange, "slot", 1) != 1) return SMP_RUNNING_SLOT;
  if (phase == PHASE_TRIAL || phase == PHASE_REVERTING)
    return SMP_SLOT_IN_USE;
  /* Without this, anyone on the line could take away the image to return to, or withdraw the gateway's request. */
  if (!session_allows(0)) return SMP_NO_OFFER;
  if (!slot_erase()) return SMP_UNKNOWN;
  cbor_put_map(&exchange->answer, "");
  return SMP_OK;
}
