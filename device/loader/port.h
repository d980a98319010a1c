/* What a board provides: six functions, and the flash map of its map.h.
 *
 * Addresses are absolute. Flash is read in place through port_flash(), which map.h defines; on a microcontroller it
 * returns its argument as a pointer. Every flash operation may be cut off by a power failure; a page that was being
 * erased or programmed then has any content. */
#ifndef BLOCKOTA_PORT_H
#define BLOCKOTA_PORT_H

#include <stdbool.h>
#include <stdint.h>

#include "map.h"

/* Erase the page that begins at `address`: all its bytes become 0xFF. False if the flash controller reports an error. */
bool port_erase(uint32_t address);

/* Program `size` bytes, a multiple of PROGRAM_UNIT, at `address`, a multiple of PROGRAM_UNIT; `data` is aligned to a
 * word. Programming only clears bits; a word may be programmed a second time with zeros. False after an error. */
bool port_program(uint32_t address, const void *data, uint32_t size);

/* Start the program whose vector table is at `vector_table`, with the registers as after a reset. */
_Noreturn void port_start_image(uint32_t vector_table);

/* Reset the microcontroller. */
_Noreturn void port_reset(void);

/* Return the next byte of the serial line; -1 if none has arrived. May sleep until one arrives. */
int port_receive(void);

/* Send one byte on the serial line; wait until the transmitter takes it. */
void port_send(uint8_t byte);

#endif
