"""Tests of `blockota.operations`."""
