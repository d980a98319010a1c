#include "cbor.h"

/* Read the head of an item, and move over it; for a string, also over its content. False if it is not complete. */
static bool read_item(const uint8_t **at, const uint8_t *end, struct cbor_item *item) {
  if (*at >= end) return false;
  uint32_t first = *(*at)++, short_value = first & 31, extra = 0;
  item->type = (enum cbor_type)(first >> 5);
  item->value = short_value;

  if (short_value >= 24) {
    if (short_value > 26) return false; /* 64 bits, reserved, or an indefinite length */
    extra = 1u << (short_value - 24);
    item->value = 0;
  }
  if ((uint32_t)(end - *at) < extra) return false;
  while (extra--) item->value = item->value << 8 | *(*at)++;

  item->data = *at;
  if (item->type == CBOR_BYTES || item->type == CBOR_TEXT) {
    if ((uint32_t)(end - *at) < item->value) return false;
    *at += item->value;
  }
  return true;
}

/* Move over an item and all that it contains. */
static bool skip_item(const uint8_t **at, const uint8_t *end) {
  struct cbor_item item;
  for (uint32_t left = 1; left; left--) {
    if (!read_item(at, end, &item)) return false;
    uint32_t inside = item.type == CBOR_ARRAY || item.type == CBOR_MAP ? item.value : item.type == CBOR_TAG;
    /* Each item has one byte at least, so that a larger number is wrong, and the sum cannot overflow. */
    if (inside > (uint32_t)(end - *at)) return false;
    left += item.type == CBOR_MAP ? 2 * inside : inside;
  }
  return true;
}

bool cbor_is_map(const uint8_t *bytes, uint32_t size) {
  const uint8_t *at = bytes, *end = bytes + size;
  return size && bytes[0] >> 5 == CBOR_MAP && skip_item(&at, end) && at == end;
}

static bool is_key(const struct cbor_item *item, const char *key) {
  uint32_t size = 0;
  while (key[size] && size < item->value && item->data[size] == (uint8_t)key[size]) size++;
  return item->type == CBOR_TEXT && size == item->value && !key[size];
}

bool cbor_find(const uint8_t *map, const char *key, enum cbor_type type, struct cbor_item *item) {
  const uint8_t *at = map, *end = (const uint8_t *)UINTPTR_MAX; /* cbor_is_map has checked the end */
  struct cbor_item found;
  read_item(&at, end, &found);
  for (uint32_t pairs = found.value; pairs; pairs--) {
    const uint8_t *name = at;
    if (!skip_item(&at, end)) return false;
    read_item(&name, end, &found);
    const uint8_t *value = at;
    if (!skip_item(&at, end)) return false;
    if (!is_key(&found, key)) continue;
    read_item(&value, end, item);
    return item->type == type;
  }
  return false;
}

static void put_byte(struct cbor_writer *writer, uint8_t byte) {
  if (writer->at < writer->end)
    *writer->at++ = byte;
  else
    writer->is_full = true;
}

void cbor_put_head(struct cbor_writer *writer, enum cbor_type type, uint32_t value) {
  uint32_t size = value < 24 ? 0 : value < 0x100 ? 1 : value < 0x10000 ? 2 : 4;
  uint32_t code = size == 0 ? value : size == 4 ? 26 : 23 + size;
  put_byte(writer, (uint8_t)(type << 5 | code));
  while (size--) put_byte(writer, (uint8_t)(value >> 8 * size));
}

void cbor_put_string(struct cbor_writer *writer, enum cbor_type type, const uint8_t *data, uint32_t size) {
  cbor_put_head(writer, type, size);
  while (size--) put_byte(writer, *data++);
}

void cbor_put_text(struct cbor_writer *writer, const char *text) {
  uint32_t size = 0;
  while (text[size]) size++;
  cbor_put_string(writer, CBOR_TEXT, (const uint8_t *)text, size);
}

void cbor_put_number(struct cbor_writer *writer, const char *key, uint32_t value) {
  cbor_put_text(writer, key);
  cbor_put_head(writer, CBOR_UNSIGNED, value);
}

void cbor_put_bool(struct cbor_writer *writer, const char *key, bool value) {
  cbor_put_text(writer, key);
  cbor_put_head(writer, CBOR_SIMPLE, value ? CBOR_TRUE : CBOR_FALSE);
}

void cbor_put_bytes(struct cbor_writer *writer, const char *key, const uint8_t *data, uint32_t size) {
  cbor_put_text(writer, key);
  cbor_put_string(writer, CBOR_BYTES, data, size);
}

void cbor_put_word(struct cbor_writer *writer, const char *key, const char *text) {
  cbor_put_text(writer, key);
  cbor_put_text(writer, text);
}
