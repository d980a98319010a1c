"""Images made by imgtool, the program that signs images for MCUboot."""
