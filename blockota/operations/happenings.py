"""Describe the events of contracts, and write them into the archive.

A public page shows a description only up to its first colon. This part contains no serial numbers or network addresses.
The text after the colon is a reason that a person entered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from uuid import UUID

from blockota.bindings.events import DecodedEvent
from blockota.chain.node import Node
from blockota.errors import UsageError, plain
from blockota.model.identity import IdentityKind
from blockota.model.release import Version, product_name
from blockota.operations.archive import AnnounceHappenings, Happening, RoomArchive

Arguments = Mapping[str, Any]
_KNOWN_TIMES = 4096
_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])", re.ASCII)


class HappeningWriter:
    """Writes the events of one chain into the archive, with the times of their blocks.

    Args:
        node: a node of the chain, which returns the times of blocks.
        archive: the archive that stores the events.
        contracts: the names of the contracts whose events are written.
        announce: called with new events within the transaction that adds them.
    """

    def __init__(
        self,
        node: Node,
        archive: RoomArchive,
        contracts: Iterable[str],
        announce: AnnounceHappenings | None = None,
    ) -> None:
        self._node, self._archive, self._contracts, self._announce = node, archive, tuple(contracts), announce
        self._times: dict[int, int] = {}

    def write(self, events: Iterable[DecodedEvent]) -> None:
        """Write events.

        Raises:
            ChainError: the node is out of reach.
            StoreError: the archive cannot be written.
        """
        found = [self._happening(event) for event in events]
        if found:
            self._archive.add_happenings(found, self._announce)

    def drop(self, first_block: int) -> None:
        """Remove the events from a block onwards, after a reorganisation replaced the block.

        Events of other contracts remain, because another reader removes them. The other reader may already have written
        the events of the new block.
        """
        self._times = {}
        self._archive.drop_happenings(self._node.chain_id, first_block, self._contracts)

    def _happening(self, event: DecodedEvent) -> Happening:
        subject, text = in_words(event)
        log = event.log
        if log.block_number not in self._times:
            if len(self._times) >= _KNOWN_TIMES:
                self._times.clear()
            self._times[log.block_number] = self._node.head(log.block_number).time
        time = self._times[log.block_number]
        place = self._node.chain_id, log.position, log.block_number, time
        return Happening(*place, event.contract, event.name, subject, text, log.transaction)


def in_words(event: DecodedEvent) -> tuple[str, str]:
    """Return the subject of an event, such as ``device 256``, and a description of the event."""
    make = _WORDS.get(event.name)
    if make:
        return make(event.arguments)
    return f"contract {event.contract}", _CAPITAL.sub(" ", event.name).lower()


def _uuid(value: bytes) -> str:
    return str(UUID(bytes=value))


def _text(value: bytes) -> str:
    return plain(value.rstrip(b"\0").decode("utf-8", "replace"))


def _by(value: bytes, otherwise: str) -> str:
    return f"by {_uuid(value)}" if any(value) else f"by {otherwise}"


def _product(value: bytes) -> str:
    try:
        return product_name(value)
    except UsageError:
        return value.hex()


def _version(value: int) -> str:
    return str(Version.unpack(value) or value)


def _enrolled(of: Arguments) -> tuple[str, str]:
    try:
        kind = str(IdentityKind(of["kind"]))
    except ValueError:
        kind = "identity"
    return f"identity {_uuid(of['uuid'])}", f"{kind} enrolled"


def _identity(words: str) -> Callable[[Arguments], tuple[str, str]]:
    return lambda of: (f"identity {_uuid(of['uuid'])}", words)


def _device(words: str) -> Callable[[Arguments], tuple[str, str]]:
    return lambda of: (f"device {of['number']}", words)


def _log(words: str) -> Callable[[Arguments], tuple[str, str]]:
    return lambda of: (f"log {_uuid(of['uuid'])}", words.format(device=of.get("number", "")))


def _release(words: str) -> Callable[[Arguments], tuple[str, str]]:
    def make(of: Arguments) -> tuple[str, str]:
        version = of.get("version", of.get("minimumVersion"))
        named = _product(of["product"]) + (f" {_version(version)}" if version is not None else "")
        reason = f": {plain(of['reason'])}" if of.get("reason") else ""
        return f"product {_product(of['product'])}", f"{named} {words}{reason}"

    return make


def _agreement(words: str) -> Callable[[Arguments], tuple[str, str]]:
    return lambda of: (f"agreement {of['id']}", f"{_product(of['product'])} {_version(of['version'])} {words}")


def _order(of: Arguments) -> tuple[str, str]:
    release = f"{_product(of['product'])} {_version(of['version'])}"
    return f"order {of['id']}", f"{release} ordered for group {_product(of['group'])}, by {_uuid(of['operator'])}"


_WORDS: Mapping[str, Callable[[Arguments], tuple[str, str]]] = {
    "IdentityEnrolled": _enrolled,
    "KeysRotated": _identity("keys replaced"),
    "IdentityBanned": lambda of: (
        f"identity {_uuid(of['uuid'])}",
        f"banned {_by(of['by'], 'the Safe')}: {_text(of['reason'])}",
    ),
    "IdentityUnbanned": _identity("ban lifted"),
    "IdentityRetired": _identity("retired"),
    "DeviceRegistered": lambda of: (f"device {of['number']}", f"registered by {_product(of['registrant'])}"),
    "BatchRegistered": lambda of: (
        f"device {of['first']}",
        f"{of['count']} devices registered by {_product(of['registrant'])}",
    ),
    "DeviceKeySet": _device("key replaced"),
    "DeviceTransferred": lambda of: (f"device {of['number']}", f"transferred to {_product(of['to'])}"),
    "DeviceBanned": lambda of: (f"device {of['number']}", f"banned: {_text(of['reason'])}"),
    "DeviceUnbanned": _device("ban lifted"),
    "BlocksGiven": lambda of: (f"site {_uuid(of['site'])}", f"{of['count']} blocks of device numbers given"),
    "SiteReplaced": lambda of: (f"site {_uuid(of['from'])}", f"replaced by {_uuid(of['to'])}"),
    "Anchored": lambda of: (
        f"log {_uuid(of['uuid'])}",
        f"anchored at {of['size']} {'entry' if of['size'] == 1 else 'entries'}",
    ),
    "Installed": lambda of: (
        f"log {_uuid(of['uuid'])}",
        f"installations of release {of['release'].hex()[:12]} recorded",
    ),
    "LogSuspended": _log("suspended because of device {device}"),
    "LogResumed": _log("resumed"),
    "LogRetired": _log("retired"),
    "GroupDefined": lambda of: (f"group {_product(of['id'])}", f"defined by {_uuid(of['operator'])}"),
    "OrderPlaced": _order,
    "OrderCancelled": lambda of: (f"order {of['id']}", f"cancelled {_by(of['by'], 'the Safe')}"),
    "ReleasePublished": _release("published"),
    "ReleaseRevoked": _release("revoked"),
    "MinimumVersionRaised": _release("is the new minimum version"),
    "OemPaired": _release("paired"),
    "OemUnpaired": _release("unpaired"),
    "Paused": lambda _: ("contract BlockOTA", "paused"),
    "Unpaused": lambda _: ("contract BlockOTA", "resumed"),
    "AgreementProposed": _agreement("proposed"),
    "AgreementAccepted": _agreement("accepted"),
    "AgreementDeclined": _agreement("declined"),
    "ReplicaAnnounced": _agreement("announced"),
    "AgreementWithdrawn": _agreement("withdrawn"),
    "AgreementTerminated": _agreement("terminated"),
    "ProducerAdmitted": lambda of: (f"producer {_product(of['name'])}", "admitted"),
    "ProducerSuspended": lambda of: (f"producer {_product(of['name'])}", "suspended"),
    "ProducerRestored": lambda of: (f"producer {_product(of['name'])}", "restored"),
}
