/* The group of the operating system (mcumgr, "Default/OS management group"). */
#include "boot_report.h"
#include "main.h"
#include "port.h"
#include "serial_line.h"
#include "smp.h"

enum { MODE_SWAP_USING_SCRATCH = 1 };

enum smp_error os_echo(struct smp_exchange *exchange) {
  struct cbor_item text;
  if (!cbor_find(exchange->body, "d", CBOR_TEXT, &text)) return SMP_INVALID;
  cbor_put_map(&exchange->answer, "r" FIELD_LAST);
  cbor_put_string(&exchange->answer, CBOR_TEXT, text.data, text.value);
  return SMP_OK;
}

enum smp_error os_reset(struct smp_exchange *exchange) {
  main_reset_after_answer();
  cbor_put_map(&exchange->answer, "");
  return SMP_OK;
}

enum smp_error os_parameters(struct smp_exchange *exchange) {
  cbor_put_map(&exchange->answer, "buf_size" FIELD_NUMBER "buf_count" FIELD_NUMBER, FRAME_SIZE, 1);
  return SMP_OK;
}

enum smp_error os_bootloader(struct smp_exchange *exchange) {
  cbor_put_map(&exchange->answer, "bootloader" FIELD_TEXT "response" FIELD_LAST, "BlockOTA");
  cbor_put_map(&exchange->answer, "mode" FIELD_NUMBER, MODE_SWAP_USING_SCRATCH);
  return SMP_OK;
}
