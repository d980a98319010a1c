"""Derive a broker's next steps and the states of its agreements from chain facts and the state file.

Pure functions.

A broker keeps a file while a valid claim (`model.rights`) includes the file. `CopyStage` lists the stages of a file. An
interrupted step is planned again, and reuses the work of the last run. The order of the steps is drop, fetch, pin,
announce. Unneeded files are therefore removed before a fetch needs space, and a replica is announced only after its
image was stored and pinned.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from blockota.broker.offences import Offence, skipped_until
from blockota.formats.cid import CID
from blockota.model.agreement import Agreement, AgreementStatus
from blockota.model.rights import Claim, DeltaReader, Obstacle, ReleaseFile
from blockota.stores.source import base_url


class CopyStage(enum.Enum):
    """The progress of a file. An `UNFIT` file has valid blocks, but is not the image that the chain records."""

    WANTED = "wanted"
    WHOLE = "whole"
    PINNED = "pinned"
    UNFIT = "unfit"
    DROPPING = "dropping"
    DROPPED = "dropped"


@dataclass(frozen=True)
class AgreementFacts:
    """One agreement of the broker, with the related chain facts.

    Attributes:
        claim: the agreement and its release at the confirmed block.
        newest: the agreement at the newest, unconfirmed block.
        replicas: URLs at which other brokers serve the release.
        is_announcing: whether an announcement was sent and is not confirmed yet.
    """

    claim: Claim
    newest: Agreement
    replicas: tuple[str, ...] = ()
    is_announcing: bool = False

    def as_fields(self, time: int) -> dict[str, Any]:
        """Return the fields for JSON, with the state at a Unix time."""
        return {
            "number": self.newest.number,
            "release": self.claim.label,
            "state": str(state_of(self, time)),
            "url": self.newest.uri,
        }


@dataclass(frozen=True)
class Facts:
    """The chain at one confirmed block.

    Attributes:
        time: the block's time in Unix seconds.
        agreements: the broker's proposed and accepted agreements, including expired agreements, sorted by number.
        block: the block's number.
        is_reorganised: whether blocks were replaced since the last reading.
    """

    time: int
    agreements: tuple[AgreementFacts, ...]
    block: int = 0
    is_reorganised: bool = False

    def with_deltas(self, reader: DeltaReader) -> Facts:
        """Return a copy of the facts, and add to each claim the delta patches that its manifest lists."""
        agreements = (replace(one, claim=reader.with_deltas(one.claim)) for one in self.agreements)
        return replace(self, agreements=tuple(agreements))

    def with_announcement(self, number: int, url: str) -> Facts:
        """Return a copy of the facts in which an agreement has an announced URL."""
        agreements = (
            replace(one, newest=replace(one.newest, uri=url)) if one.newest.number == number else one
            for one in self.agreements
        )
        return replace(self, agreements=tuple(agreements))


@dataclass(frozen=True)
class BrokerMemory:
    """The records of earlier runs from the broker's state file.

    Attributes:
        files: the stage of each file that earlier runs have recorded.
        offences: the wrong blocks that sources served.
    """

    files: Mapping[CID, tuple[ReleaseFile, CopyStage]] = field(default_factory=dict)
    offences: tuple[Offence, ...] = ()


@dataclass(frozen=True)
class Drop:
    """Remove a file for the reason `why`, except the blocks that the file shares with a file in `keep`."""

    file: ReleaseFile
    keep: frozenset[CID]
    why: str


@dataclass(frozen=True)
class Fetch:
    """Fetch and verify a file.

    Attributes:
        file: the file.
        sources: the URLs of the vendor's repositories.
        replicas: the URLs that other brokers announced, as untrusted text.
        skipped: the sources that served wrong blocks, each with the Unix time in seconds at which its pause ends.
    """

    file: ReleaseFile
    sources: tuple[str, ...]
    replicas: tuple[str, ...]
    skipped: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Pin:
    """Keep a verified file."""

    file: ReleaseFile


@dataclass(frozen=True)
class Announce:
    """Announce the URL of a stored replica. The field `agreement` has the agreement's state at the newest block."""

    agreement: Agreement
    url: str
    file: ReleaseFile


@dataclass(frozen=True)
class Withhold:
    """Do not serve a file: its blocks are valid, but its content is not the recorded image."""

    file: ReleaseFile


Step = Drop | Fetch | Pin | Announce | Withhold


