/* What a port provides for the secure element: an I2C bus on which the chip is the only other party. */
#ifndef BLOCKOTA_BUS_H
#define BLOCKOTA_BUS_H

#include <stdbool.h>
#include <stdint.h>

enum { CHIP_ADDRESS = 0x60 }; /* 7 bits, as the chip leaves the factory */

/* Prepare the bus, and hold SDA low for at least 60 microseconds: the chip wakes. */
void bus_wake(void);

/* Leave pins and registers as after a reset. */
void bus_close(void);

/* Write `first` and then `size` bytes to the chip. False if it does not acknowledge its address or a byte. */
bool bus_write(uint8_t first, const uint8_t *data, uint32_t size);

/* Read `size` bytes, at least 2, from the chip. False if it does not acknowledge its address: it is busy or asleep. */
bool bus_read(uint8_t *data, uint32_t size);

/* Wait for at least a number of milliseconds. */
void bus_wait(uint32_t milliseconds);

#endif
