"""What is written to a board's flash, and the proof of it."""
