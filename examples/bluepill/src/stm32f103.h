/* The registers of the STM32F103 that this firmware uses (RM0008). */
#ifndef STM32F103_H
#define STM32F103_H

#include <stdint.h>

#define REGISTER(address) (*(volatile uint32_t *)(address))

#define RCC_CR REGISTER(0x40021000u)
#define RCC_CR_HSION (1u << 0)
#define RCC_CR_HSIRDY (1u << 1)
#define RCC_CR_HSITRIM_CENTRE (16u << 3)
#define RCC_CR_HSICAL (0xFFu << 8)
#define RCC_CR_PLLON (1u << 24)
#define RCC_CR_PLLRDY (1u << 25)
#define RCC_CFGR REGISTER(0x40021004u)
#define RCC_CFGR_SW_PLL (2u << 0)
#define RCC_CFGR_SWS (3u << 2)
#define RCC_CFGR_SWS_PLL (2u << 2)
#define RCC_CFGR_PLLMUL_6 (4u << 18)
#define RCC_CIR REGISTER(0x40021008u)
#define RCC_APB2RSTR REGISTER(0x4002100Cu)
#define RCC_APB2ENR REGISTER(0x40021018u)
#define RCC_APB2_GPIOA (1u << 2)
#define RCC_APB2_GPIOC (1u << 4)
#define RCC_APB2_USART1 (1u << 14)

#define GPIOA_CRH REGISTER(0x40010804u)
#define GPIOC_CRH REGISTER(0x40011004u)
#define GPIOC_ODR REGISTER(0x4001100Cu)

#define USART1_SR REGISTER(0x40013800u)
#define USART_SR_TXE (1u << 7)
#define USART1_DR REGISTER(0x40013804u)
#define USART1_BRR REGISTER(0x40013808u)
#define USART1_CR1 REGISTER(0x4001380Cu)
#define USART_CR1_TE (1u << 3)
#define USART_CR1_PCE (1u << 10)
#define USART_CR1_M (1u << 12)
#define USART_CR1_UE (1u << 13)

#define SYST_CSR REGISTER(0xE000E010u)
#define SYST_CSR_ENABLE (1u << 0)
#define SYST_CSR_TICKINT (1u << 1)
#define SYST_CSR_CLKSOURCE (1u << 2)
#define SYST_RVR REGISTER(0xE000E014u)
#define SYST_CVR REGISTER(0xE000E018u)
#define SCB_VTOR REGISTER(0xE000ED08u)

/* Flash size in KiB, programmed at the factory (RM0008 section 30.1). */
#define FLASH_SIZE_KIB (*(volatile uint16_t *)0x1FFFF7E0u)

#endif
