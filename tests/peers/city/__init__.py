"""The city test: sensors, gateways, validators and the cloud in network namespaces, with a ledger of three nodes."""
