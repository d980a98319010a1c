"""What an entry of a log proves. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from blockota.errors import RefusedError
from blockota.formats.cose import SignedStatement
from blockota.model.boot_event import SignedBootEvent, is_boot_event
from blockota.model.receipt import EntryKind, EvidenceLevel, LogEntry


@dataclass(frozen=True)
class Evidence:
    """The facts that an entry proves, if the log contains the entry.

    Attributes:
        kind: the kind of entry that the evidence supports.
        level: the evidence level that is proven; None if the entry is not about an image.
        proves: what the entry proves, as a clause.
        is_signed: whether the entry contains a signature of the device that is valid under a trusted key.
        remark: why the entry proves less than it states; empty if all statements are proven.
    """

    kind: EntryKind
    level: EvidenceLevel | None
    proves: str
    is_signed: bool = False
    remark: str = ""


_PROVES = {
    None: "the keeper of the log states it",
    EvidenceLevel.A: "the device signed the SHA-256 of the image with its own key",
    EvidenceLevel.B: "the keeper of the log states that the device reported the image",
    EvidenceLevel.C: "the keeper of the log states that it read the device's flash",
}
_PROVES_BY_EVENT = "the device signed the MCUboot digest of its image with its own key"
_PROVES_OF_EVENT = {
    None: _PROVES[None],
    EvidenceLevel.A: "the device signed the event with its own key",
    EvidenceLevel.B: "the keeper of the log states that the device reported the event",
}


def judge(entry: LogEntry, device_key: bytes | None) -> Evidence:
    """Decide what an entry proves.

    Args:
        entry: the entry.
        device_key: the trusted key of the entry's device (x and y); None without a trusted key.

    Raises:
        RefusedError: the device's signature does not verify under the key.
        ValueError: the key is not a point of P-256.
    """
    proves: Mapping[EvidenceLevel | None, str] = _PROVES_OF_EVENT if entry.kind is EntryKind.EVENT else _PROVES
    # (1) A signature under the trusted key: only the device could have made it.
    if entry.signature is not None and device_key is not None:
        is_event = is_boot_event(entry.signature)
        signed = SignedBootEvent.decode(entry.signature) if is_event else SignedStatement.decode(entry.signature)
        if not signed.is_signed_by(device_key):
            raise RefusedError(
                "the device's signature is forged",
                why=f"it does not verify under the trusted key of device {entry.device}",
                remedy="do not rely on the receipt; report the log to the city",
            )
        shown = _PROVES_BY_EVENT if is_event and entry.kind is not EntryKind.EVENT else proves[EvidenceLevel.A]
        return Evidence(entry.kind, EvidenceLevel.A, shown, is_signed=True)

    # (2) A signature that cannot be checked proves as much as a report without a signature.
    if entry.signature is not None:
        remark = f"the device's signature was not checked: no key of device {entry.device} is trusted"
        is_report = entry.kind.names_running_image or entry.kind is EntryKind.EVENT
        level = EvidenceLevel.B if is_report else None
        return Evidence(entry.kind, level, proves[level], remark=remark)

    # (3) A device that has a key signs its reports, so a report without a signature does not count.
    is_claim = entry.kind in (EntryKind.CLAIMED, EntryKind.EVENT)
    if device_key is not None and entry.level is EvidenceLevel.B and not is_claim:
        remark = f"device {entry.device} has a key but did not sign, so the {entry.kind} counts as claimed"
        return Evidence(EntryKind.CLAIMED, entry.level, _PROVES[entry.level], remark=remark)

    # (4) The keeper of the log vouches for the entry.
    return Evidence(entry.kind, entry.level, proves[entry.level])
