"""The registration of a device (LwM2M 1.0, section 5.3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from blockota.formats.lwm2m import instances_of

LONGEST_LIFETIME = 0xFFFFFFFF
DEFAULT_LIFETIME = 86_400
VERSIONS = ("1.0", "1.1")
_MAX_DEVICE = 1 << 63


@dataclass
class DeviceRegistration:
    """The data from a device's registration, and from its later messages and downloads.

    Attributes:
        number: number of the device, which is also its endpoint name.
        lifetime: seconds after which the registration ends, unless the device renews it.
        is_queued: whether the device is in queue mode. A device in queue mode listens only for some time after each of
            its messages.
        instances: the objects of the device and their instances.
        updated: Unix time of the registration, or of its last update.
        heard: Unix time of the device's last message; None if the device did not answer the last request.
        served: for each image, by its SHA-256: the number of bytes that were served to the device's host.
    """

    number: int
    lifetime: int = DEFAULT_LIFETIME
    is_queued: bool = False
    instances: frozenset[tuple[int, int]] = frozenset()
    updated: int = 0
    heard: int | None = None
    served: dict[bytes, int] = field(default_factory=dict)

    def update(self, query: Iterable[str], links: bytes, *, now: int) -> None:
        """Store the data of a registration or of its update.

        Args:
            query: the parameters, such as ``lt=3600`` and ``b=UQ``.
            links: the objects and their instances; empty if the objects did not change.
            now: Unix time.

        Raises:
            ValueError: a parameter or the links are not valid.
        """
        parameters = parameters_of(query)
        lifetime = parameters.get("lt", str(self.lifetime))
        if not _is_whole(lifetime) or not 0 < int(lifetime) <= LONGEST_LIFETIME:
            raise ValueError(f"the lifetime {lifetime!r:.20} is not a number of seconds from 1 to {LONGEST_LIFETIME:,}")
        instances = instances_of(links) if links else self.instances
        self.lifetime, self.instances = int(lifetime), instances
        self.updated = self.heard = now
        if "b" in parameters or "Q" in parameters:
            self.is_queued = "Q" in parameters or "Q" in parameters["b"]

    def is_over(self, now: int) -> bool:
        """Whether the lifetime has passed."""
        return now - self.updated > self.lifetime


def parameters_of(query: Iterable[str]) -> dict[str, str]:
    """Return the parameters of a query by name.

    Raises:
        ValueError: a parameter occurs twice.
    """
    found: dict[str, str] = {}
    for part in query:
        name, _, value = part.partition("=")
        if name in found:
            raise ValueError(f"the parameter {name!r:.20} occurs twice")
        found[name] = value
    return found


def device_of(endpoint: str) -> int:
    """Return the number of the device with an endpoint name.

    Raises:
        ValueError: the name is not a device's number in decimal.
    """
    if not _is_whole(endpoint) or int(endpoint) >= _MAX_DEVICE or endpoint != str(int(endpoint)):
        raise ValueError(f"the endpoint name {endpoint!r:.40} is not the number of a device")
    return int(endpoint)


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < len(str(_MAX_DEVICE)) + 1
