"""What the operators of a city do: order updates for groups of devices."""
