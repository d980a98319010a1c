/* BBC micro:bit: nRF51822 with 256 KiB of flash in pages of 1 KiB, 16 KiB of RAM (nRF51 Reference Manual 3.0). */
#ifndef BLOCKOTA_MAP_H
#define BLOCKOTA_MAP_H

#define PAGE_SIZE 1024u
#define PROGRAM_UNIT 4u
#define LOADER 0x00000000u
#define LOADER_SIZE 0x4000u
#define SLOT_0 0x00004000u
#define SLOT_1 0x0001E000u
#define SLOT_SIZE 0x1A000u
#define SCRATCH 0x00038000u
#define CYCLE JOURNAL_FORWARD
#define JOURNAL_FORWARD 0x00038400u
#define JOURNAL_BACK 0x00038C00u
#define JOURNAL_SIZE 0x800u
#define STATE 0x00039400u
#define EVENTS 0x00039800u
#define EVENTS_SIZE 0x800u
#define RAM 0x20000000u
#define BOOT_REPORT 0x20003FF0u

#define BOARD_NAME "microbit"
/* The unique id of the chip, which its maker assigned. */
#define DEVICE_ID 0x10000060u
#define DEVICE_ID_SIZE 8u

#define port_flash(address) ((const uint8_t *)(uintptr_t)(address))

#endif
