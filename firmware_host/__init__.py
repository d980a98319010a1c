"""The bench: brings a proven image to an STM32 through its system bootloader, and proves the flash."""
