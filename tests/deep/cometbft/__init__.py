"""A consortium network with finality: four validators of CometBFT that run the EVM."""
