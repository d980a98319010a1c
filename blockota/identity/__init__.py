"""Signed requests between enrolled identities, the validator, and tunnels between the hosts of identities."""
