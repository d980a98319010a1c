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
  cbor_put_head(&exchange->answer, CBOR_MAP, 1);
  cbor_put_text(&exchange->answer, "r");
  cbor_put_string(&exchange->answer, CBOR_TEXT, text.data, text.value);
  return SMP_OK;
}

enum smp_error os_reset(struct smp_exchange *exchange) {
  main_reset_after_answer();
  cbor_put_head(&exchange->answer, CBOR_MAP, 0);
  return SMP_OK;
}

enum smp_error os_parameters(struct smp_exchange *exchange) {
  cbor_put_head(&exchange->answer, CBOR_MAP, 2);
  cbor_put_number(&exchange->answer, "buf_size", FRAME_SIZE);
  cbor_put_number(&exchange->answer, "buf_count", 1);
  return SMP_OK;
}

enum smp_error os_bootloader(struct smp_exchange *exchange) {
  cbor_put_head(&exchange->answer, CBOR_MAP, 2);
  cbor_put_word(&exchange->answer, "bootloader", "BlockOTA");
  cbor_put_text(&exchange->answer, "response");
  cbor_put_head(&exchange->answer, CBOR_MAP, 2);
  cbor_put_number(&exchange->answer, "mode", MODE_SWAP_USING_SCRATCH);
  cbor_put_bool(&exchange->answer, "no-downgrade", true);
  return SMP_OK;
}
