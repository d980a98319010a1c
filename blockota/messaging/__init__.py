"""Messages between gateways, devices and management systems: topics, documents, and the MQTT client."""
