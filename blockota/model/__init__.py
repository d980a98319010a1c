"""Domain values, such as releases and agreements, and decisions as pure functions of bytes and chain facts."""
