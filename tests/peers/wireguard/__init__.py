"""Tests with WireGuard, iproute2 and nftables, in network namespaces."""
