"""Services for the operators of a city, who order updates for groups of devices."""
