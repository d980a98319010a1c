"""Figures: what the commands and contracts cost, in seconds and gas."""
