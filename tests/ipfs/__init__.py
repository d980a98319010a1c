"""The Kubo store, on a real Kubo daemon that runs offline on loopback."""
