"""Bytes and the values that they encode: content addresses, CAR, ABI, firmware files."""
