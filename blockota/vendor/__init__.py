"""The vendor: publishes releases, and reviews what its owners sign."""
