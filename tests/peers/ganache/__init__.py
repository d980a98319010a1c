"""Peer: ganache, a local chain."""
