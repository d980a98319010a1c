"""The face for constrained devices.

The face uses LwM2M 1.0 over CoAP, with the objects 3 (device) and 5 (firmware update).
"""

from blockota.gateway.faces.lwm2m.server import create

__all__ = ["create"]
