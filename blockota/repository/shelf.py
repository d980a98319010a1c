"""What a running repository serves: read from the chain at the start and again from time to time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from blockota.bindings.serving_rights import Reader
from blockota.errors import BlockOTAError, StoreError
from blockota.model.rights import Rights, rights_at
from blockota.repository.blocks import Blocks
from blockota.repository.catalogue import BlockStore, catalogue_of

_STORE_PATIENCE = 30.0
"""Seconds that a look through the store may take before it is told that it does not answer."""


@dataclass(frozen=True)
class Pace:
    """How often the chain is asked, and how long its last answer counts, in seconds."""

    refresh: float = 30.0
    patience: float = 3600.0


class Shelf:
    """The catalogue of now, and the blocks in it.

    Args:
        reader: asks the chain what may be served.
        store: where the blocks are.
        pace: how often, and how long an answer counts.
        clock: seconds that only rise.

    Attributes:
        trouble: why the chain was not read the last time; empty where it was.

    Raises:
        ChainError: the chain is out of reach.
        RefusedError: its answer cannot be understood.
        StoreError: the store is out of reach.
    """

    def __init__(
        self,
        reader: Reader,
        store: BlockStore,
        *,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask the chain, and look through the store."""
        self._reader, self._store, self._clock = reader, store, clock
        self.pace = pace or Pace()
        self.blocks = Blocks(store)
        self.trouble = ""
        self._read_at, self._reading = clock(), reader.read()
        self._store_failure, self._looks_since = "", clock()
        self._is_looking = False
        self.catalogue = catalogue_of(self._rights(), store)

    @property
    def age(self) -> float:
        """Seconds since the chain answered last."""
        return self._clock() - self._read_at

    @property
    def is_open(self) -> bool:
        """Whether the chain's last answer still counts."""
        return self.age <= self.pace.patience

    @property
    def pause(self) -> float:
        """Seconds until the catalogue has to be made anew."""
        changes_at = self.catalogue.rights.changes_at
        until_change = self.pace.refresh if changes_at is None else changes_at - self._time()
        return max(min(self.pace.refresh, until_change), 0.2)

    def refresh(self) -> None:
        """Ask the chain again; where it is out of reach, what it said last counts on, but agreements expire."""
        began = self._clock()
        try:
            reading = self._reader.read()
        except BlockOTAError as error:
            self.trouble = str(error)
        else:
            self.trouble, self._read_at, self._reading = "", began, reading
        self.catalogue = self.catalogue.within(self._rights())
        self._look_through_store()

    @property
    def store_trouble(self) -> str:
        """Why nothing can be read from the store; empty where it can."""
        waited = self._clock() - self._looks_since
        if self._is_looking and waited > _STORE_PATIENCE:
            return f"the store has not answered for {waited:.0f} s."
        return self._store_failure

    @property
    def status(self) -> str:
        """How it stands, in a word: ok, incomplete, stale, failing or closed."""
        if not self.is_open:
            return "closed"
        if self.store_trouble:
            return "failing"
        if self.trouble:
            return "stale"
        return "incomplete" if self.catalogue.missing else "ok"

    def health(self) -> dict[str, object]:
        """How it stands, for machines that look after it."""
        rights = self.catalogue.rights
        return {
            "status": self.status,
            "releases": rights.releases,
            "files": len(self.catalogue.trees),
            "missing": {str(cid): why for cid, why in self.catalogue.missing.items()},
            "manifestsKnown": self._reading.manifests_known,
            "chainBlock": self._reading.block,
            "chainTime": self._reading.time,
            "chainReadSecondsAgo": round(self.age, 1),
            "storeTrouble": self.store_trouble,
            "trouble": self.trouble,
        }

    def _look_through_store(self) -> None:
        self._looks_since, self._is_looking = self._clock(), True
        failed = frozenset(self.blocks.failed)
        try:
            found = catalogue_of(self.catalogue.rights, self._store, before=self.catalogue, failed=failed)
        except StoreError as error:
            self._store_failure = str(error)
        else:
            self.catalogue, self._store_failure = found, ""
            self.blocks.failed -= failed & found.places.keys()  # they were read
        finally:
            self._is_looking = False

    def _rights(self) -> Rights:
        return rights_at(self._time(), self._reading.claims)

    def _time(self) -> int:
        """The chain's time, which goes on while nobody reads it."""
        return int(self._reading.time + self.age)
