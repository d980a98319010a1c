"""The client of the STM32 boot loader (AN3155)."""
