"""The face for constrained devices: LwM2M 1.0 over CoAP, the objects 3 (device) and 5 (firmware update)."""

from blockota.gateway.faces.lwm2m.server import create

__all__ = ["create"]
