#include "delta.h"

#include "port.h"

enum {
  HEAD_CRLE = 2, /* a sequential patch, and its compression */
  HEAD_HEATSHRINK = 4,
  WINDOW_BITS = 8,
  COUNT_BITS = 7,
  HEATSHRINK_PARAMETERS = (WINDOW_BITS - 4) << 4 | (COUNT_BITS - 3),
  WINDOW = 1 << WINDOW_BITS,
  MORE = 0x80, /* in a byte of a number: another byte follows */
  NEGATIVE = 0x40,
};

/* Where the reader of the file format is: the numbers and bytes of a patch in their order. */
enum part { PART_SIZES, PART_DIFF_SIZE, PART_DIFF, PART_EXTRA_SIZE, PART_EXTRA, PART_ADJUSTMENT };

/* Where the decompressor is. The first three are the head of the patch. */
enum step {
  STEP_HEAD,
  STEP_SIZE,
  STEP_PARAMETERS,
  STEP_KIND, /* of a run of crle, its length, and its bytes */
  STEP_LENGTH,
  STEP_SCATTERED,
  STEP_REPEATED,
  STEP_TAG, /* of heatshrink, which counts bits: a literal follows, or a distance and a count */
  STEP_LITERAL,
  STEP_DISTANCE,
  STEP_COUNT,
};

/* A number that is being read: 6 or 7 bits in the first byte, 7 in each other one, the low bits first. */
struct number {
  uint32_t value;
  uint32_t shift;
  bool is_negative;
};

static struct {
  uint32_t base, base_size, size;
  uint32_t from, to;      /* positions in the base and in the file */
  uint32_t left;          /* bytes of the part */
  uint32_t budget;        /* bytes that the decompressor may still make */
  struct number number, run; /* of the file format, and the length of a run of crle */
  uint32_t bits;          /* heatshrink: bits that are not used yet, and how many */
  uint32_t bit_count, kind, part, step, distance;
  uint8_t at;
  uint8_t window[WINDOW]; /* heatshrink: the last bytes, `at` is the place of the next one */
} patch;

void delta_begin(uint32_t base, uint32_t base_size, uint32_t size) {
  for (uint32_t i = 0; i < sizeof patch; i++) ((uint8_t *)&patch)[i] = 0;
  patch.base = base;
  patch.base_size = base_size;
  patch.size = size;
  /* More than any patch for a slot needs, so that a run cannot keep the processor busy for ever. */
  patch.budget = 4 * SLOT_SIZE;
}

bool delta_is_complete(void) { return patch.to == patch.size && patch.part == PART_DIFF_SIZE; }

/* Take a byte of a number, whose first byte has `bits` bits of it. Return whether the number is complete. */
static bool take_number(struct number *number, uint8_t byte, uint32_t bits) {
  if (!number->shift) {
    number->value = 0;
    number->is_negative = bits == 6 && byte & NEGATIVE;
  } else {
    bits = 7;
  }
  if (number->shift < 32) number->value |= (byte & ((1u << bits) - 1)) << number->shift;
  number->shift += bits;
  if (byte & MORE) return false;
  number->shift = 0;
  return true;
}

/* Take a byte that the decompressor made. */
static bool take_content(uint8_t byte) {
  if (!patch.budget--) return false;
  switch (patch.part) {
  case PART_DIFF:
    if (patch.from >= patch.base_size) return false;
    byte = (uint8_t)(byte + *port_flash(patch.base + patch.from++));
    /* fall through */
  case PART_EXTRA:
    patch.to++;
    if (!--patch.left) patch.part++;
    return delta_put(byte);
  }
  if (!take_number(&patch.number, byte, 6)) return true;

  uint32_t number = patch.number.value;
  bool is_negative = patch.number.is_negative;
  if (patch.part == PART_ADJUSTMENT) {
    patch.from += is_negative ? -number : number;
    patch.part = PART_DIFF_SIZE;
    return true;
  }
  /* The first number is the size of a part about the format of the data. It must be 0: this part is not read. */
  if (is_negative || number > (patch.part == PART_SIZES ? 0 : patch.size - patch.to)) return false;
  patch.left = number;
  patch.part++;
  if (!number && patch.part != PART_DIFF_SIZE) patch.part++;
  return true;
}

/* Take a byte that heatshrink made. */
static bool take_decoded(uint8_t byte) {
  patch.window[patch.at++] = byte;
  return take_content(byte);
}

/* Take a byte of a stream of heatshrink: numbers of 1, 8, 8 and 7 bits. */
static bool take_heatshrink(uint8_t byte) {
  static const uint8_t WIDTHS[] = {1, 8, WINDOW_BITS, COUNT_BITS};
  patch.bits = patch.bits << 8 | byte;
  patch.bit_count += 8;
  for (;;) {
    uint32_t width = WIDTHS[patch.step - STEP_TAG];
    if (patch.bit_count < width || delta_is_complete()) return true;
    patch.bit_count -= width;
    uint32_t value = patch.bits >> patch.bit_count & ((1u << width) - 1);

    if (patch.step == STEP_TAG) {
      patch.step = value ? STEP_LITERAL : STEP_DISTANCE;
    } else if (patch.step == STEP_DISTANCE) {
      patch.distance = value + 1;
      patch.step = STEP_COUNT;
    } else {
      bool is_literal = patch.step == STEP_LITERAL;
      patch.step = STEP_TAG;
      if (is_literal && !take_decoded((uint8_t)value)) return false;
      for (uint32_t i = 0; !is_literal && i <= value; i++)
        if (!take_decoded(patch.window[(uint8_t)(patch.at - patch.distance)])) return false;
    }
  }
}

bool delta_take(uint8_t byte) {
  switch (patch.step) {
  case STEP_HEAD:
    patch.kind = byte;
    patch.step = STEP_SIZE;
    return byte == HEAD_CRLE || byte == HEAD_HEATSHRINK;
  case STEP_SIZE:
    if (!take_number(&patch.number, byte, 6)) return true;
    patch.step = patch.kind == HEAD_CRLE ? STEP_KIND : STEP_PARAMETERS;
    return patch.number.value == patch.size && !patch.number.is_negative;
  case STEP_PARAMETERS:
    patch.step = STEP_TAG;
    return byte == HEATSHRINK_PARAMETERS;
  case STEP_KIND:
    if (delta_is_complete()) return true;
    patch.kind = byte;
    patch.step = STEP_LENGTH;
    return byte <= 1;
  case STEP_LENGTH:
    if (take_number(&patch.run, byte, 7)) patch.step = patch.kind ? STEP_REPEATED : STEP_SCATTERED;
    if (patch.step == STEP_SCATTERED && !patch.run.value) patch.step = STEP_KIND;
    return true;
  case STEP_SCATTERED:
    if (!--patch.run.value) patch.step = STEP_KIND;
    return take_content(byte);
  case STEP_REPEATED:
    patch.step = STEP_KIND;
    while (patch.run.value--)
      if (!take_content(byte)) return false;
    return true;
  default:
    return take_heatshrink(byte);
  }
}
