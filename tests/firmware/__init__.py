"""Tests of the bench: the client, the simulated board, and tools that we did not write."""
