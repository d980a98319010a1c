"""The face for SMP. The face updates boards with MCUboot on serial ports, or over UDP in a tunnel."""

from blockota.gateway.faces.smp.face import SmpFace, create

__all__ = ["SmpFace", "create"]
