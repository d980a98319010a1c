"""Checks a device's messages: the reported image, the level of evidence, and the freshness of signed statements.

Pure. A refused message raises a `RefusedError`, whose `why` becomes a warning in the log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from blockota.errors import RefusedError
from blockota.formats.cose import SignedStatement
from blockota.formats.p256 import SIGNATURE_SIZE
from blockota.gateway.exchange import Report
from blockota.gateway.facts import KnownDevice
from blockota.gateway.planning import Slot
from blockota.gateway.state import DeviceRecord
from blockota.model.boot_event import SignedBootEvent, is_boot_event
from blockota.model.delivery import Delivery, Reported
from blockota.model.device_event import EVENT_TYPE, DeviceEvent
from blockota.model.receipt import RUNS, DeviceStatement, EvidenceLevel

FLASH_READER = "an3155"
"""The face that reads the flash of its devices itself. Only this face reports at level C."""
_MAX_HARDWARE, _MAX_UNIQUE_ID = 64, 32


@dataclass(frozen=True)
class JudgedReport:
    """An accepted report.

    Attributes:
        record: the device's record with the facts from the report.
        event: the report of the running image; None if the device did not name an image.
        warning: the text of a warning about an unusual fact in the report; empty for a normal report.
    """

    record: DeviceRecord
    event: Reported | None = None
    warning: str = ""


@dataclass(frozen=True)
class Judge:
    """Checks the messages of a device.

    Attributes:
        device: the device.
        record: the stored facts about the device.
        nonces: the nonces that the device's next statement may contain.
    """

    device: KnownDevice
    record: DeviceRecord
    nonces: Sequence[bytes]

    def report(self, report: Report, slot: Slot, delivery: Delivery) -> JudgedReport:
        """Check a report about a component.

        Args:
            report: the report.
            slot: the component.
            delivery: the state of the component.

        Raises:
            RefusedError: the report contradicts itself or the chain's facts, or its statement is not valid.
        """
        record = self._with_properties(report)
        image = self._image(report, slot, delivery.running)
        if image is None:
            if report.version is None:
                return JudgedReport(record)
            unknown = f"the device states the version {report.version:.60}, which no release has"
            return JudgedReport(record, warning=unknown)
        # Only a face that has read the flash itself may report level C.
        if report.level is EvidenceLevel.C and self.device.face != FLASH_READER:
            raise _refused(f"the face {self.device.face or '?'} cannot read the device's flash")

        # An image on trial makes no log entry, so its statement is not consumed and can be sent again.
        raw = report.statement if report.is_confirmed and report.level is not EvidenceLevel.C else None
        counter = self._counter(raw, image, report.digest) if raw is not None else None
        level = EvidenceLevel.C if report.level is EvidenceLevel.C else EvidenceLevel.B
        event = Reported(
            image=image,
            release=slot.recognise(image, delivery.target),
            level=level if counter is None else EvidenceLevel.A,
            is_confirmed=report.is_confirmed,
            counter=counter,
            statement=raw,
            is_reinstalled=report.is_reinstalled,
        )
        return JudgedReport(record if counter is None or raw is None else after(record, counter, raw), event)

    def is_repeated(self, report: Report, slot: Slot, delivery: Delivery) -> bool:
        """Whether a report repeats the last accepted statement, for example because the gateway's answer was lost.

        Raises:
            RefusedError: the report contains the statement of the last report, but names another image.
        """
        raw = report.statement
        if raw is None or not report.is_confirmed or statement_digest(raw) != self.record.last:
            return False
        if is_boot_event(raw):
            return True

        signed = SignedStatement.decode(raw)
        if signed.type != RUNS:
            return False
        if DeviceStatement.decode(signed.payload).image != self._image(report, slot, delivery.running):
            raise _refused("the statement is replayed: it is about another image than the device reports")
        return True

    def statement(self, raw: bytes, kind: str, image: bytes) -> DeviceStatement:
        """Check a signed statement, and decode it.

        Args:
            raw: the COSE_Sign1 structure.
            kind: the type that the statement must have.
            image: SHA-256 of the image that the statement must name.

        Raises:
            RefusedError: the statement is not from this device, is about another image, or is not fresh.
        """
        try:
            signed = SignedStatement.decode(raw)
            statement = DeviceStatement.decode(signed.payload)
        except ValueError as error:
            raise _refused(f"the device's statement cannot be read: {error}") from error

        # (1) The device signed it, and signed a statement of this type.
        self._require_signature(signed)
        if signed.type != kind:
            raise _refused(f"the statement has the type {signed.type!r:.60}, not {kind}")

        # (2) It is new. A replayed statement has an old counter, or an expired nonce.
        self._require_fresh(statement.counter)
        if statement.nonce not in self.nonces:
            raise _refused("the statement contains another nonce than the gateway's")
        # (3) It is about the image that the device reports.
        if statement.image != image:
            raise _refused("the device signed another image than it reports")
        return statement

    def _counter(self, raw: bytes, image: bytes, digest: bytes | None) -> int:
        """Check the signed statement of a report, and return its counter.

        Args:
            raw: a COSE_Sign1 structure, or a signed event of a board.
            image: SHA-256 of the reported image.
            digest: MCUboot digest of this image; None if the face does not report the digest.
        """
        if not is_boot_event(raw):
            return self.statement(raw, RUNS, image).counter
        try:
            signed = SignedBootEvent.decode(raw)
        except ValueError as error:
            raise _refused(f"the device's event cannot be read: {error}") from error

        self._require_signature(signed)
        self._require_fresh(signed.event.number)
        if not signed.event.shows_running_image or signed.event.digest != digest:
            raise _refused("the device signed another image than it reports")
        return signed.event.number

    def _require_signature(self, signed: SignedStatement | SignedBootEvent) -> None:
        """Require the device's signature. All later refusals are therefore about statements that this device signed."""
        if self.device.key is None:
            raise _refused("the device signed, and it has no key on record")
        if not signed.is_signed_by(self.device.key.data):
            raise _refused("the signature of the statement does not belong to the device's key on record")

    def _require_fresh(self, counter: int) -> None:
        """Require a counter above the counter of the newest accepted statement."""
        if counter <= self.record.counter:
            raise _refused(f"the statement is replayed: its counter is {counter}, after {self.record.counter}")

    def _image(self, report: Report, slot: Slot, running: bytes | None) -> bytes | None:
        """Return the reported image, after checking that it matches the reported version."""
        if report.version is None:
            return report.image
        if report.image is None:
            return slot.image_of(report.version, running)
        # An image that no release has cannot contradict a version.
        versions = sorted(str(release.version) for release in slot.releases.get(report.image, ()))
        if versions and report.version not in versions:
            stated = f"the device states the version {report.version:.60}"
            raise _refused(f"{stated}, and reports the image of {' or '.join(versions)}")
        return report.image

    def _with_properties(self, report: Report) -> DeviceRecord:
        """Return the device's record with the reported hardware revision and unique id."""
        record, hardware, unique_id = self.record, report.hardware, report.unique_id
        if hardware is not None:
            if not (0 < len(hardware) <= _MAX_HARDWARE and hardware.isprintable()):
                raise _refused(f"the hardware revision is not a text of 1 to {_MAX_HARDWARE} printable characters")
            record = replace(record, hardware=hardware)

        if unique_id is not None:
            if not 0 < len(unique_id) <= _MAX_UNIQUE_ID:
                raise _refused(f"the unique id has {len(unique_id)} bytes, not 1 to {_MAX_UNIQUE_ID}")
            record = replace(record, unique_id=unique_id)

        if report.image is not None and len(report.image) != hashlib.sha256().digest_size:
            raise _refused(f"the hash of the image has {len(report.image)} bytes")
        return record


