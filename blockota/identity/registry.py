"""Read the records of the registry for services: by ``eth_call`` at one block, without transactions.

A record is valid for the block at which it was read, and is read again after the next block. If the node does not
answer, the last records are still used. When the block of the records is too old, `blockota.model.request.judge`
refuses all requests. `IdentityReader.reading` raises an error if the node does not answer and the record is not in
memory.

Records are read from unconfirmed blocks, so that a ban takes effect immediately. If a reorganisation removes a record,
the next reading shows the change. A node that lags behind the newest known block is refused, because the node might not
have a recent ban. Behind a load balancer, one of several nodes can lag. `blockota.chain.follow` detects a lagging node
by the hashes of confirmed blocks. The reader of this module reads only the newest block, and therefore compares block
numbers and times.

If the node accepts a query but never answers, `reading` fails after `TIMEOUT` seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import AddressValueError, IPv4Address
from itertools import islice
from uuid import UUID

from blockota.bindings.identities import IdentitiesContract
from blockota.chain import BlockHead, answered_within
from blockota.errors import BlockOTAError, ChainError
from blockota.formats.public_key import PublicKey
from blockota.model.identity import Identity
from blockota.model.request import RegistryReading

INTERVAL = 0.25
"""Seconds between two questions for the newest block."""
TIMEOUT = 2.0
"""Seconds for which `IdentityReader.reading` waits for the node."""
_OWNERS_TIMEOUT = 60.0
"""Seconds for which the virtual IPs of all identities are read."""
_RETRY_PAUSE = 1.0
"""Seconds without questions after a failure."""
_SILENCE = 1.0
"""Seconds without an answer to `refresh` after which a watched reader asks for no record."""
_MOST = 10_000
"""The largest number of records that are kept for one block. Anyone can ask for records that do not exist."""


class IdentityReader:
    """Reads and caches records of the registry. Several threads may share it.

    Args:
        open_contract: opens the registry. A failed call is repeated until the node answers.
        is_watched: whether a thread calls `refresh` at intervals; `reading` then does not wait for a node that hangs.
        clock: returns seconds of a monotonic clock.
    """

    def __init__(
        self,
        open_contract: Callable[[], IdentitiesContract],
        *,
        is_watched: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_contract, self._is_watched, self._clock = open_contract, is_watched, clock
        self._contract: IdentitiesContract | None = None
        self._lock = threading.RLock()
        self._head: BlockHead | None = None
        self._records: dict[UUID, Identity | None] = {}
        self._owners: dict[IPv4Address, UUID] | None = None
        self._enrolled, self._owners_block = 0, b""
        self._refreshed_at, self._failed_at = float("-inf"), float("-inf")
        self._trouble = ""

    @property
    def head(self) -> BlockHead | None:
        """The newest block that was read; None before the first reading."""
        return self._head

    @property
    def trouble(self) -> str:
        """The reason why the registry cannot be read; empty if it can be read."""
        return self._trouble

    def reading(self, sender: UUID, address: str) -> RegistryReading:
        """Return the registry's data about the sender of a request.

        Args:
            sender: the UUID that the request names.
            address: the IP address of the client, or another text, such as ``MQTT``, if the address is unknown.

        Raises:
            ChainError: the record is not known, and the node does not answer.
        """
        with self._lock, answered_within(TIMEOUT):
            head = self._newest()
            identity = self._identity(sender, head)
            return RegistryReading(identity, head.time, self._owner(address, identity, head))

    def known(self, uuid: UUID) -> Identity | None:
        """Return a record from memory; None if the record is not in memory. It may be out of date."""
        return self._records.get(uuid)

    def identity_at(self, address: str) -> Identity | None:
        """Return the identity with a virtual IP; None if no identity has this virtual IP.

        Raises:
            ChainError: the record is not known, and the node does not answer.
        """
        with self._lock, answered_within(TIMEOUT):
            head = self._newest()
            owner = self._owner(address, None, head)
            return self._identity(owner, head) if owner else None

    def keys_of(self, uuid: UUID) -> list[PublicKey]:
        """Return all current and former keys of an identity, at the newest block.

        Raises:
            ChainError: the node does not answer.
        """
        with self._lock, answered_within(TIMEOUT):
            contract, head = self._opened(), self._newest()
            self._check_watch()
            with self._asking():
                found = contract.generations(uuid, block=head.number)
        return [one.keys.key for one in found]

    def refresh(self) -> None:
        """Ask for the newest block. If a thread calls this method at intervals, `reading` does not wait for the node.

        Raises:
            ChainError: the node does not answer.
        """
        contract = self._opened()
        with self._asking():
            head = contract.chain.head()

        with self._lock:
            known = self._head
            # An older block could lack a ban that was read before.
            if known and head.number < known.number and head.time <= known.time:
                why = f"its newest block is {head.number}, and block {known.number} was read before"
                raise ChainError("the node is behind", why=why, remedy="wait, or use another node")
            self._refreshed_at = self._clock()
            if known is None or head.hash != known.hash:
                self._head, self._records = head, {}
                if known is None or head.number <= known.number:  # a reorganisation can remove an enrolment
                    self._enrolled = 0

        if self._is_watched:
            self._read_owners(head)

    def _newest(self) -> BlockHead:
        if not self._is_watched and self._clock() - self._refreshed_at >= INTERVAL:
            # Without a new block, the last one is used; the caller checks its age.
            with suppress(ChainError):
                self.refresh()
        if self._head is None:
            raise ChainError("the registry of identities is out of reach", why=self._trouble or "no block is read yet")
        return self._head

    def _identity(self, uuid: UUID, head: BlockHead) -> Identity | None:
        if uuid not in self._records:
            contract = self._opened()
            self._check_watch()
            # Any sender can name any UUID, so the number of records in memory is limited.
            if len(self._records) >= _MOST:
                self._records.clear()
            with self._asking():
                self._records[uuid] = contract.identity(uuid, block=head.number)
        return self._records[uuid]

    def _owner(self, address: str, sender: Identity | None, head: BlockHead) -> UUID | None:
        """Return the identity with a virtual IP. Virtual IPs are permanent, so only new identities are read."""
        try:
            place = IPv4Address(address.removeprefix("::ffff:"))
        except AddressValueError:
            return None
        if sender and sender.virtual_ip == place:
            return sender.uuid
        if self._owners is None or not self._is_watched:
            self._check_watch()
            self._read_owners(head)
        return (self._owners or {}).get(place)

    def _read_owners(self, head: BlockHead) -> None:
        """Read the virtual IPs of new identities.

        If many identities are new, this method takes seconds, so `refresh` calls it without locking the reader.
        """
        if self._owners_block == head.hash:
            return

        contract = self._opened()
        with self._asking(), answered_within(_OWNERS_TIMEOUT):
            count, before = contract.count(block=head.number), self._enrolled
            if count < before:  # a reorganisation that is longer than the former branch
                before = 0
            added = islice(contract.identities(block=head.number), count - before) if count != before else ()
            found = {one.virtual_ip: one.uuid for one in added if one.virtual_ip}

        with self._lock:
            self._owners = {**(self._owners or {}), **found} if before else found
            self._enrolled, self._owners_block = count, head.hash

    def _check_watch(self) -> None:
        if self._is_watched and self._clock() - self._refreshed_at > _SILENCE:
            why = self._trouble or "the node does not answer"
            raise ChainError("the registry of identities is out of reach", why=why)

    def _opened(self) -> IdentitiesContract:
        if self._contract is None:
            with self._asking():
                self._contract = self._open_contract()
        return self._contract

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Record a failure of the node. During a pause after the failure, no query is sent.

        Raises:
            ChainError: the node does not answer, or failed a moment ago.
        """
        if self._clock() - self._failed_at < _RETRY_PAUSE:
            raise ChainError("the registry of identities is out of reach", why=self._trouble)
        try:
            yield
        except BlockOTAError as error:
            self._failed_at, self._trouble = self._clock(), error.why or error.what
            raise ChainError("the registry of identities is out of reach", why=self._trouble) from error
        self._trouble = ""
