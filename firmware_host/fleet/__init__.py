"""Simulated devices of a site, which a gateway updates over its network: clients of DDI."""
