/* The command that makes the file of slot 1 from the running one and a patch (docs/device.md, "Commands"). */
#include "delta.h"
#include "image_group.h"
#include "port.h"
#include "session.h"
#include "slot_writer.h"

enum { BLOCK = 64, NO_NUMBER = UINT32_MAX };

static uint32_t patch_size, taken;
/* What is not in the slot yet; it has space for what slot_write appends. */
static uint32_t block[BLOCK / 4];
static uint32_t used;

bool delta_put(uint8_t byte) {
  ((uint8_t *)block)[used++] = byte;
  if (used < BLOCK && slot_file.written + used < slot_file.size) return true;
  uint32_t size = used;
  used = 0;
  return slot_write((uint8_t *)block, size);
}

/* Begin with the first part of a patch, or find the patch that was being sent. */
static enum smp_error begin(struct smp_exchange *exchange) {
  struct image running;
  uint32_t size = smp_number(exchange, "size", 0), length = smp_number(exchange, "len", 0);
  const uint8_t *sha256 = smp_digest(exchange, "sha"), *base = smp_digest(exchange, "base");
  if (!size || !length || !sha256 || !base) return SMP_INVALID;
  if (size > SLOT_SIZE) return SMP_LARGER_THAN_SLOT;
  if (slot_file_is(SLOT_DELTA, size, sha256) && patch_size == length) return SMP_OK;

  if (!image_read(SLOT_0, &running) || !slot_has_sha256(SLOT_0, running.total_size, base))
    return SMP_OTHER_BASE;
  patch_size = length;
  taken = used = 0;
  delta_begin(SLOT_0, running.total_size, size);
  return slot_begin(SLOT_DELTA, size, sha256) ? SMP_OK : SMP_UNKNOWN;
}

enum smp_error device_delta(struct smp_exchange *exchange) {
  struct cbor_item data;
  uint32_t offset = smp_number(exchange, "off", NO_NUMBER);
  if (!slot_is_free()) return SMP_SLOT_IN_USE;
  if (!session_allows(0)) return SMP_NO_OFFER;
  if (!cbor_find(exchange->body, "data", CBOR_BYTES, &data)) return SMP_INVALID;
  if (offset == 0) {
    enum smp_error error = begin(exchange);
    if (error) return error;
  }
  if (slot_file.source != SLOT_DELTA) return SMP_NOTHING_BEGUN;

  bool is_right = true;
  if (offset == taken && data.value <= patch_size - taken) {
    for (uint32_t i = 0; i < data.value; i++) is_right = is_right && delta_take(data.data[i]);
    taken += data.value;
  }
  if (!is_right || (taken == patch_size && !delta_is_complete())) {
    slot_discard();
    return SMP_DAMAGED_DELTA;
  }
  return image_answer_part(exchange, taken, patch_size);
}
