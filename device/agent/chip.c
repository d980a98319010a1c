#include "chip.h"

#include "boot_report.h"
#include "functions.h"

enum {
  COUNTER_OF_ENTRIES = 0,
  INCREMENT = 1,
  RANDOM_SEEDED = 0,
  READ_CONFIGURATION = 0x80, /* 32 bytes */
  NONCE_TO_DIGEST = 0x43,    /* the digest from outside, into the message digest buffer */
  MAC_WITH_SERIAL = 0x40,
  SIGN_DIGEST = 0xA0,   /* from outside, in the message digest buffer */
  VERIFY_STORED = 0x20, /* with a key in a slot, the message digest buffer */
};

static bool run(const struct chip_command *command, uint8_t *answer, uint32_t size) {
  return loader_functions.chip_run(command, answer, size) == CHIP_DONE;
}

/* Execute a command, after a digest was put into the message digest buffer if there is one. */
static bool ask(const uint8_t *digest, const struct chip_command *command, uint8_t *answer, uint32_t size) {
  const struct chip_command nonce = {.opcode = CHIP_NONCE, .mode = NONCE_TO_DIGEST, .data = digest, .size = 32};
  /* A chip that the loader did not find is not looked for again, which would take a quarter of a second. */
  if (!loader_functions.chip_run || !(LAST_BOOT->flags & BOOT_CHIP_PRESENT)) return false;
  bool is_done = loader_functions.chip_wake() && (!digest || run(&nonce, 0, 0)) && run(command, answer, size);
  loader_functions.chip_close();
  return is_done;
}

bool chip_count(uint32_t *number) {
  const struct chip_command command = {.opcode = CHIP_COUNTER, .mode = INCREMENT, .parameter = COUNTER_OF_ENTRIES};
  return ask(0, &command, (uint8_t *)number, sizeof *number);
}

bool chip_random(uint8_t random[32]) {
  const struct chip_command command = {.opcode = CHIP_RANDOM, .mode = RANDOM_SEEDED};
  return ask(0, &command, random, 32);
}

bool chip_read_serial(uint8_t serial[CHIP_SERIAL]) {
  uint8_t zone[32];
  const struct chip_command command = {.opcode = CHIP_READ, .mode = READ_CONFIGURATION};
  if (!ask(0, &command, zone, sizeof zone)) return false;
  /* Four bytes of the revision are between its two parts. */
  for (uint32_t i = 0; i < CHIP_SERIAL; i++) serial[i] = zone[i < 4 ? i : i + 4];
  return true;
}

bool chip_mac(const uint8_t challenge[32], uint8_t mac[32]) {
  const struct chip_command command = {
    .opcode = CHIP_MAC, .mode = MAC_WITH_SERIAL, .parameter = SLOT_MAC_KEY, .data = challenge, .size = 32,
  };
  return ask(0, &command, mac, 32);
}

bool chip_sign(const uint8_t digest[32], uint8_t signature[CHIP_SIGNATURE]) {
  const struct chip_command command = {.opcode = CHIP_SIGN, .mode = SIGN_DIGEST, .parameter = SLOT_DEVICE_KEY};
  return ask(digest, &command, signature, CHIP_SIGNATURE);
}

bool chip_verify_gateway(const uint8_t digest[32], const uint8_t signature[CHIP_SIGNATURE]) {
  const struct chip_command command = {
    .opcode = CHIP_VERIFY,
    .mode = VERIFY_STORED,
    .parameter = SLOT_GATEWAY_KEY,
    .data = signature,
    .size = CHIP_SIGNATURE,
  };
  return ask(digest, &command, 0, 0);
}
