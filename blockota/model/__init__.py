"""Values of the domain, and the decisions about them: pure functions over bytes and chain facts."""
