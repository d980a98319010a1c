"""One Ethereum chain: its node, its transactions, its newest confirmed block."""
