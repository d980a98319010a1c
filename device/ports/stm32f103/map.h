/* STM32F103x8: 64 KiB of flash in pages of 1 KiB, 20 KiB of RAM (PM0075; data sheet DS5319). */
#ifndef BLOCKOTA_MAP_H
#define BLOCKOTA_MAP_H

#define PAGE_SIZE 1024u
#define PROGRAM_UNIT 4u
#define LOADER 0x08000000u
#define LOADER_SIZE 0x1000u
#define SLOT_0 0x08001000u
#define SLOT_1 0x08008000u
#define SLOT_SIZE 0x7000u
#define SCRATCH 0x0800F000u
#define EVENTS 0x0800F400u
#define EVENTS_SIZE 0x800u
/* The state page also has both journals. */
#define CYCLE STATE
#define STATE 0x0800FC00u
#define JOURNAL_FORWARD 0x0800FC80u
#define JOURNAL_BACK 0x0800FDD0u
#define JOURNAL_SIZE 0x150u
#define RAM 0x20000000u
#define BOOT_REPORT 0x20004FF0u

#define BOARD_NAME "stm32f103"
/* The unique id of the chip, which its maker assigned. */
#define DEVICE_ID 0x1FFFF7E8u
#define DEVICE_ID_SIZE 12u

#define port_flash(address) ((const uint8_t *)(uintptr_t)(address))

#endif
