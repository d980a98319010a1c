"""Peer: safe-eth-py, the Python library of Safe."""
