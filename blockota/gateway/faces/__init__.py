"""The protocols by which the gateway meets devices."""
