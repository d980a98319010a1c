"""Tests that take minutes; `make deep` runs these tests, and `make test` does not."""
