/* The report of the loader to the image, in the last bytes of RAM (BOOT_REPORT of map.h). Neither program uses these
 * bytes for anything else. */
#ifndef BLOCKOTA_BOOT_REPORT_H
#define BLOCKOTA_BOOT_REPORT_H

#include <stdint.h>

#include "map.h"

enum { BOOT_REPORT_MAGIC = 0x426F4F54 };

enum boot_flags {
  BOOT_TRIAL = 1,          /* a trial boot: the image must confirm, or is rolled back */
  BOOT_ROLLED_BACK = 2,    /* the image before was not confirmed in time, or was damaged */
  BOOT_REQUEST_REFUSED = 4, /* the requested image was not swapped in; `refusal` says why */
  BOOT_CHIP_PRESENT = 8,   /* the secure element answered */
  BOOT_SIGNATURE_CHECKED = 16, /* the secure element verified digest and signature; else integrity only */
};

enum refusal {
  REFUSED_NOTHING,
  REFUSED_INCOMPLETE,      /* no complete image in slot 1 */
  REFUSED_OTHER_IMAGE,     /* its digest is not the requested one */
  REFUSED_DAMAGED,         /* its bytes do not have its digest */
  REFUSED_OTHER_BOARD,     /* its load address or vector table does not fit the slot */
  REFUSED_DOWNGRADE,       /* its security counter is below that of the running image */
  REFUSED_SIGNATURE,       /* the secure element refused its signature */
};

struct boot_report {
  uint32_t magic;
  uint16_t flags;
  uint16_t refusal;
};

#ifndef LAST_BOOT /* the report in RAM; a port may place it elsewhere */
#define LAST_BOOT ((volatile struct boot_report *)(uintptr_t)BOOT_REPORT)
#endif

#endif
