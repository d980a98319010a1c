/* A program for the campaigns: it prints its version and what the loader reports, and obeys commands of one byte.
 *
 *   r  request the image of slot 1      c  confirm this image      v  ask the loader to return to the image before
 *   x  reset                            any other byte: no answer
 *
 * Each command except x is answered by `+`, or by `-` if it was refused. */
#include "boot_report.h"
#include "image.h"
#include "port.h"
#include "state.h"

#ifdef PADDING /* makes the image longer than that of another release */
__attribute__((section(".padding"), used)) static const uint8_t padding[PADDING] = {1};
#endif

static void print(const char *text) {
  while (*text) port_send((uint8_t)*text++);
}

static void print_number(uint32_t number) {
  if (number > 9) print_number(number / 10);
  port_send((uint8_t)('0' + number % 10));
}

static bool request(void) {
  struct image image;
  return image_read(SLOT_1, &image) && state_request(image.digest);
}

static bool confirm(void) {
  if (state_phase() != PHASE_TRIAL) return false;
  state_mark(MARK_CONFIRMED);
  return true;
}

static bool revert(void) {
  if (state_phase() != PHASE_TRIAL) return false;
  state_mark(MARK_REVERT);
  return true;
}

/* "test VERSION flags NUMBER refusal NUMBER". */
static void report(void) {
  print("test " VERSION " flags ");
  print_number(LAST_BOOT->magic == BOOT_REPORT_MAGIC ? LAST_BOOT->flags : 0xFFFF);
  print(" refusal ");
  print_number(LAST_BOOT->refusal);
  print("\n");
}

_Noreturn void image_run(void) {
  report();
  for (;;) {
    bool is_done = false;
    switch (port_receive()) {
    case 'r':
      is_done = request();
      break;
    case 'c':
      is_done = confirm();
      break;
    case 'v':
      is_done = revert();
      break;
    case 'x':
      port_reset();
    default:
      continue;
    }
    port_send(is_done ? '+' : '-');
  }
}
