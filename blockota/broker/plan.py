"""What a broker does next and how its agreements stand, as pure functions of chain facts and the broker's memory.

A file is kept while one good claim covers it (`model.rights`). A wanted file passes through the stages in their order;
a step that was interrupted is planned again and continues from what the last run left. Steps come in the order drop,
fetch, pin, announce: drops free space first, and nothing is announced that is not kept.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from blockota.broker.offences import Offence, skipped_until
from blockota.formats.cid import CID
from blockota.model.agreement import Agreement, AgreementStatus
from blockota.model.release import Status
from blockota.model.rights import Claim, ReleaseFile
from blockota.stores.source import base_url


class Stage(enum.Enum):
    """The progress of a file. The blocks of an `UNFIT` file are valid, but not the recorded image."""

    WANTED = "wanted"
    WHOLE = "whole"
    PINNED = "pinned"
    UNFIT = "unfit"
    DROPPING = "dropping"
    DROPPED = "dropped"


@dataclass(frozen=True)
class AgreementFacts:
    """One agreement of the broker with all that belongs to it.

    Attributes:
        claim: the agreement and its release at the confirmed block.
        newest: the agreement at the newest block.
        replicas: URLs at which other brokers serve the release.
        is_announcing: whether an announcement was sent and is not settled.
    """

    claim: Claim
    newest: Agreement
    replicas: tuple[str, ...] = ()
    is_announcing: bool = False


@dataclass(frozen=True)
class Facts:
    """The chain at one confirmed block.

    Attributes:
        time: the block's time in Unix seconds.
        agreements: the broker's agreements that were not ended, by number.
        block: the block's number.
        is_reorganised: whether blocks were replaced since the last reading.
    """

    time: int
    agreements: tuple[AgreementFacts, ...]
    block: int = 0
    is_reorganised: bool = False

    def with_announcement(self, number: int, url: str) -> Facts:
        """The same facts after an agreement was announced."""
        agreements = (
            replace(one, newest=replace(one.newest, uri=url)) if one.newest.number == number else one
            for one in self.agreements
        )
        return replace(self, agreements=tuple(agreements))


@dataclass(frozen=True)
class BrokerMemory:
    """The broker's memory of earlier runs.

    Attributes:
        files: each file that it worked on, and its stage.
        offences: which sources served wrong blocks, and when.
    """

    files: Mapping[CID, tuple[ReleaseFile, Stage]] = field(default_factory=dict)
    offences: tuple[Offence, ...] = ()


@dataclass(frozen=True)
class Drop:
    """Stop keeping a file; the blocks of the roots in `keep` stay, even those that the file has too."""

    file: ReleaseFile
    keep: frozenset[CID]


@dataclass(frozen=True)
class Fetch:
    """Fetch and verify a file.

    Attributes:
        file: the file.
        sources: the vendor's repositories.
        replicas: URLs that other brokers announced: untrusted text.
        skipped: sources that are not asked now, and the Unix time in seconds until which they are not.
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
    """Announce where a release is served, once its image is kept; the agreement is that at the newest block."""

    agreement: Agreement
    url: str
    file: ReleaseFile


@dataclass(frozen=True)
class Withhold:
    """Do not serve a file whose blocks are valid but are not the recorded image."""

    file: ReleaseFile


Step = Drop | Fetch | Pin | Announce | Withhold


def plan(facts: Facts, memory: BrokerMemory, *, now: float, sources: Sequence[str], url: str = "") -> tuple[Step, ...]:
    """The steps from the present state to what the agreements ask for; none if nothing is to be done.

    If a step fails, the later ones for the same file are to be skipped.

    Args:
        facts: the chain.
        memory: what the broker remembers.
        now: Unix time in seconds.
        sources: the vendor's repositories.
        url: where the broker serves, as `stores.source.base_url` returns it; empty to announce nothing.
    """
    good = [one for one in facts.agreements if one.claim.is_good(facts.time)]
    # Several releases can have the same file; the first names it.
    wanted: dict[CID, ReleaseFile] = {}
    for file in (file for one in good for file in one.claim.files()):
        wanted.setdefault(file.cid, file)

    steps: list[Step] = [
        Drop(file, frozenset(wanted))
        for cid, (file, stage) in memory.files.items()
        if cid not in wanted and stage is not Stage.DROPPED
    ]

    withheld: set[CID] = set()
    for file in wanted.values():
        known, stage = memory.files.get(file.cid, (file, Stage.WANTED))
        if known != file or stage in {Stage.DROPPED, Stage.DROPPING}:
            stage = Stage.WANTED  # what was dropped, or recorded otherwise, begins again
        if stage is Stage.UNFIT:
            steps.append(Withhold(file))
            withheld.add(file.cid)
        if stage is Stage.WANTED:
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
        if stage in {Stage.WANTED, Stage.WHOLE}:
            steps.append(Pin(file))

    for one in good:
        # An announcement that is under way is finished; the newest block shows one that was mined.
        is_due = base_url(one.newest.uri) != url or one.is_announcing
        is_open = one.newest.status is AgreementStatus.ACCEPTED and one.claim.release.cid not in withheld
        if url and is_open and is_due:
            steps.append(Announce(one.newest, url, next(one.claim.files())))
    return tuple(steps)


def _replicas(file: ReleaseFile, good: Sequence[AgreementFacts], *, own: set[str]) -> list[str]:
    """The URLs at which other brokers serve the releases to which a file belongs."""
    covering = (one for one in good if file.cid in {other.cid for other in one.claim.files()})
    urls = dict.fromkeys(url for one in covering for url in one.replicas)
    return [url for url in urls if url not in own]


class AgreementState(enum.StrEnum):
    """The state of an agreement, as ``broker sync`` reports it."""

    PROPOSED = "proposed"
    UNCONFIRMED = "unconfirmed"
    UNANNOUNCED = "unannounced"
    ANNOUNCED = "announced"
    EXPIRED = "expired"
    REVOKED = "revoked"


def state_of(one: AgreementFacts, time: int) -> AgreementState:
    """The state of an agreement at a time of the chain, in Unix seconds."""
    claim = one.claim
    if claim.is_good(time):
        return AgreementState.ANNOUNCED if one.newest.uri else AgreementState.UNANNOUNCED
    if claim.release.status is not Status.ACTIVE:
        return AgreementState.REVOKED
    if time >= one.newest.expires_at:
        return AgreementState.EXPIRED
    is_accepted = one.newest.status is AgreementStatus.ACCEPTED
    return AgreementState.UNCONFIRMED if is_accepted else AgreementState.PROPOSED
