"""A core for the tests of the faces: it records calls, and takes what it answers from dictionaries."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from pathlib import Path
from typing import Any

from blockota.errors import AccessRefusedError
from blockota.formats.cid import CID, RAW
from blockota.gateway.core import Core, DeviceOffer, Report
from blockota.gateway.facts import KnownDevice
from blockota.model.delivery import Delivery
from blockota.model.release import Version
from blockota.model.target import Component
from tests.support.receipts import RELEASE

COMPONENT = Component(RELEASE.chain_id, RELEASE.contract, RELEASE.product)
TOKEN = "t0ken"  # noqa: S105 - of devices that do not exist
SHARED_KEY = bytes(range(32))
DEVICES = (256, 257, 258)
SPEC_HASH = hashlib.sha256(b"thermo2").digest()


def device_offer(folder: Path, image: bytes = b"image", *, version: str = "1.1.0", job: int = 7) -> DeviceOffer:
    """Write an image to a file, and return the offer of it."""
    digest = hashlib.sha256(image).digest()
    path = folder / digest.hex()
    path.write_bytes(image)
    return DeviceOffer(
        job=job,
        component=COMPONENT,
        release=COMPONENT.release(Version.parse(version)),
        image=digest,
        size=len(image),
        path=path,
        container="opaque",
        cid=str(CID(RAW, digest)),
        nonce=bytes(16),
    )


class FakeCore(Core):
    """A core without any rule.

    Attributes:
        devices: the devices by number.
        now_offered: the offers by device.
        calls: the names and arguments of all calls that change the state, in order.
        tokens: the token of each device.
    """

    def __init__(self, *numbers: int) -> None:
        self.devices = {
            number: KnownDevice(number, f"acme/thermo2/SN-{number}", SPEC_HASH) for number in numbers or DEVICES
        }
        self.now_offered: defaultdict[int, list[DeviceOffer]] = defaultdict(list)
        self.calls: list[tuple[Any, ...]] = []
        self.tokens = dict.fromkeys(self.devices, TOKEN)

    def device(self, number: int) -> KnownDevice | None:
        """Return a device."""
        return self.devices.get(number)

    def authenticate(self, face: str, number: int, secret: str | bytes) -> KnownDevice:
        """Accept the device's token at every face."""
        device = self.devices.get(number)
        text = secret.decode() if isinstance(secret, bytes) else secret
        if device is None or device.is_banned or self.tokens[number] != text:
            raise AccessRefusedError(f"device {number} is refused at {face}")
        return device

    def shared_key(self, face: str, number: int) -> bytes | None:
        """Return one key for every device and face."""
        device = self.devices.get(number)
        return SHARED_KEY if face and device and not device.is_banned else None

    def offer(self, number: int, product: str | None = None) -> DeviceOffer | None:
        """Return the first offer of a product; without a product, the first that is not a configuration."""
        found = (
            one
            for one in self.now_offered[number]
            if (not one.is_configuration if product is None else one.component.product == product)
        )
        return next(found, None)

    def offers(self, number: int) -> list[DeviceOffer]:
        """Return all offers."""
        return list(self.now_offered[number])

    def state(self, number: int, product: str | None = None) -> Delivery:
        """Return an empty state."""
        if number not in self.devices:
            raise AccessRefusedError(f"device {number} has no {product}")
        return Delivery()

    def nonce(self, number: int) -> bytes:
        """Return the device's number."""
        return number.to_bytes(16)

    async def reported(self, number: int, report: Report) -> bool:
        """Record the call."""
        return self._called("reported", number, report)

    async def offered(self, number: int, job: int) -> bool:
        """Record the call."""
        return self._called("offered", number, job)

    async def progress(self, number: int, job: int, received: int = 0) -> bool:
        """Record the call."""
        return self._called("progress", number, job, received)

    async def outcome(
        self, number: int, job: int, *, succeeded: bool, reason: str = "", is_refusal: bool = False
    ) -> bool:
        """Record the call."""
        return self._called("outcome", number, job, succeeded, reason, is_refusal)

    async def postponed(
        self, number: int, job: int, *, until: int, reason: str = "", statement: bytes | None = None
    ) -> bool:
        """Record the call."""
        return self._called("postponed", number, job, until, reason, statement)

    async def event(self, number: int, *, text: str, statement: bytes | None = None, counter: int | None = None) -> int:
        """Record the call, and return the number of events before it."""
        before = len([call for call in self.calls if call[0] == "event"])
        self._called("event", number, text, statement, counter)
        return before

    async def warn(self, number: int | None, reason: str) -> None:
        """Record the call."""
        self.calls.append(("warn", number, reason))

    def _called(self, name: str, number: int, *values: Any) -> bool:
        if number not in self.devices:
            raise AccessRefusedError(f"device {number} is refused")
        self.calls.append((name, number, *values))
        jobs = {offer.job for offer in self.now_offered[number]}
        return name in {"reported", "event"} or values[0] in jobs
