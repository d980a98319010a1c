/* The ATECC608 at the level of its commands (Microchip, data sheet DS40001977, sections 6 and 9). */
#ifndef BLOCKOTA_ATECC608_H
#define BLOCKOTA_ATECC608_H

#include <stdbool.h>
#include <stdint.h>

enum chip_opcode {
  CHIP_READ = 0x02,
  CHIP_MAC = 0x08,
  CHIP_NONCE = 0x16,
  CHIP_RANDOM = 0x1B,
  CHIP_COUNTER = 0x24,
  CHIP_SIGN = 0x41,
  CHIP_VERIFY = 0x45,
  CHIP_SECURE_BOOT = 0x80,
};

/* The slots of a device, as the maker prepares them (docs/device.md, "Production"). */
enum chip_slot {
  SLOT_DEVICE_KEY = 0,
  SLOT_MAC_KEY = 5,
  SLOT_BOOT_DIGEST = 7,
  SLOT_GATEWAY_KEY = 9,
};

enum chip_result {
  CHIP_DONE,     /* success; the data are in the answer */
  CHIP_MISMATCH, /* a comparison or a verification failed */
  CHIP_REJECTED, /* the chip does not execute the command: it is not locked, or locked with other rules */
  CHIP_FAILED,   /* no answer in time, or none with a right checksum */
};

enum { CHIP_MAX_DATA = 128, CHIP_MAX_ANSWER = 64 };

struct chip_command {
  uint8_t opcode, mode;
  uint16_t parameter;
  const uint8_t *data; /* `size` bytes, and after them `more_size` bytes of `more` */
  const uint8_t *more;
  uint8_t size, more_size;
};

/* Wake the chip. False if there is none. */
bool chip_wake(void);

/* Put the chip to sleep, and leave the bus; the chip forgets everything but its memory. */
void chip_close(void);

/* Let the chip begin a command. False if it does not take it. */
bool chip_send(const struct chip_command *command);

/* Wait for the answer of `size` bytes to the last command; `size` is 0 for a command that answers with a status. */
enum chip_result chip_receive(uint8_t *answer, uint32_t size);

/* Execute a command: send it, and receive its answer. */
enum chip_result chip_run(const struct chip_command *command, uint8_t *answer, uint32_t size);

/* Read a signature in DER (RFC 3279, section 2.2.3) into r and s, 32 bytes each. False if it is not one. */
bool chip_read_signature(const uint8_t *der, uint32_t size, uint8_t raw[64]);

#endif
