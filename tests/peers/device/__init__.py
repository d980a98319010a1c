"""The programs of the device, compiled for microcontrollers and for this computer."""
