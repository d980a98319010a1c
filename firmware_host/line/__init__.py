"""Move bytes to and from a board over serial ports and TCP connections, with deadlines."""
