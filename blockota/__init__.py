"""BlockOTA: firmware releases as public facts on a chain, checked before a board is written."""

__version__ = "0.1.0"
