#include "image.h"

#include "bytes.h"
#include "port.h"
#include "sha256.h"

enum {
  MAGIC_IMAGE = 0x96F3B83D,
  MAGIC_ITEMS = 0x6907,
  MAGIC_PROTECTED_ITEMS = 0x6908,
  HEADER_BYTES = 32,
  ITEM_HEAD = 4, /* the head of a list: magic and size of the list; of an item: type and size of the value */
  ITEM_DIGEST = 0x10,
  ITEM_SIGNATURE = 0x22,
  ITEM_SECURITY_COUNTER = 0x50,
  FLAG_FIXED_ADDRESS = 0x100, /* the load address is that of the slot; every other flag needs work in the loader */
};

/* Take what the loader needs from one list of items; false if the list is not complete within `size` bytes. */
static bool read_items(const uint8_t *list, uint32_t size, uint32_t magic, struct image *image) {
  if (size < ITEM_HEAD || read_16(list) != magic) return false;
  uint32_t end = read_16(list + 2);
  if (end < ITEM_HEAD || end > size) return false;
  for (uint32_t at = ITEM_HEAD; at < end;) {
    if (end - at < ITEM_HEAD) return false;
    uint32_t type = read_16(list + at), length = read_16(list + at + 2);
    const uint8_t *value = list + at + ITEM_HEAD;
    at += ITEM_HEAD;
    if (length > end - at) return false;
    at += length;
    if (magic == MAGIC_PROTECTED_ITEMS) {
      if (type == ITEM_SECURITY_COUNTER && length == 4) image->security_counter = read_32(value);
    } else if (type == ITEM_DIGEST && length == DIGEST_SIZE) {
      image->digest = value;
    } else if (type == ITEM_SIGNATURE) {
      image->signature = value;
      image->signature_size = length;
    }
  }
  image->total_size += end;
  return true;
}

bool image_read(uint32_t slot, struct image *image) {
  const uint8_t *header = port_flash(slot);
  if (read_32(header) != MAGIC_IMAGE || read_32(header + 16) & ~(uint32_t)FLAG_FIXED_ADDRESS)
    return false;
  uint32_t load_address = read_32(header + 4), program_size = read_32(header + 12);
  uint32_t protected_size = read_16(header + 10), program_end;

  image->slot = slot;
  image->load_address = load_address;
  image->header_size = read_16(header + 8);
  image->security_counter = 0;
  image->digest = image->signature = 0;
  image->signature_size = 0;
  for (uint32_t i = 0; i < sizeof image->version; i++) image->version[i] = header[20 + i];

  /* Compared one by one, so that no sum can overflow. */
  if (image->header_size < HEADER_BYTES || image->header_size > SLOT_SIZE || image->header_size & 3) return false;
  if (program_size > SLOT_SIZE - image->header_size) return false;
  program_end = image->header_size + program_size;
  if (protected_size > SLOT_SIZE - program_end) return false;
  image->hashed_size = program_end + protected_size;

  image->total_size = program_end;
  if (protected_size &&
      (!read_items(header + program_end, protected_size, MAGIC_PROTECTED_ITEMS, image) ||
       image->total_size != image->hashed_size))
    return false;
  return read_items(header + image->hashed_size, SLOT_SIZE - image->hashed_size, MAGIC_ITEMS, image) &&
         image->digest;
}

bool image_is_intact(const struct image *image) {
  uint8_t digest[DIGEST_SIZE];
  sha256(port_flash(image->slot), image->hashed_size, digest);
  return bytes_are_equal(digest, image->digest, DIGEST_SIZE);
}

bool image_fits(const struct image *image) {
  const uint8_t *vectors = port_flash(image->slot + image->header_size);
  if (image->hashed_size - image->header_size < 8) return false;
  if (image->load_address && image->load_address != SLOT_0) return false;
  uint32_t stack = read_32(vectors), entry = read_32(vectors + 4);
  return stack > RAM && stack <= BOOT_REPORT && !(stack & 3) && entry & 1 &&
         entry - SLOT_0 > image->header_size && entry - SLOT_0 < image->hashed_size;
}