def check_event(device: KnownDevice, raw: bytes, text: str, counter: int | None) -> None:
    """Check that this device signed a statement about this event.

    Raises:
        RefusedError: the statement is malformed, or has another signer, text or number.
    """
    if device.key is None:
        raise _refused("the device signed an event, and it has no key on record")
    signed: SignedStatement | SignedBootEvent
    try:
        if is_boot_event(raw):
            signed = SignedBootEvent.decode(raw)
            stated = (EVENT_TYPE, signed.event.number, signed.event.text)
        else:
            signed = SignedStatement.decode(raw)
            event = DeviceEvent.of_payload(signed.payload)
            stated = (signed.type, event.seq, event.text)
    except ValueError as error:
        raise _refused(f"the device's statement about an event cannot be read: {error}") from error

    if not signed.is_signed_by(device.key.data):
        raise _refused("the signature of the event does not belong to the device's key on record")
    if stated != (EVENT_TYPE, counter, text):
        raise _refused("the device signed another event than it sends")


def after(record: DeviceRecord, counter: int, raw: bytes) -> DeviceRecord:
    """Return the device's record, updated with the counter and the hash of an accepted statement."""
    last = statement_digest(raw)
    return replace(record, counter=counter, statements=record.statements + 1, last=last)


def statement_digest(raw: bytes) -> bytes:
    """Return the hash by which a repeated statement is recognised.

    A board makes a new signature each time an event is read. The hash of a board's event therefore leaves out the
    signature.
    """
    return hashlib.sha256(raw[:-SIGNATURE_SIZE] if is_boot_event(raw) else raw).digest()


def _refused(why: str) -> RefusedError:
    return RefusedError("the device's message is refused", why=why)
