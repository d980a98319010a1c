"""Tests on a consortium network of geth nodes that seal blocks by Clique."""
