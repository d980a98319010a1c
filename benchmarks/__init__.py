"""Benchmarks that measure the time of commands and the gas of contracts, and compare both with limits."""
