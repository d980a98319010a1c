/* Requests and answers of the Simple Management Protocol (mcumgr, "SMP protocol specification"). */
#ifndef BLOCKOTA_SMP_H
#define BLOCKOTA_SMP_H

#include <stdbool.h>
#include <stdint.h>

#include "cbor.h"

/* Why a request is refused: a name, the return code of SMP (`mcumgr_err_t`) as a character, and the reason for people,
 * which may be empty. */
#define SMP_REFUSALS(X)                                                 \
  X(UNKNOWN, "\1", "flash error")                                       \
  X(INVALID, "\3", "")                                                  \
  X(TOO_LARGE, "\7", "")                                                \
  X(NOT_SUPPORTED, "\10", "")                                           \
  X(NOT_AN_IMAGE, "\3", "not an MCUboot image")                         \
  X(DAMAGED_IMAGE, "\3", "damaged image")                               \
  X(OTHER_BOARD, "\3", "image for another board")                       \
  X(DOWNGRADE, "\3", "counter too low")                                 \
  X(LARGER_THAN_SLOT, "\3", "larger than the slot")                     \
  X(LARGER_THAN_ANNOUNCED, "\3", "too long")                            \
  X(RUNNING_SLOT, "\3", "slot 0 is running")                            \
  X(NO_SUCH_HASH, "\5", "no such image")                                \
  X(NOTHING_BEGUN, "\6", "nothing has begun")                           \
  X(NOT_RUNNING, "\6", "not the running image")                         \
  X(NO_TRIAL, "\6", "no image is on trial")                             \
  X(OTHER_BASE, "\6", "delta for another image")                        \
  X(DAMAGED_DELTA, "\11", "damaged delta")                              \
  X(SLOT_IN_USE, "\12", "slot 1 is in use")                              \
  X(NO_OFFER, "\13", "no offer for this image")                         \
  X(NOT_THE_GATEWAY, "\13", "not signed by the gateway")                \
  X(NO_CHIP, "\1", "secure element failed")

#define SMP_NAME(name, code, reason) SMP_##name,
enum smp_error { SMP_OK, SMP_REFUSALS(SMP_NAME) };

struct smp_exchange {
  const uint8_t *body;      /* of the request: a CBOR map */
  struct cbor_writer answer;
};

/* Process a request, and write the answer's map. What is written before a refusal is discarded. */
typedef enum smp_error smp_handler(struct smp_exchange *exchange);

struct smp_command {
  uint8_t group, number, is_write;
  smp_handler *handle;
};

/* Answer the packet, if it is a request. */
void smp_answer(const uint8_t *packet, uint32_t size);

/* Return the number, or the default if the request has none with this key. */
uint32_t smp_number(const struct smp_exchange *exchange, const char *key, uint32_t otherwise);

/* Return a digest of 32 bytes; NULL if the request has none with this key. */
const uint8_t *smp_digest(const struct smp_exchange *exchange, const char *key);

/* The handlers, in the order of the table in smp.c. */
smp_handler os_echo, os_reset, os_parameters, os_bootloader;
smp_handler image_state, image_set_state, image_upload, image_erase;
smp_handler device_identity, device_delta, device_events, device_acknowledge, device_sectors;
smp_handler device_session, device_open;

#endif
