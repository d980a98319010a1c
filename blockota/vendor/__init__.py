"""For vendors: publishes releases, and reviews proposals before owners sign them."""
