"""Tests with Debian's SWUpdate, a client of hawkBit's device interface."""
