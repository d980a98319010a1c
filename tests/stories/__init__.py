"""Stories, end to end, on real chains and simulated boards."""
