"""Publishes releases for the vendor, and reviews proposals before the owners sign them."""
