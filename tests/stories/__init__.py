"""End-to-end tests on real chains and simulated boards."""
