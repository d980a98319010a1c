"""The logs that identities anchor on the gateway chain, their JSON, and the packing of device numbers into words.

Pure.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from blockota.errors import UsageError

_WORD_BITS = 256
"""The number of devices in one word of UpdateLedger. A site gets device numbers in blocks that fill whole words."""
_NUMBER_BITS = 64


class LogState(enum.Enum):
    """The state of an anchored log."""

    GROWING = 1
    SUSPENDED = 2
    """Evidence shows two installations of one release on one device. An Administrator decides what happens to the log.
    """
    RETIRED = 3
    """An Administrator ended the log permanently."""

    def __str__(self) -> str:
        """The name of the state, in lower case."""
        return self.name.lower()


@dataclass(frozen=True)
class Suspicion:
    """A proven fault of a log: it contains two install entries about the same device and release.

    Attributes:
        device: number of the device.
        release: `ReleaseId.digest` of the release, 32 bytes.
    """

    device: int
    release: bytes

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of a suspicion."""
        return {"device": self.device, "release": self.release.hex()}


@dataclass(frozen=True)
class AnchoredLog:
    """The newest anchor of an identity's log.

    Attributes:
        keeper: UUID of the identity that appends to the log.
        root: root of the Merkle tree of the first `size` entries, 32 bytes.
        size: number of anchored entries.
        anchored_at: Unix time of the newest anchor.
        suspicion: the newest suspicion, open or decided; None if the log was never suspected.
    """

    keeper: UUID
    root: bytes
    size: int
    anchored_at: int
    state: LogState
    suspicion: Suspicion | None

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of an anchored log, as in ``ledger show --json``."""
        return {
            "uuid": str(self.keeper),
            "size": self.size,
            "root": self.root.hex(),
            "anchoredAt": self.anchored_at,
            "state": str(self.state),
            "suspicion": self.suspicion.as_fields() if self.suspicion else None,
        }


def device_words(numbers: Iterable[int]) -> tuple[list[int], list[int]]:
    """Pack device numbers into the words that UpdateLedger records.

    Returns:
        The indices of the words in ascending order, and the set bits of each word.

    Raises:
        UsageError: a number is not the number of a registered device.

    Examples:
        >>> device_words([512, 256, 258])
        ([1, 2], [5, 1])
    """
    words: dict[int, int] = {}
    for number in numbers:
        check_device(number)
        words[number // _WORD_BITS] = words.get(number // _WORD_BITS, 0) | 1 << number % _WORD_BITS
    return sorted(words), [words[word] for word in sorted(words)]


def devices_in(word: int, bits: int) -> list[int]:
    """Return the device numbers that a word of UpdateLedger contains."""
    return [word * _WORD_BITS + bit for bit in range(_WORD_BITS) if bits >> bit & 1]


def check_device(number: int) -> None:
    """Check that a number can be the number of a registered device.

    Raises:
        UsageError: the number is outside the range of registered devices.
    """
    if not _WORD_BITS <= number < 1 << _NUMBER_BITS:
        raise UsageError(
            f"{number} is not the number of a registered device",
            why=f"numbers begin with {_WORD_BITS}, and 0 stands for a board that is not registered",
            remedy="use the number that the registry of devices gave to the device",
        )
