"""Tests; see CONTRIBUTING for what lies where."""
