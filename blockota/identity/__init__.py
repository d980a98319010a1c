"""Services of enrolled identities: tunnels from the registry."""
