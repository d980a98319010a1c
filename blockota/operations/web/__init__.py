"""The pages of the operations room."""
