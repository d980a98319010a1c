"""Simulated devices of a site: DDI clients, which a gateway updates over its network."""
