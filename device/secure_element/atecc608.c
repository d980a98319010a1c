#include "atecc608.h"

#include "bus.h"
#include "bytes.h"

enum {
  WORD_RESET = 0,
  WORD_SLEEP = 1,
  WORD_COMMAND = 3,
  COUNT_SIZE = 1,
  HEAD_SIZE = 4, /* opcode, mode and parameter, after the count */
  CHECKSUM_SIZE = 2,
  STATUS_PACKET = 4,
  STATUS_DONE = 0x00,
  STATUS_MISMATCH = 0x01,
  STATUS_AWAKE = 0x11,
  READINGS = 3,
  WAKE_TIME = 2, /* milliseconds */
  LONGEST = 250, /* milliseconds; the slowest command that is used takes 115 */
};

/* Add a byte to the checksum: CRC-16 with polynomial 0x8005, bits of a byte from the lowest. */
static uint16_t add_to_checksum(uint16_t checksum, uint8_t byte) {
  for (int bit = 0; bit < 8; bit++, byte >>= 1) {
    bool differs = (byte & 1) != checksum >> 15;
    checksum = (uint16_t)(checksum << 1);
    if (differs) checksum ^= 0x8005;
  }
  return checksum;
}

static uint16_t checksum_of(const uint8_t *bytes, uint32_t size) {
  uint16_t checksum = 0;
  for (uint32_t i = 0; i < size; i++) checksum = add_to_checksum(checksum, bytes[i]);
  return checksum;
}

/* Return whether a packet is whole: count, body, checksum with the low byte first. */
static bool is_whole(const uint8_t *packet, uint32_t room) {
  uint32_t size = packet[0];
  return size >= STATUS_PACKET && size <= room
    && checksum_of(packet, size - CHECKSUM_SIZE) == read_16(packet + size - CHECKSUM_SIZE);
}

static void put_to_sleep(void) { bus_write(WORD_SLEEP, 0, 0); }

bool chip_wake(void) {
  uint8_t answer[STATUS_PACKET];
  /* After a reset of this controller, the chip may be awake, and then it does not answer to waking: it sleeps first. It
   * may also execute the command that the reset interrupted, and acknowledges nothing until then. */
  for (int waited = 0; waited < LONGEST; waited += WAKE_TIME) {
    bus_wake();
    bus_wait(WAKE_TIME);
    if (bus_read(answer, sizeof answer) && is_whole(answer, sizeof answer) && answer[1] == STATUS_AWAKE) return true;
    put_to_sleep();
  }
  return false;
}

void chip_close(void) {
  put_to_sleep();
  bus_close();
}

bool chip_send(const struct chip_command *command) {
  uint8_t packet[COUNT_SIZE + HEAD_SIZE + CHIP_MAX_DATA + CHECKSUM_SIZE] = {0};
  uint32_t size = COUNT_SIZE;
  packet[size++] = command->opcode;
  packet[size++] = command->mode;
  packet[size++] = (uint8_t)command->parameter;
  packet[size++] = (uint8_t)(command->parameter >> 8);
  for (uint32_t i = 0; i < command->size; i++) packet[size++] = command->data[i];
  for (uint32_t i = 0; i < command->more_size; i++) packet[size++] = command->more[i];
  packet[0] = (uint8_t)(size + CHECKSUM_SIZE);
  uint16_t checksum = checksum_of(packet, size);
  packet[size++] = (uint8_t)checksum;
  packet[size++] = (uint8_t)(checksum >> 8);
  return bus_write(WORD_COMMAND, packet, size);
}

enum chip_result chip_receive(uint8_t *answer, uint32_t size) {
  uint8_t packet[COUNT_SIZE + CHIP_MAX_ANSWER + CHECKSUM_SIZE];
  uint32_t wanted = size ? COUNT_SIZE + size + CHECKSUM_SIZE : STATUS_PACKET;

  /* (1) The chip does not acknowledge its address while it is busy. */
  int waited = 0;
  while (!bus_read(packet, wanted)) {
    if (waited++ == LONGEST) return CHIP_FAILED;
    bus_wait(1);
  }
  /* (2) An answer that a disturbance has changed is read again. */
  for (int reading = 1; !is_whole(packet, wanted); reading++) {
    if (reading == READINGS || !bus_write(WORD_RESET, 0, 0) || !bus_read(packet, wanted)) return CHIP_FAILED;
  }
  /* (3) A status in place of data means that the command failed. */
  if (packet[0] == STATUS_PACKET) {
    if (packet[1] == STATUS_AWAKE) return CHIP_FAILED; /* the answer to waking: the chip has not got the command */
    if (packet[1] == STATUS_MISMATCH) return CHIP_MISMATCH;
    return size == 0 && packet[1] == STATUS_DONE ? CHIP_DONE : CHIP_REJECTED;
  }
  if (packet[0] != wanted) return CHIP_FAILED;
  for (uint32_t i = 0; i < size; i++) answer[i] = packet[COUNT_SIZE + i];
  return CHIP_DONE;
}

enum chip_result chip_run(const struct chip_command *command, uint8_t *answer, uint32_t size) {
  return chip_send(command) ? chip_receive(answer, size) : CHIP_FAILED;
}

/* Read an INTEGER of at most 32 bytes at `at`; return the place after it, 0 if there is none. */
static uint32_t read_integer(const uint8_t *der, uint32_t size, uint32_t at, uint8_t number[32]) {
  if (at + 2 > size || der[at] != 0x02) return 0;
  uint32_t length = der[at + 1], begin = at + 2, end = begin + length;
  if (!length || end > size) return 0;
  /* A zero precedes a number whose highest bit is set. */
  if (length == 33 && !der[begin]) begin++;
  if (end - begin > 32) return 0;
  for (uint32_t i = 0; i < 32; i++) number[i] = 0;
  for (uint32_t i = 0; begin + i < end; i++) number[32 - (end - begin) + i] = der[begin + i];
  return end;
}

bool chip_read_signature(const uint8_t *der, uint32_t size, uint8_t raw[64]) {
  if (size < 2 || der[0] != 0x30 || der[1] != size - 2) return false;
  uint32_t second = read_integer(der, size, 2, raw);
  return second && read_integer(der, size, second, raw + 32) == size;
}
