/* The host: a flash of 13 KiB in memory, in pages of 512 bytes, in which every operation can fail. */
#ifndef BLOCKOTA_MAP_H
#define BLOCKOTA_MAP_H

#include <stdint.h>

#define PAGE_SIZE 512u
#define PROGRAM_UNIT 4u
#define LOADER 0x00000000u
#define LOADER_SIZE 0x1000u
#define SLOT_0 0x00001000u
#define SLOT_1 0x00002000u
#define SLOT_SIZE 0x1000u
#define SCRATCH 0x00003000u
#define CYCLE STATE
#define STATE 0x00003200u
#define JOURNAL_FORWARD 0x00003280u
#define JOURNAL_BACK 0x000032E0u
#define JOURNAL_SIZE 0x60u
#define FLASH_SIZE 0x3400u
#define RAM 0x20000000u
#define BOOT_REPORT 0x20003FF0u

extern uint8_t host_flash[FLASH_SIZE];
extern struct boot_report host_report;

#define port_flash(address) ((const uint8_t *)host_flash + (address))
#define LAST_BOOT (&host_report)

#endif
