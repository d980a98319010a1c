"""Tests on a consortium's network with finality: four CometBFT validators that run the EVM."""
