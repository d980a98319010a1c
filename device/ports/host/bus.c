/* The bus of the secure element as functions of the program that loaded this library, for example a model of the chip. */
#include "bus.h"

bool (*host_bus_wake)(void);
bool (*host_bus_write)(uint8_t first, const uint8_t *data, uint32_t size);
bool (*host_bus_read)(uint8_t *data, uint32_t size);
bool (*host_bus_wait)(uint32_t milliseconds);

void bus_wake(void) { host_bus_wake(); }
void bus_close(void) {}
bool bus_write(uint8_t first, const uint8_t *data, uint32_t size) { return host_bus_write(first, data, size); }
bool bus_read(uint8_t *data, uint32_t size) { return host_bus_read(data, size); }
void bus_wait(uint32_t milliseconds) { host_bus_wait(milliseconds); }
