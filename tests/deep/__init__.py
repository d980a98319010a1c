"""Tests that take minutes; `make deep` names their files, and `make test` does not look here."""
