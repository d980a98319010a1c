"""The append-only logs of gateways, validators and benches, and the check of their entries."""
