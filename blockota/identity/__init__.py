"""The services of enrolled identities: signed requests, validators, and tunnels from the registry."""
