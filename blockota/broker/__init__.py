"""The broker: keeps copies of releases under agreements on the chain."""
