#include "smp.h"

#include "groups.h"
#include "serial_line.h"

enum { HEADER = 8, READ = 0, WRITE = 2, OPERATION = 7, VERSION = 3 << 3, DIGEST_SIZE = 32 };

static const struct smp_command commands[] = {
    {GROUP_OS, 0, true, os_echo},
#if AGENT_MINOR >= 1 /* 1.1.0 also takes the echo as a read request */
    {GROUP_OS, 0, false, os_echo},
#endif
    {GROUP_OS, 5, true, os_reset},
    {GROUP_OS, 6, false, os_parameters},
    {GROUP_OS, 8, false, os_bootloader},
    {GROUP_IMAGE, 0, false, image_state},
    {GROUP_IMAGE, 0, true, image_set_state},
    {GROUP_IMAGE, 1, true, image_upload},
    {GROUP_IMAGE, 5, true, image_erase},
    {GROUP_DEVICE, DEVICE_IDENTITY, false, device_identity},
    {GROUP_DEVICE, DEVICE_DELTA, true, device_delta},
    {GROUP_DEVICE, DEVICE_EVENTS, false, device_events},
    {GROUP_DEVICE, DEVICE_EVENTS, true, device_acknowledge},
    {GROUP_DEVICE, DEVICE_SECTORS, false, device_sectors},
    {GROUP_DEVICE, DEVICE_SESSION, true, device_session},
    {GROUP_DEVICE, DEVICE_OPEN, true, device_open},
};

static enum smp_error process(struct smp_exchange *exchange, const uint8_t *packet, uint32_t body_size) {
  bool is_write = (packet[0] & OPERATION) == WRITE;
  for (const struct smp_command *command = commands; command < commands + sizeof commands / sizeof *commands; command++)
    if (packet[4] == 0 && command->group == packet[5] && command->number == packet[7] && command->is_write == is_write) {
      if (!cbor_is_flat_map(exchange->body, body_size)) return SMP_INVALID;
      enum smp_error error = command->handle(exchange);
      return exchange->answer.is_full ? SMP_TOO_LARGE : error;
    }
  return SMP_NOT_SUPPORTED;
}

/* Write a refusal: its code, and its reason if it has one. */
static void put_refusal(struct cbor_writer *writer, enum smp_error error) {
#define SMP_TEXT(name, code, reason) code reason "\0"
  static const char REFUSALS[] = SMP_REFUSALS(SMP_TEXT);
  const char *text = REFUSALS;
  while (--error)
    while (*text++) {}
  cbor_put_map(writer, text[1] ? "rc" FIELD_NUMBER "rsn" FIELD_TEXT : "rc" FIELD_NUMBER, (uint32_t)*text, text + 1);
}

void smp_answer(const uint8_t *packet, uint32_t size) {
  static uint8_t answer[PACKET_SIZE];
  uint32_t operation = packet[0] & OPERATION, body_size = size - HEADER;
  if (size < HEADER || (operation != READ && operation != WRITE)) return;
  if (((uint32_t)packet[2] << 8 | packet[3]) != body_size) return;

  for (uint32_t i = 0; i < HEADER; i++) answer[i] = packet[i];
  answer[0] = (uint8_t)((packet[0] & VERSION) | (operation + 1));
  struct smp_exchange exchange = {packet + HEADER, {answer + HEADER, answer + sizeof answer, false}};
  enum smp_error error = process(&exchange, packet, body_size);
  if (error) {
    exchange.answer.at = answer + HEADER;
    put_refusal(&exchange.answer, error);
  }

  uint32_t written = (uint32_t)(exchange.answer.at - answer);
  answer[2] = (uint8_t)((written - HEADER) >> 8);
  answer[3] = (uint8_t)(written - HEADER);
  serial_send(answer, written);
}

uint32_t smp_number(const struct smp_exchange *exchange, const char *key, uint32_t otherwise) {
  struct cbor_item item;
  return cbor_find(exchange->body, key, CBOR_UNSIGNED, &item) ? item.value : otherwise;
}

const uint8_t *smp_digest(const struct smp_exchange *exchange, const char *key) {
  struct cbor_item item;
  return cbor_find(exchange->body, key, CBOR_BYTES, &item) && item.value == DIGEST_SIZE ? item.data : 0;
}
