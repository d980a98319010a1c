"""What a running repository serves: read from the chain at the start and again from time to time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from blockota.errors import BlockOTAError
from blockota.repository.blocks import Blocks
from blockota.repository.catalogue import BlockStore, Catalogue, catalogue_of
from blockota.repository.reading import Reader
from blockota.repository.rights import rights_at


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

    Raises:
        ChainError: the chain is out of reach.
        RefusedError: its answer cannot be understood.
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
        self.catalogue = self._catalogue(None)

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
        self.catalogue = self._catalogue(self.catalogue)

    def health(self) -> dict[str, object]:
        """How it stands, for machines that look after it."""
        rights = self.catalogue.rights
        return {
            "status": ("stale" if self.trouble else "ok") if self.is_open else "closed",
            "releases": rights.releases,
            "files": len(self.catalogue.trees),
            "missing": {str(cid): why for cid, why in self.catalogue.missing.items()},
            "manifestsKnown": self._reading.manifests_known,
            "chainBlock": self._reading.block,
            "chainTime": self._reading.time,
            "chainReadSecondsAgo": round(self.age, 1),
            "trouble": self.trouble,
        }

    def _catalogue(self, before: Catalogue | None) -> Catalogue:
        return catalogue_of(rights_at(self._time(), self._reading.claims), self._store, before=before)

    def _time(self) -> int:
        """The chain's time, which goes on while nobody reads it."""
        return int(self._reading.time + self.age)
