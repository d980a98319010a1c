"""Tests of the MQTT face on a cluster of three NATS nodes."""
