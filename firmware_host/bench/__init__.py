"""The bench: a technician flashes boards over their serial ports."""
