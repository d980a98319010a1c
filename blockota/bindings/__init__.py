"""The contracts of BlockOTA and the Safe, one module each."""
