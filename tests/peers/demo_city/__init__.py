"""Peer: the whole demonstration of a city, with each service in a process of its own."""
