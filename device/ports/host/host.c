/* The port to a program on a host, as a shared library: a test fills the flash, sets where power fails, and calls
 * loader or agent functions. The process is not restarted: a reset, a start of an image or a power failure returns to
 * the caller. */
#include <setjmp.h>
#include <string.h>

#include "boot_report.h"
#include "loader.h"
#include "port.h"
#include "secure_element.h"
#include "state.h"

enum outcome { OUTCOME_RETURNED, OUTCOME_REFUSED, OUTCOME_STARTED, OUTCOME_RESET, OUTCOME_POWER_CUT };

/* The content of cells after an operation on them was cut off. */
enum torn {
  TORN_BEFORE,  /* the operation did not begin */
  TORN_SOME,    /* some bits have changed, chosen by the seed */
  TORN_MOST,    /* three of four bits have changed */
  TORN_FIRST,   /* the first half has changed */
  TORN_NOISE,   /* any content: of an erased page only, as programming only clears bits */
  TORN_AFTER,   /* the operation ended */
};

uint8_t host_flash[FLASH_SIZE];
struct boot_report host_report;
uint32_t host_started;     /* the vector table of the image that the loader started */
uint32_t host_operations;  /* erase and program operations since host_reset_count */
uint32_t host_erases;      /* those of them that were erases */
uint32_t host_violations;  /* operations that a flash controller would refuse */
uint32_t host_cut;         /* the number of the operation that is cut off; 0 for none */
uint32_t host_torn;        /* enum torn */
uint32_t host_seed;
int32_t host_verdict;      /* what the secure element answers; enum verdict */

static jmp_buf caller;
static uint32_t random_state;

static uint32_t next_random(void) { /* xorshift32 */
  random_state ^= random_state << 13;
  random_state ^= random_state >> 17;
  random_state ^= random_state << 5;
  return random_state;
}

/* Change cells as an operation does that is cut off. */
static void tear(uint8_t *cells, const uint8_t *target, uint32_t size, bool is_erase) {
  random_state = host_seed * 2654435761u + host_operations + 1;
  for (uint32_t i = 0; i < size; i++) {
    uint8_t changed = 0;
    if (host_torn == TORN_SOME) changed = (uint8_t)(next_random() >> 8 & next_random() >> 8);
    if (host_torn == TORN_MOST) changed = (uint8_t)(next_random() >> 8 | next_random() >> 8);
    if (host_torn == TORN_AFTER || (host_torn == TORN_FIRST && i < size / 2)) changed = 0xFF;
    if (host_torn == TORN_NOISE && is_erase) {
      cells[i] = (uint8_t)(next_random() >> 8);
    } else {
      cells[i] = (uint8_t)((cells[i] & ~changed) | (target[i] & changed));
    }
  }
}

static void operate(uint8_t *cells, const uint8_t *target, uint32_t size, bool is_erase) {
  host_operations++;
  host_erases += is_erase;
  if (host_operations == host_cut) {
    tear(cells, target, size, is_erase);
    longjmp(caller, OUTCOME_POWER_CUT);
  }
  memcpy(cells, target, size);
}

bool port_erase(uint32_t address) {
  uint8_t erased[PAGE_SIZE];
  memset(erased, 0xFF, sizeof erased);
  if (address % PAGE_SIZE || address < SLOT_0 || address >= FLASH_SIZE) {
    host_violations++;
    return false;
  }
  operate(host_flash + address, erased, PAGE_SIZE, true);
  return true;
}

bool port_program(uint32_t address, const void *data, uint32_t size) {
  if (address % PROGRAM_UNIT || size % PROGRAM_UNIT || address < SLOT_0 || address + size > FLASH_SIZE) {
    host_violations++;
    return false;
  }
  for (uint32_t at = 0; at < size; at += PROGRAM_UNIT) {
    uint8_t *cells = host_flash + address + at;
    uint32_t old, new;
    memcpy(&old, cells, sizeof old);
    memcpy(&new, (const uint8_t *)data + at, sizeof new);
    if (new == 0xFFFFFFFF) continue;
    /* The strictest controller, that of the STM32F1: cells that are not erased take only zeros. */
    if (old != 0xFFFFFFFF && new) {
      host_violations++;
      return false;
    }
    operate(cells, (const uint8_t *)&new, sizeof new, false);
  }
  return true;
}

void port_start_image(uint32_t vector_table) {
  host_started = vector_table;
  longjmp(caller, OUTCOME_STARTED);
}

void port_reset(void) { longjmp(caller, OUTCOME_RESET); }

#ifndef HOST_HAS_CHIP
bool secure_element_ask(const struct image *image) {
  (void)image;
  return true;
}

enum verdict secure_element_verify(const struct image *image, bool was_asked) {
  (void)image;
  (void)was_asked;
  return (enum verdict)host_verdict;
}
#endif

/* What the device does until it returns, starts an image, resets or loses power. */

int host_boot(void) {
  int outcome = setjmp(caller);
  if (!outcome) loader_run();
  return outcome;
}

int host_request(const uint8_t *digest) {
  int outcome = setjmp(caller);
  return outcome ? outcome : state_request(digest) ? OUTCOME_RETURNED : OUTCOME_REFUSED;
}

int host_mark(int mark) {
  int outcome = setjmp(caller);
  if (!outcome) state_mark((enum mark)mark);
  return outcome;
}

int host_program(uint32_t address, const uint8_t *data, uint32_t size) {
  int outcome = setjmp(caller);
  if (outcome) return outcome;
  for (uint32_t page = address; page < address + size; page += PAGE_SIZE)
    if (!port_erase(page)) return OUTCOME_REFUSED;
  return port_program(address, data, size) ? OUTCOME_RETURNED : OUTCOME_REFUSED;
}
