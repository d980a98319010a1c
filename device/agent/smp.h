/* Requests and answers of the Simple Management Protocol (mcumgr, "SMP protocol specification"). */
#ifndef BLOCKOTA_SMP_H
#define BLOCKOTA_SMP_H

#include <stdbool.h>
#include <stdint.h>

#include "cbor.h"

/* Return codes of SMP, `mcumgr_err_t`. */
enum smp_error {
  SMP_OK,
  SMP_UNKNOWN,
  SMP_NO_MEMORY,
  SMP_INVALID,
  SMP_TIMEOUT,
  SMP_NO_ENTRY,
  SMP_BAD_STATE,
  SMP_TOO_LARGE,
  SMP_NOT_SUPPORTED,
  SMP_CORRUPT,
  SMP_BUSY,
};

struct smp_exchange {
  const uint8_t *body;      /* of the request: a CBOR map */
  struct cbor_writer answer;
  const char *reason;       /* why the request is refused, for people; may stay NULL */
};

/* Process a request, and write the answer's map. What is written before a refusal is discarded. */
typedef enum smp_error smp_handler(struct smp_exchange *exchange);

struct smp_command {
  uint16_t group;
  uint8_t number;
  bool is_write;
  smp_handler *handle;
};

/* Answer the packet, if it is a request. */
void smp_answer(const uint8_t *packet, uint32_t size);

/* Refuse a request. */
enum smp_error smp_refuse(struct smp_exchange *exchange, enum smp_error error, const char *reason);

/* Return the number, or the default if the request has none with this key. */
uint32_t smp_number(const struct smp_exchange *exchange, const char *key, uint32_t otherwise);

/* Return a string of bytes with this size; NULL if the request has none. */
const uint8_t *smp_bytes(const struct smp_exchange *exchange, const char *key, uint32_t size);

/* The handlers, in the order of the table in smp.c. */
smp_handler os_echo, os_reset, os_parameters, os_bootloader;
smp_handler image_state, image_set_state, image_upload, image_erase;
smp_handler device_identity, device_delta, device_events, device_acknowledge;

#endif
