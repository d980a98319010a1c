"""Groups of devices, and operators' orders for the groups, with their JSON.

Pure.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from blockota.errors import UsageError
from blockota.formats.tlog import leaf_hash, tree_of
from blockota.model.anchored_log import check_device
from blockota.model.device import spec_hash
from blockota.model.receipt import ReleaseId
from blockota.model.release import show_time

DEFAULT_DEADLINE = 30 * 86_400
"""Seconds from now to the deadline of an order, if no deadline is given."""
_GROUP = re.compile(r"[!-~]{1,31}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,20}", re.ASCII)
_WORD_SIZE, _NUMBER_SIZE = 32, 8


class GroupKind(enum.Enum):
    """How a group is defined: by model, by site or by list. The values are the numbers in the contract."""

    MODEL = 1
    SITE = 2
    LIST = 3

    def __str__(self) -> str:
        """The name of the kind, in lower case."""
        return self.name.lower()


class OrderStatus(enum.Enum):
    """The status of an order at the time of a block."""

    OPEN = 1
    CANCELLED = 2
    EXPIRED = 3
    VOID = 4
    """The operator was banned before the deadline."""

    def __str__(self) -> str:
        """The name of the status, in lower case."""
        return self.name.lower()


@dataclass(frozen=True)
class Group:
    """A group of devices.

    The definition of a group never changes. For each order, the members of the group are determined at the block of the
    order.

    Attributes:
        value: the definition of the group: `spec_hash` of the Spec's name for a model, the gateway's UUID and zeros for
            a site, or the root of the list for a list.
        operator: UUID of the operator that defined the group; None for a group that is not defined yet.
        defined_at: Unix time of the definition; 0 for a group that is not defined yet.
    """

    name: str
    kind: GroupKind
    value: bytes
    operator: UUID | None = None
    defined_at: int = 0

    @classmethod
    def of_model(cls, name: str, model: str) -> Group:
        """Return the group of all devices of a model.

        A model is identified by the name of its Spec.
        """
        return cls(group_name(name), GroupKind.MODEL, spec_hash(model))

    @classmethod
    def of_site(cls, name: str, site: UUID) -> Group:
        """Return the group of all devices of a site.

        The UUID of the gateway names the site.
        """
        return cls(group_name(name), GroupKind.SITE, site.bytes.ljust(_WORD_SIZE, b"\0"))

    @classmethod
    def of_list(cls, name: str, devices: Sequence[int]) -> Group:
        """Return the group of the devices whose numbers are on a list."""
        return cls(group_name(name), GroupKind.LIST, list_root(devices))

    @property
    def site(self) -> UUID | None:
        """UUID of the gateway, for a group that is defined by site."""
        return UUID(bytes=self.value[:16]) if self.kind is GroupKind.SITE else None

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of a group, as in ``order group --json``."""
        site = str(self.site) if self.site else None
        return {
            "group": self.name,
            "kind": str(self.kind),
            "value": self.value.hex(),
            "site": site,
            "operator": str(self.operator) if self.operator else None,
            "definedAt": self.defined_at,
        }


@dataclass(frozen=True)
class Order:
    """An operator's order to install a release on the devices of a group within a time window.

    Attributes:
        number: id of the order, from 1.
        group: name of the group.
        operator: UUID of the operator.
        not_before: Unix time before which gateways do not offer the release; 0 for an immediate offer.
        deadline: Unix time from which gateways do not offer the release.
        status: the status at the block at which the order was read.
        block: number of the block that contains the order.
    """

    number: int
    group: str
    release: ReleaseId
    operator: UUID
    not_before: int
    deadline: int
    status: OrderStatus
    block: int = 0

    @property
    def window(self) -> str:
        """The time window as text."""
        start = f"from {show_time(self.not_before)} " if self.not_before else ""
        return f"{start}until {show_time(self.deadline)}"

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of an order, as in ``order list --json``."""
        return {
            "number": self.number,
            "group": self.group,
            "chainId": self.release.chain_id,
            "contract": self.release.contract,
            "product": self.release.product,
            "version": str(self.release.version),
            "operator": str(self.operator),
            "notBefore": self.not_before,
            "deadline": self.deadline,
            "status": str(self.status),
        }


def group_name(name: str) -> str:
    """Check the name of a group.

    Raises:
        UsageError: the name does not have 1 to 31 visible ASCII characters.
    """
    if not _GROUP.fullmatch(name):
        raise UsageError(
            f"{name!r:.60} is not the name of a group",
            why="a name is 1 to 31 visible ASCII characters",
            remedy="choose a name such as thermo2-berlin",
        )
    return name


def read_devices(text: str) -> list[int]:
    """Read the list of a group's devices, one number on each line.

    Empty lines, and lines that begin with #, are skipped.

    Raises:
        UsageError: a line is not the number of a registered device.
    """
    lines = [line.strip() for line in text.splitlines()]
    words = [line for line in lines if line and not line.startswith("#")]
    strange = next((word for word in words if not _NUMBER.fullmatch(word)), None)
    if strange is not None:
        raise UsageError(
            f"{strange!r:.60} is not the number of a device",
            why="a list of devices has one number on each line",
            remedy="write each number as digits, such as 256",
        )
    return [int(word) for word in words]


def list_root(devices: Sequence[int]) -> bytes:
    """Return the root of a list of devices.

    The leaves of the Merkle tree (RFC 6962) are the ascending numbers, 8 bytes each.

    Raises:
        UsageError: the list is empty, or a number is not the number of a registered device.
    """
    # Each set of devices has one root, in whatever order a file lists them.
    numbers = sorted(set(devices))
    if not numbers:
        raise UsageError("the list is empty", why="a group must have at least one device", remedy="list a device")
    for number in numbers:
        check_device(number)
    return tree_of(leaf_hash(number.to_bytes(_NUMBER_SIZE)) for number in numbers).root
