/* The registers of an STM32F103 that loader and agent use (RM0008, PM0075, PM0056). */
#ifndef BLOCKOTA_REGISTERS_H
#define BLOCKOTA_REGISTERS_H

#include <stdint.h>

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

/* Reset and clock control (RM0008 section 7.3). */
#define RCC_CR REGISTER(0x40021000)
#define RCC_CFGR REGISTER(0x40021004)
#define RCC_APB2ENR REGISTER(0x40021018)
#define RCC_APB1ENR REGISTER(0x4002101C)

/* Flash controller (PM0075 section 3). */
#define FLASH_ACR REGISTER(0x40022000)
#define FLASH_KEYR REGISTER(0x40022004)
#define FLASH_SR REGISTER(0x4002200C)
#define FLASH_CR REGISTER(0x40022010)
#define FLASH_AR REGISTER(0x40022014)

/* Port A and USART1 (RM0008 sections 9.2 and 27.6). */
#define GPIOA_CRH REGISTER(0x40010804)
#define USART1_SR REGISTER(0x40013800)
#define USART1_DR REGISTER(0x40013804)
#define USART1_BRR REGISTER(0x40013808)
#define USART1_CR1 REGISTER(0x4001380C)

/* System control block (PM0056 section 4.4). */
#define SCB_VTOR REGISTER(0xE000ED08)
#define SCB_AIRCR REGISTER(0xE000ED0C)

#endif
