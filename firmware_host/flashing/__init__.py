"""Plan, write and prove the contents of a board's flash."""
