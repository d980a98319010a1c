#include "cbor.h"

#include <stdarg.h>

/* Read an item, and return the address after it; NULL if it is not complete, or not one that a flat map has. */
static const uint8_t *read_item(const uint8_t *at, const uint8_t *end, struct cbor_item *item) {
  if (at >= end) return 0;
  uint32_t first = *at++, value = first & 31;
  item->type = (enum cbor_type)(first >> 5);
  if (value >= 24) {
    /* 1, 2 or 4 bytes follow; other values mean 64 bits, or an indefinite length. */
    uint32_t extra = 1u << (value - 24);
    if (value > 26 || (uint32_t)(end - at) < extra) return 0;
    for (value = 0; extra; extra--) value = value << 8 | *at++;
  }
  item->value = value;
  item->data = at;
  if (item->type != CBOR_BYTES && item->type != CBOR_TEXT) return at;
  return (uint32_t)(end - at) < value ? 0 : at + value;
}

bool cbor_is_flat_map(const uint8_t *bytes, uint32_t size) {
  struct cbor_item item;
  const uint8_t *end = bytes + size, *at = read_item(bytes, end, &item);
  /* Each item has at least one byte, so a larger number of items is wrong. */
  if (!at || item.type != CBOR_MAP || item.value > size) return false;
  for (uint32_t left = 2 * item.value; left; left--) {
    at = read_item(at, end, &item);
    if (!at || (item.type >= CBOR_ARRAY && item.type != CBOR_SIMPLE)) return false;
  }
  return at == end;
}

static bool is_key(const struct cbor_item *item, const char *key) {
  if (item->type != CBOR_TEXT) return false;
  uint32_t size = 0;
  while (size < item->value && key[size] && item->data[size] == (uint8_t)key[size]) size++;
  return size == item->value && !key[size];
}

bool cbor_find(const uint8_t *map, const char *key, enum cbor_type type, struct cbor_item *item) {
  const uint8_t *end = (const uint8_t *)UINTPTR_MAX; /* cbor_is_flat_map has checked the end */
  struct cbor_item name;
  const uint8_t *at = read_item(map, end, &name);
  for (uint32_t pairs = name.value; pairs; pairs--) {
    at = read_item(at, end, &name);
    at = read_item(at, end, item);
    if (is_key(&name, key)) return item->type == type;
  }
  return false;
}

static void put_byte(struct cbor_writer *writer, uint32_t byte) {
  if (writer->at < writer->end)
    *writer->at++ = (uint8_t)byte;
  else
    writer->is_full = true;
}

void cbor_put_head(struct cbor_writer *writer, enum cbor_type type, uint32_t value) {
  uint32_t first = (uint32_t)type << 5, size = value < 0x100 ? 1 : value < 0x10000 ? 2 : 4;
  if (value < 24) {
    put_byte(writer, first | value);
    return;
  }
  put_byte(writer, first | (size == 4 ? 26 : 23 + size));
  while (size--) put_byte(writer, value >> 8 * size);
}

void cbor_put_string(struct cbor_writer *writer, enum cbor_type type, const uint8_t *data, uint32_t size) {
  cbor_put_head(writer, type, size);
  while (size--) put_byte(writer, *data++);
}

/* Write the text up to the next character that is the type of a field or the end, and return its address. */
static const char *put_text(struct cbor_writer *writer, const char *text) {
  const char *end = text;
  while (*end > *FIELD_LAST) end++;
  cbor_put_string(writer, CBOR_TEXT, (const uint8_t *)text, (uint32_t)(end - text));
  return end;
}

void cbor_put_map(struct cbor_writer *writer, const char *fields, ...) {
  uint32_t count = 0;
  for (const char *at = fields; *at; at++) count += *at <= *FIELD_LAST;
  cbor_put_head(writer, CBOR_MAP, count);

  va_list values;
  va_start(values, fields);
  while (*fields) {
    fields = put_text(writer, fields);
    char type = *fields++;
    if (type == *FIELD_NUMBER) cbor_put_head(writer, CBOR_UNSIGNED, va_arg(values, uint32_t));
    if (type == *FIELD_BOOL) cbor_put_head(writer, CBOR_SIMPLE, va_arg(values, int) ? CBOR_TRUE : CBOR_FALSE);
    if (type == *FIELD_TEXT) put_text(writer, va_arg(values, const char *));
    if (type == *FIELD_DIGEST) cbor_put_string(writer, CBOR_BYTES, va_arg(values, const uint8_t *), 32);
    if (type == *FIELD_SIGNATURE) cbor_put_string(writer, CBOR_BYTES, va_arg(values, const uint8_t *), 64);
  }
  va_end(values);
}
