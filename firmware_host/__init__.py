"""Flash a verified image to an STM32 through its system bootloader, and verify the flash."""
