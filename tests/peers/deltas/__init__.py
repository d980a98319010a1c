"""Tests with deltas that the library and the program detools make and apply."""
