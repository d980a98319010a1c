"""The dialogue with one registered device.

The session reads the device's resources, and updates the device's firmware object. The session stores no state of a
delivery. After a restart of the gateway, the device's state and the delivery's state in the core determine the next
step (`next_action`). A session ends when the device registers again or deregisters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from aiocoap.numbers.codes import REQUEST_ENTITY_TOO_LARGE, Code

from blockota.errors import NoAnswerError, RefusedError
from blockota.formats.lwm2m import OPAQUE, TEXT, integer_of, text_of, value_of
from blockota.gateway.core import Core, DeviceOffer, Report
from blockota.gateway.face import FaceContext
from blockota.gateway.faces.lwm2m.client import DeviceClient, Path
from blockota.gateway.faces.lwm2m.firmware import (
    PUSH_ONLY,
    REFUSALS,
    UNABLE_TO_PULL,
    FirmwareAction,
    FirmwareState,
    FirmwareView,
    failure_of,
    is_lost,
    is_running_confirmed,
    is_waiting_for_blocks,
    next_action,
)
from blockota.gateway.faces.lwm2m.registration import DeviceRegistration
from blockota.model.delivery import Stage

PACKAGE, URI, UPDATE, STATE, RESULT = (5, 0, 0), (5, 0, 1), (5, 0, 2), (5, 0, 3), (5, 0, 5)
OWN_OBJECT = 26241
"""BlockOTA's own object, in the range that the OMA leaves to vendors. Resource 0 is the SHA-256 of the running image, 1
the nonce, 2 the statement."""
IMAGE, NONCE, STATEMENT = (OWN_OBJECT, 0, 0), (OWN_OBJECT, 0, 1), (OWN_OBJECT, 0, 2)
_CHANGING: dict[str, tuple[Path, Callable[..., Any]]] = {"state": (STATE, integer_of), "result": (RESULT, integer_of)}
_ALL: dict[str, tuple[Path, Callable[..., Any]]] = {
    **_CHANGING,
    "version": ((3, 0, 3), text_of),
    "hardware": ((3, 0, 18), text_of),
    "package_version": ((5, 0, 7), text_of),
    "delivery": ((5, 0, 9), integer_of),
}
_OPAQUE = {"image": IMAGE, "statement": STATEMENT}
_READINGS = 3
"""The number of times that resources are read from a device whose version changes during the reading."""
_LONGEST_TEXT = 64
_SHA256_SIZE = 32
_REPORTED_BLOCKS = 64
"""The number of pushed blocks after which the progress is recorded."""


@dataclass(frozen=True)
class SessionSettings:
    """The settings of the dialogue with LwM2M devices.

    Attributes:
        images: the beginning of the URIs of all images; the SHA-256 of an image is appended.
        poll: seconds between two reads while a device downloads.
        trial: seconds between two reads while a device updates.
        awake: seconds for which a device in queue mode listens after its last message.
        block_exponent: size of pushed blocks as an exponent of CoAP: 2 means 64 bytes, and 6 means 1024 bytes.
    """

    images: str
    poll: float = 5
    trial: float = 60
    awake: int = 93
    block_exponent: int = 2


class DeviceSession:
    """The dialogue with one device, from one registration to the next.

    Args:
        core: the gateway's core.
        context: the objects that the gateway's service passes to the face.
        settings: the timing of requests, and the size of blocks.
        client: sends requests to the device.
        registration: the device's registration.

    Attributes:
        pushing: the job whose image is being pushed, or whose push was interrupted; None without a push. If the device
            registers again during a push, the next session takes over this value.
    """

    def __init__(
        self,
        core: Core,
        context: FaceContext,
        settings: SessionSettings,
        client: DeviceClient,
        registration: DeviceRegistration,
    ) -> None:
        self._core, self._context, self._settings = core, context, settings
        self._client, self._registration = client, registration
        self._number = registration.number

        self._view = FirmwareView()
        self._reported: Report | None = None
        self._sent: int | None = None
        self._pushes = False
        self._pushed: int | None = None
        self.pushing: int | None = None
        self._is_new = self._is_anew = True
        self._woken = asyncio.Event()

    @property
    def remote(self) -> Any:
        """The address from which the device registered."""
        return self._client.remote

    def wake(self, *, anew: bool = False) -> None:
        """Take the next step without waiting for the pause to end.

        Args:
            anew: whether to read all resources again, because the device has sent a message.
        """
        self._is_anew |= anew
        self._woken.set()

    async def run(self) -> None:
        """Update the device until the task is cancelled."""
        try:
            while True:
                self._woken.clear()
                pause = await self._step()
                try:
                    async with asyncio.timeout(pause):
                        await self._woken.wait()
                except TimeoutError:
                    pass
        finally:
            self._client.close()

    async def _step(self) -> float | None:
        """Take one step, and return the seconds until the next step; None means to wait for a call of `wake`."""
        device = self._core.device(self._number)
        is_over = self._registration.is_over(self._core.time())
        if device is None or device.is_banned or is_over or not self._is_awake():
            return None
        try:
            return await self._proceed()
        except NoAnswerError as error:
            # The device sleeps, restarts or is gone. It will register or update its registration again.
            self._registration.heard = None
            self._context.log("lwm2m", "no answer", device=self._number, why=error.why)
            return None
        except ValueError as error:
            await self._core.warn(self._number, f"the device's answer is refused: {error}")
        except RefusedError as error:
            self._context.log("lwm2m", "refused", device=self._number, why=str(error))
        # Values that were read while a device restarted may belong to different images.
        return self._settings.trial if self._core.state(self._number).stage is Stage.TRIAL else None

    def _is_awake(self) -> bool:
        heard = self._registration.heard
        if heard is None:
            return False
        return not self._registration.is_queued or self._core.time() - heard < self._settings.awake

    async def _proceed(self) -> float | None:
        # (1) Read the device. All resources are read if it has sent a message, or may run another version.
        is_anew, self._is_anew = self._is_anew, False
        # A device on trial may end its update, and run another version, without a message.
        is_on_trial = self._core.state(self._number).stage is Stage.TRIAL
        await self._refresh(_ALL if is_anew or is_on_trial else _CHANGING)

        # (2) Report what has changed to the core.
        if self._is_new and STATE[:2] in self._registration.instances:
            await self._client.observe(STATE, self.wake)
        await self._conclude(is_anew=is_anew)
        self._is_new = False

        # (3) Take the next step towards the offered image.
        offer, delivery = self._core.offer(self._number), self._core.state(self._number)
        action = next_action(self._view, offer, delivery, now=self._core.time())
        if action is FirmwareAction.RESET:
            await self._client.write(URI, b"")
        elif offer is not None and action is FirmwareAction.SEND:
            if self._sent == offer.job and not self._pushes:
                return self._settings.trial  # the device ignored the URI; it is written again at its next registration
            await self._send(offer)
        elif offer is not None and action is FirmwareAction.EXECUTE:
            await self._execute(offer)
        elif offer is not None and self._view.state == FirmwareState.DOWNLOADING:
            await self._note_progress(offer)
        else:
            return self._settings.trial if action is FirmwareAction.WATCH else None
        return self._settings.poll

    async def _refresh(self, resources: dict[str, tuple[Path, Callable[..., Any]]]) -> None:
        """Read resources. A resource that the device does not have keeps its default value."""
        found = await self._read_all(resources)
        # A device that restarts meanwhile answers with the version of one image and the hash of another.
        tries = 0
        while found.get("image") and await self._read(*_ALL["version"]) != found["version"]:
            tries += 1
            if tries == _READINGS:
                raise ValueError(f"{_shown(_ALL['version'][0])}: the value changed while the resources were read")
            found = await self._read_all(resources)

        known = {name: value for name, value in found.items() if value is not None}
        self._view = replace(self._view if resources is _CHANGING else FirmwareView(), **known)
        if len(self._view.image or bytes(_SHA256_SIZE)) != _SHA256_SIZE:
            raise ValueError(f"{_shown(IMAGE)}: it is not a SHA-256")
        self._registration.heard = self._core.time()

    async def _read_all(self, resources: dict[str, tuple[Path, Callable[..., Any]]]) -> dict[str, Any]:
        """Return the values of resources by name; None for a resource that the device does not have."""
        found: dict[str, Any] = {}
        for name, (path, decode) in resources.items():
            found[name] = await self._read(path, decode)
        if resources is _ALL and IMAGE[:2] in self._registration.instances:
            await self._client.write(NONCE, self._core.nonce(self._number), OPAQUE)
            for name, path in _OPAQUE.items():
                found[name] = await self._read(path, value_of, accept=OPAQUE)
        return found

    async def _read(self, path: Path, decode: Callable[..., Any], *, accept: int = TEXT) -> Any:
        """Read a resource; return None if the device does not have the resource.

        Raises:
            NoAnswerError: the device does not answer.
            ValueError: the value does not have the resource's type, or is too long.
        """
        if path[:2] not in self._registration.instances:
            return None
        try:
            answer = await self._client.read(path, accept=accept)
            value = answer and decode(answer.payload, answer.content_format, path[-1])
            if isinstance(value, str) and len(value) > _LONGEST_TEXT:
                raise ValueError(f"the value is longer than {_LONGEST_TEXT} characters")  # noqa: TRY301 - it gets its path below
        except ValueError as error:
            raise ValueError(f"{_shown(path)}: {error}") from error
        return value

    async def _conclude(self, *, is_anew: bool) -> None:
        """Pass the device's reports to the core: first a failed try, then the running image."""
        view, number = self._view, self._number
        delivery = self._core.state(number)

        # (1) A failed try. A device that cannot pull from the URI gets the image pushed, which is not a failure.
        failure = failure_of(view, self._core.offer(number), delivery)
        if failure and view.result in UNABLE_TO_PULL and self._pushed != delivery.job:
            self._pushes, failure = True, ""
        if failure:
            is_refusal = view.result in REFUSALS
            await self._core.outcome(number, delivery.job, succeeded=False, reason=failure, is_refusal=is_refusal)

        # (2) The running image, if the device has sent a message or the report has changed.
        report = Report(
            image=view.image,
            version=view.version or None,
            is_confirmed=is_running_confirmed(view, delivery),
            statement=view.statement or None,
            hardware=view.hardware,
        )
        if (view.version or view.image) and (is_anew or report != self._reported):
            self._reported = report
            await self._core.reported(number, report)

        # (3) A try that the device has forgotten: it restarted, or the transfer was interrupted.
        delivery = self._core.state(number)
        if self._is_new and not self._pushes and is_lost(view, delivery):
            reason = "the device registered again without the image"
            await self._core.outcome(number, delivery.job, succeeded=False, reason=reason)
        elif self.pushing == delivery.job and is_waiting_for_blocks(view, delivery):
            self.pushing = None
            reason = "the transfer of the image was broken off"
            await self._core.outcome(number, delivery.job, succeeded=False, reason=reason)

    async def _send(self, offer: DeviceOffer) -> None:
        """Write the URI of the image, or push the image if the device cannot pull."""
        ways = [self._write_uri, self._push]
        # The device supports only the push, or has failed to pull the image.
        if self._pushes or self._view.delivery == PUSH_ONLY:
            ways.reverse()

        codes = []
        for way in ways:
            code = await way(offer)
            if code is None or code.is_successful():
                self._sent, self._pushes = offer.job, False
                return
            codes.append(code)

        reason = f"the device refuses the URI and the image: {' and '.join(str(code.dotted) for code in codes)}"
        is_refusal = REQUEST_ENTITY_TOO_LARGE in codes
        await self._core.outcome(self._number, offer.job, succeeded=False, reason=reason, is_refusal=is_refusal)

    async def _write_uri(self, offer: DeviceOffer) -> Code:
        code = await self._client.write(URI, f"{self._settings.images}{offer.image.hex()}".encode(), TEXT)
        if code.is_successful():
            await self._core.offered(self._number, offer.job)
        return code

    async def _push(self, offer: DeviceOffer) -> Code | None:
        """Write the image block by block.

        Returns None if the offer was withdrawn during the transfer.

        Raises:
            NoAnswerError: the device does not answer.
        """
        self._pushed = self.pushing = offer.job
        exponent, sent, blocks = self._settings.block_exponent, 0, 0
        image = await asyncio.to_thread(offer.path.read_bytes)
        while True:
            size = 1 << (exponent + 4)
            block = image[sent : sent + size]
            is_last = sent + size >= len(image)
            place = (sent // size, not is_last, exponent)
            answer = await self._client.write_block(PACKAGE, block, place)
            if not answer.code.is_successful():
                self.pushing = None
                if blocks:  # the device forgets the blocks before
                    await self._client.write(URI, b"")
                return answer.code

            if blocks == 0:
                await self._core.offered(self._number, offer.job)
            if is_last:
                self.pushing = None
                return answer.code
            # The device may ask for smaller blocks in its first answer (RFC 7959, section 2.3).
            if answer.opt.block1 is not None and blocks == 0:
                exponent = min(exponent, answer.opt.block1.size_exponent)
            sent, blocks = sent + len(block), blocks + 1
            if blocks % _REPORTED_BLOCKS == 0 and not await self._goes_on(offer, sent):
                return None

    async def _goes_on(self, offer: DeviceOffer, sent: int) -> bool:
        """Record the progress of a push. If the offer was withdrawn, cancel the push and return False."""
        self._registration.heard = self._core.time()
        if await self._core.progress(self._number, offer.job, sent):
            return True
        self.pushing = None
        await self._client.write(URI, b"")
        return False

    async def _note_progress(self, offer: DeviceOffer) -> None:
        """Record the progress of a download when it begins, and when the device's host has received more blocks."""
        received = self._registration.served.get(offer.image, 0)
        delivery = self._core.state(self._number)
        if delivery.stage is Stage.OFFERED or received > delivery.received:
            await self._core.progress(self._number, offer.job, received)

    async def _execute(self, offer: DeviceOffer) -> None:
        code = await self._client.execute(UPDATE)
        if code.is_successful():
            await self._core.outcome(self._number, offer.job, succeeded=True)
            return
        reason = f"the device refuses to install the image: {code.dotted}"
        await self._core.outcome(self._number, offer.job, succeeded=False, reason=reason)


def _shown(path: Path) -> str:
    return "/" + "/".join(map(str, path))
