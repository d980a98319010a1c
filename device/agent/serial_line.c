#include "serial_line.h"

#include <stdbool.h>

#include "port.h"

enum { FIRST = 0x0609, NEXT = 0x0414, LINE_DIGITS = 124, NO_DIGIT = 64 };

/* Two bytes stay free before the frame, so that the packet after its length is aligned to a word. */
static _Alignas(4) uint8_t memory[2 + FRAME_SIZE + 2];
static uint8_t *const frame = memory + 2;
uint8_t *const serial_packet = memory + 4;

static struct {
  uint32_t group;  /* the last digits */
  uint16_t size;   /* bytes of the frame */
  uint8_t digits, padding;
  uint8_t place;   /* in the line: 0, 1 or 2, its first bytes or what follows */
  uint8_t head;    /* the first byte of the line */
  bool is_open;    /* a frame has begun, and has no fault so far */
} in;

static uint32_t crc16(uint32_t crc, uint8_t byte) {
  crc ^= (uint32_t)byte << 8;
  for (int bit = 0; bit < 8; bit++) crc = crc << 1 ^ (crc & 0x8000 ? 0x1021 : 0);
  return crc & 0xFFFF;
}

static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Return the value of a digit, or NO_DIGIT. A search is fast enough for 115,200 baud. */
static uint32_t digit_value(uint8_t digit) {
  uint32_t value = 0;
  while (value < NO_DIGIT && DIGITS[value] != (char)digit) value++;
  return value;
}

static void open_frame(bool is_open) {
  in.is_open = is_open;
  in.size = 0;
  in.digits = in.padding = 0;
}

static void take_digit(uint8_t byte) {
  uint32_t value = digit_value(byte);
  if (byte == '=') {
    in.padding++;
    value = 0;
  }
  /* Nothing follows the padding, which is one or two digits. */
  bool is_wrong = value == NO_DIGIT || in.padding > 2 || (in.padding && (byte != '=' || in.digits < 2));
  if (is_wrong || in.size >= FRAME_SIZE) {
    open_frame(false);
    return;
  }
  in.group = in.group << 6 | value;
  if (++in.digits < 4) return;
  in.digits = 0;
  for (uint32_t i = 0; i < 3u - in.padding; i++) frame[in.size++] = (uint8_t)(in.group >> (16 - 8 * i));
}

/* At the end of a line: return the size of the packet if the frame is complete and its check is right. */
static uint32_t close_frame(void) {
  uint32_t length = (uint32_t)frame[0] << 8 | frame[1], crc = 0;
  if (!in.is_open || in.size < 2 || in.digits || in.size < length + 2) return 0;
  /* The CRC over a packet followed by its CRC is zero. */
  for (uint32_t i = 2; i < in.size; i++) crc = crc16(crc, frame[i]);
  bool is_right = length > 2 && in.size == length + 2 && in.size <= FRAME_SIZE && !crc;
  open_frame(false);
  return is_right ? length - 2 : 0;
}

uint32_t serial_take(uint8_t byte) {
  if (byte == '\n') {
    in.place = 0;
    return close_frame();
  }
  /* No digit has these values, so a line begins here even if noise came before it. */
  if (byte == FIRST >> 8 || byte == NEXT >> 8) in.place = 0;

  if (in.place == 0) {
    in.head = byte;
    in.place = 1;
  } else if (in.place == 1) {
    uint32_t start = (uint32_t)in.head << 8 | byte;
    if (start != NEXT) open_frame(start == FIRST);
    in.place = 2;
  } else if (in.is_open) {
    take_digit(byte);
  }
  return 0;
}

static struct {
  uint32_t group, bytes, digits;
} out;

/* Send the digits of the last three bytes, of which `bytes` are used. */
static void send_group(void) {
  for (uint32_t i = 0; i < 4; i++)
    port_send(i > out.bytes ? '=' : (uint8_t)DIGITS[out.group >> (18 - 6 * i) & 63]);
  out.digits += 4;
  out.group = out.bytes = 0;
}

static void send_byte(uint8_t byte) {
  if (out.digits == LINE_DIGITS && !out.bytes) {
    port_send('\n');
    port_send(NEXT >> 8);
    port_send(NEXT & 0xFF);
    out.digits = 0;
  }
  out.group |= (uint32_t)byte << (16 - 8 * out.bytes);
  if (++out.bytes == 3) send_group();
}

void serial_send(const uint8_t *packet, uint32_t size) {
  uint32_t crc = 0;
  out.digits = out.bytes = out.group = 0;
  port_send(FIRST >> 8);
  port_send(FIRST & 0xFF);

  send_byte((uint8_t)((size + 2) >> 8));
  send_byte((uint8_t)(size + 2));
  for (uint32_t i = 0; i < size; i++) {
    crc = crc16(crc, packet[i]);
    send_byte(packet[i]);
  }
  send_byte((uint8_t)(crc >> 8));
  send_byte((uint8_t)crc);
  if (out.bytes) send_group();
  port_send('\n');
}
