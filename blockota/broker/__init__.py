"""The broker, which stores and serves copies of releases under agreements on the chain."""
