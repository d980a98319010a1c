"""Tests against Go's protobuf and signature packages, which IOTRegistry uses."""
