"""Content stores: they move bytes and are never believed; what is read is checked block by block."""
