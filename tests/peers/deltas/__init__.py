"""Deltas, made and applied with the library and the program detools."""