def plan(facts: Facts, memory: BrokerMemory, *, now: float, sources: Sequence[str], url: str = "") -> tuple[Step, ...]:
    """Plan the steps from the current state to the state that the agreements require.

    If a step fails, the caller must skip the later steps for the same file.

    Args:
        facts: the chain facts.
        memory: the records of earlier runs.
        now: Unix time in seconds.
        sources: the URLs of the vendor's repositories.
        url: the URL at which the broker serves, as returned by `stores.source.base_url`; empty to announce nothing.
    """
    good = [one for one in facts.agreements if one.claim.obstacle(facts.time) is None]
    # Several releases can have the same file. The first release gives the file its label.
    wanted: dict[CID, ReleaseFile] = {}
    for file in (file for one in good for file in one.claim.files()):
        wanted.setdefault(file.cid, file)

    kept = (file for file, stage in memory.files.values() if stage is not CopyStage.DROPPED)
    unwanted = [file for file in kept if file.cid not in wanted]
    steps: list[Step] = [Drop(file, frozenset(wanted), _why_unwanted(file, facts)) for file in unwanted]

    withheld: set[CID] = set()
    for file in wanted.values():
        known, stage = memory.files.get(file.cid, (file, CopyStage.WANTED))
        if known != file or stage in {CopyStage.DROPPED, CopyStage.DROPPING}:
            stage = CopyStage.WANTED  # a file that was dropped, or has another record now, begins again
        if stage is CopyStage.UNFIT:
            steps.append(Withhold(file))
            withheld.add(file.cid)
        if stage is CopyStage.WANTED:
            replicas = _replicas(file, good, own={*sources, url})
            until = {one: skipped_until(memory.offences, one, file.cid) for one in (*sources, *replicas)}
            skipped = {one: time for one, time in until.items() if now < time}
            steps.append(
                Fetch(
                    file,
                    tuple(one for one in sources if one not in skipped),
                    tuple(one for one in replicas if one not in skipped),
                    skipped,
                )
            )
        if stage in {CopyStage.WANTED, CopyStage.WHOLE}:
            steps.append(Pin(file))

    for one in good:
        # An announcement is due if the newest block does not show it. One that is not confirmed yet is continued.
        is_due = base_url(one.newest.uri) != url or one.is_announcing
        is_open = one.newest.status is AgreementStatus.ACCEPTED and one.claim.release.cid not in withheld
        if url and is_open and is_due:
            steps.append(Announce(one.newest, url, next(one.claim.files())))
    return tuple(steps)


def _why_unwanted(file: ReleaseFile, facts: Facts) -> str:
    """Return why a file is unwanted: its release is revoked, or its agreement has expired or ended."""
    for one in _covering(file, facts.agreements):
        obstacle = one.claim.obstacle(facts.time)
        if obstacle is Obstacle.REVOKED:
            return "the vendor revoked the release"
        if obstacle is Obstacle.EXPIRED:
            return f"agreement {one.newest.number} has expired"
    return "no accepted agreement covers it any more"


def _replicas(file: ReleaseFile, good: Sequence[AgreementFacts], *, own: set[str]) -> list[str]:
    """Return the URLs at which other brokers serve a release that includes the file."""
    urls = dict.fromkeys(url for one in _covering(file, good) for url in one.replicas)
    return [url for url in urls if url not in own]


def _covering(file: ReleaseFile, agreements: Iterable[AgreementFacts]) -> Iterator[AgreementFacts]:
    """Yield the agreements whose release includes the file."""
    return (one for one in agreements if file.cid in {other.cid for other in one.claim.files()})


class AgreementState(enum.StrEnum):
    """The state of an agreement, as ``broker sync`` reports it."""

    PROPOSED = "proposed"
    UNCONFIRMED = "unconfirmed"
    UNANNOUNCED = "unannounced"
    ANNOUNCED = "announced"
    EXPIRED = "expired"
    REVOKED = "revoked"


def state_of(one: AgreementFacts, time: int) -> AgreementState:
    """Return the state of an agreement at `time`, a Unix time in seconds on the chain."""
    match one.claim.obstacle(time):
        case None:
            return AgreementState.ANNOUNCED if one.newest.uri else AgreementState.UNANNOUNCED
        case Obstacle.REVOKED:
            return AgreementState.REVOKED
        case Obstacle.EXPIRED:
            return AgreementState.EXPIRED
        case Obstacle.NOT_ACCEPTED:
            is_accepted = one.newest.status is AgreementStatus.ACCEPTED
            return AgreementState.UNCONFIRMED if is_accepted else AgreementState.PROPOSED
