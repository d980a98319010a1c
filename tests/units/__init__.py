"""Tests of the library's modules, one by one: pure ones on values, the others on real files and a real chain."""
