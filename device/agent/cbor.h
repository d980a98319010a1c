/* The part of CBOR (RFC 8949) that SMP needs: flat maps with text keys in, items of definite length out. */
#ifndef BLOCKOTA_CBOR_H
#define BLOCKOTA_CBOR_H

#include <stdbool.h>
#include <stdint.h>

enum cbor_type { CBOR_UNSIGNED, CBOR_NEGATIVE, CBOR_BYTES, CBOR_TEXT, CBOR_ARRAY, CBOR_MAP, CBOR_TAG, CBOR_SIMPLE };

struct cbor_item {
  enum cbor_type type;
  uint32_t value;      /* of a number; the size of a string; CBOR_FALSE or CBOR_TRUE */
  const uint8_t *data; /* of a string */
};

enum { CBOR_FALSE = 20, CBOR_TRUE = 21 };

/* Return whether the bytes are one map of definite length with nothing after it, whose keys and values are strings,
 * numbers below 2^32, or simple values. */
bool cbor_is_flat_map(const uint8_t *bytes, uint32_t size);

/* Find the value of a key with this type in a map that cbor_is_flat_map accepted. False without one. */
bool cbor_find(const uint8_t *map, const char *key, enum cbor_type type, struct cbor_item *item);

/* The place of the next byte, and the end of the memory; bytes beyond the end are dropped, and `is_full` is set. */
struct cbor_writer {
  uint8_t *at, *end;
  bool is_full;
};

void cbor_put_head(struct cbor_writer *writer, enum cbor_type type, uint32_t value);
void cbor_put_string(struct cbor_writer *writer, enum cbor_type type, const uint8_t *data, uint32_t size);

/* The types of fields, each behind the name of the field. */
#define FIELD_NUMBER "\1" /* uint32_t */
#define FIELD_BOOL "\2"   /* bool */
#define FIELD_TEXT "\3"   /* const char * */
#define FIELD_DIGEST "\4" /* const uint8_t *, 32 bytes */
#define FIELD_SIGNATURE "\5" /* const uint8_t *, 64 bytes */
#define FIELD_LAST "\6"   /* no value: the caller writes it afterwards */

/* Write a map. `fields` lists the names of the fields with their types: "off" FIELD_NUMBER "match" FIELD_BOOL. */
void cbor_put_map(struct cbor_writer *writer, const char *fields, ...);

#endif
