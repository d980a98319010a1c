/* The agent: answers requests on the serial line, until one asks for a reset. */
#include "main.h"

#include <stdbool.h>

#include "boot_report.h"
#include "events.h"
#include "functions.h"
#include "port.h"
#include "serial_line.h"
#include "smp.h"

static bool must_reset;

void main_reset_after_answer(void) { must_reset = true; }

_Noreturn void image_run(void) {
#ifdef AGENT_CRASHES /* a faulty release, for tests */
  *(volatile uint32_t *)1 = 0;
#endif
  /* Another loader has another table. During a trial, the loader counts the boots, and rolls this image back. */
  if (loader_functions.magic != LOADER_FUNCTIONS_MAGIC) port_reset();
  event_add(EVENT_STARTED, (uint8_t)LAST_BOOT->flags);
  if (LAST_BOOT->flags & BOOT_REQUEST_REFUSED) event_add(EVENT_REFUSED, (uint8_t)LAST_BOOT->refusal);
  /* The new line ends a line that noise or the previous program began, and shows that the receiver is on. */
  port_send('\n');
  while (!must_reset) {
    int byte = port_receive();
    uint32_t size = byte < 0 ? 0 : serial_take((uint8_t)byte);
    if (size) smp_answer(serial_packet, size);
  }
  /* When these bytes are sent, the answer has left the transmitter. */
  port_send('\n');
  port_send('\n');
  port_reset();
}
