"""Serial lines and TCP connections to a board."""
