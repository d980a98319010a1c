#include "smp.h"

#include "groups.h"
#include "serial_line.h"

enum { HEADER = 8, READ = 0, WRITE = 2, OPERATION = 7, VERSION = 3 << 3 };

static const struct smp_command commands[] = {
    {GROUP_OS, 0, true, os_echo},
    {GROUP_OS, 0, false, os_echo},
    {GROUP_OS, 5, true, os_reset},
    {GROUP_OS, 6, false, os_parameters},
    {GROUP_OS, 8, false, os_bootloader},
    {GROUP_IMAGE, 0, false, image_state},
    {GROUP_IMAGE, 0, true, image_set_state},
    {GROUP_IMAGE, 1, true, image_upload},
    {GROUP_IMAGE, 5, true, image_erase},
    {GROUP_DEVICE, DEVICE_IDENTITY, false, device_identity},
    {GROUP_DEVICE, DEVICE_EVENTS, false, device_events},
    {GROUP_DEVICE, DEVICE_EVENTS, true, device_acknowledge},
};

static smp_handler *find_handler(uint32_t group, uint32_t number, bool is_write) {
  for (uint32_t i = 0; i < sizeof commands / sizeof *commands; i++)
    if (commands[i].group == group && commands[i].number == number && commands[i].is_write == is_write)
      return commands[i].handle;
  return 0;
}

static enum smp_error process(struct smp_exchange *exchange, uint32_t size, smp_handler *handle) {
  if (!handle) return SMP_NOT_SUPPORTED;
  if (!cbor_is_map(exchange->body, size)) return SMP_INVALID;
  enum smp_error error = handle(exchange);
  return exchange->answer.is_full ? SMP_TOO_LARGE : error;
}

void smp_answer(const uint8_t *packet, uint32_t size) {
  static uint8_t answer[PACKET_SIZE];
  uint32_t operation = packet[0] & OPERATION, body_size = size - HEADER;
  if (size < HEADER || (operation != READ && operation != WRITE)) return;
  if (((uint32_t)packet[2] << 8 | packet[3]) != body_size) return;

  uint8_t head[HEADER] = {(uint8_t)((packet[0] & VERSION) | (operation + 1)), 0, 0, 0,
                          packet[4], packet[5], packet[6], packet[7]};
  struct smp_exchange exchange = {.body = packet + HEADER};
  struct cbor_writer start = {answer + HEADER, answer + sizeof answer, false};
  exchange.answer = start;
  uint32_t group = (uint32_t)packet[4] << 8 | packet[5];
  enum smp_error error = process(&exchange, body_size, find_handler(group, packet[7], operation == WRITE));

  if (error) {
    exchange.answer = start;
    cbor_put_head(&exchange.answer, CBOR_MAP, exchange.reason ? 2 : 1);
    cbor_put_number(&exchange.answer, "rc", error);
    if (exchange.reason) cbor_put_word(&exchange.answer, "rsn", exchange.reason);
  }
  uint32_t written = (uint32_t)(exchange.answer.at - start.at);
  head[2] = (uint8_t)(written >> 8);
  head[3] = (uint8_t)written;
  for (uint32_t i = 0; i < HEADER; i++) answer[i] = head[i];
  serial_send(answer, HEADER + written);
}

enum smp_error smp_refuse(struct smp_exchange *exchange, enum smp_error error, const char *reason) {
  exchange->reason = reason;
  return error;
}

uint32_t smp_number(const struct smp_exchange *exchange, const char *key, uint32_t otherwise) {
  struct cbor_item item;
  return cbor_find(exchange->body, key, CBOR_UNSIGNED, &item) ? item.value : otherwise;
}

const uint8_t *smp_bytes(const struct smp_exchange *exchange, const char *key, uint32_t size) {
  struct cbor_item item;
  return cbor_find(exchange->body, key, CBOR_BYTES, &item) && item.value == size ? item.data : 0;
}
