"""The protocols by which devices communicate with the gateway."""
