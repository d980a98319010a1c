#include "functions.h"

#include "bytes.h"
#include "port.h"

__attribute__((section(".functions"), used)) const struct loader_functions loader_functions = {
  .magic = LOADER_FUNCTIONS_MAGIC,
  .port_erase = port_erase,
  .port_program = port_program,
  .bytes_are_equal = bytes_are_equal,
  .bytes_are_erased = bytes_are_erased,
  .sha256_begin = sha256_begin,
  .sha256_add = sha256_add,
  .sha256_end = sha256_end,
  .sha256 = sha256,
  .crc32 = crc32,
  .image_read = image_read,
  .image_is_intact = image_is_intact,
  .image_fits = image_fits,
  .state_phase = state_phase,
  .state_mark = state_mark,
  .state_request = state_request,
  .state_is_blank = state_is_blank,
  .state_end = state_end,
  .word_is_set = word_is_set,
  .word_set = word_set,
#ifdef HAS_CHIP
  .chip_wake = chip_wake,
  .chip_run = chip_run,
  .chip_close = chip_close,
#endif
};
