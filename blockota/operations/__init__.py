"""The work of a city's operators: they order updates for groups of devices."""
