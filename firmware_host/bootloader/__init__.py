"""The client of the STM32 bootloader (AN3155)."""
