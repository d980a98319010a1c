"""A consortium network: geth nodes that seal by Clique."""
