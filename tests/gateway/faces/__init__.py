"""The faces of a gateway."""
