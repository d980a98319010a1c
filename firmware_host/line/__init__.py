"""Bytes to and from a board: serial ports, TCP connections, deadlines."""
