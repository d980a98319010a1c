"""Tests against Go's protobuf and signature packages, with which IOTRegistry is written."""
