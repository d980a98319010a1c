"""What a broker does next, as a pure function of the chain's facts and of what it remembers.

A file is kept while one good agreement needs it: accepted, not expired, its release not revoked. What is wanted goes
through the stages in their order; a step that was cut short is planned again, and finds what the last run left. The
steps come in the order drop, fetch, pin, announce: room is made first, and nothing is announced that is not kept.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from blockota.formats.cid import CID
from blockota.model.agreement import Agreement, AgreementStatus
from blockota.model.manifest import MAX_SIZE
from blockota.model.release import Release, Status


class Stage(enum.Enum):
    """How far a file came; `UNFIT` are right blocks that are not what the record says."""

    WANTED = "wanted"
    WHOLE = "whole"
    PINNED = "pinned"
    UNFIT = "unfit"
    DROPPING = "dropping"
    DROPPED = "dropped"


@dataclass(frozen=True)
class File:
    """A file that agreements need.

    Attributes:
        cid: its content address.
        size: its bytes; of a manifest the most that it may have.
        sha256: what the record says of an image; None for a manifest, whose address is its hash.
        label: what people call it.
    """

    cid: CID
    size: int
    sha256: bytes | None
    label: str = field(compare=False)


@dataclass(frozen=True)
class Promise:
    """One agreement of the broker's with all that belongs to it.

    Attributes:
        agreement: as it is at the confirmed block.
        newest: as it is at the newest one, where an announcement that was just sent shows first.
        release: the release that it names, at the confirmed block.
        manifest: its manifest's content address, where it has one.
        replicas: where others serve the release.
        is_under_way: whether an announcement of it was sent and is not settled.
    """

    agreement: Agreement
    newest: Agreement
    release: Release
    manifest: CID | None = None
    replicas: tuple[str, ...] = ()
    is_under_way: bool = False

    def is_good(self, time: int) -> bool:
        """Whether the release is to be served at a time of the chain, in Unix seconds."""
        agreement = self.agreement
        is_accepted = agreement.status is AgreementStatus.ACCEPTED
        return is_accepted and time < agreement.expires_at and self.release.status is Status.ACTIVE

    @property
    def label(self) -> str:
        """The release, for people."""
        return f"{self.release.product} {self.release.version}"

    def files(self) -> Iterator[File]:
        """The image, and the manifest where there is one."""
        yield File(self.release.cid, self.release.size, self.release.sha256, self.label)
        if self.manifest:
            yield File(self.manifest, MAX_SIZE, None, f"manifest of {self.label}")


@dataclass(frozen=True)
class Facts:
    """What the chain says at one confirmed block.

    Attributes:
        time: the block's time, in Unix seconds.
        promises: the broker's agreements that nobody has ended, in the order of their numbers.
        block: the block's number.
    """

    time: int
    promises: tuple[Promise, ...]
    block: int = 0

    def announced(self, number: int, url: str) -> Facts:
        """The same, with an agreement announced."""
        promises = (
            replace(one, newest=replace(one.newest, uri=url)) if one.agreement.number == number else one
            for one in self.promises
        )
        return replace(self, promises=tuple(promises))


@dataclass(frozen=True)
class Memory:
    """What the broker remembers.

    Attributes:
        files: each file it had to do with, and how far that came.
        left_out: sources that lied, and the Unix time, in seconds, until which they are not asked.
    """

    files: Mapping[CID, tuple[File, Stage]] = field(default_factory=dict)
    left_out: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Desk:
    """How the broker works.

    Attributes:
        now: the clock, in Unix seconds.
        sources: the vendor's repositories.
        url: where the broker serves, as `base_url` gives it; empty announces nothing.
    """

    now: float
    sources: tuple[str, ...]
    url: str = ""


@dataclass(frozen=True)
class Drop:
    """Stop keeping a file.

    Attributes:
        file: the file.
        keep: roots whose blocks stay, whatever they share with it.
    """

    file: File
    keep: frozenset[CID]


@dataclass(frozen=True)
class Fetch:
    """Fetch and verify a file.

    Attributes:
        file: the file.
        sources: the vendor's repositories.
        replicas: where others said that they serve it; strangers' words.
        left_out: who lied, and is not asked for that.
    """

    file: File
    sources: tuple[str, ...]
    replicas: tuple[str, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pin:
    """Mark a verified file as one to keep."""

    file: File


@dataclass(frozen=True)
class Announce:
    """Tell where a release is served, once its image is kept.

    Attributes:
        number: the agreement.
        url: where.
        file: the image.
    """

    number: int
    url: str
    file: File


@dataclass(frozen=True)
class Withhold:
    """Do not serve a file whose blocks are right, and which is not what the record says."""

    file: File


Action = Drop | Fetch | Pin | Announce | Withhold


def base_url(url: str) -> str:
    """What stands before ``/ipfs/…``, where people write that as well or end in a slash."""
    return url.rstrip("/").removesuffix("/ipfs").rstrip("/")


def plan(facts: Facts, memory: Memory, *, desk: Desk) -> tuple[Action, ...]:
    """The steps that lead from what is to what should be; none where nothing is to be done.

    A step is to be left out when an earlier one about the same file failed.
    """
    good = [promise for promise in facts.promises if promise.is_good(facts.time)]
    wanted: dict[CID, File] = {}
    for file in (file for promise in good for file in promise.files()):
        wanted.setdefault(file.cid, file)
    steps: list[Action] = list(_drops(memory, frozenset(wanted)))
    for file in wanted.values():
        steps += _toward_pinned(_stage(file, memory), _fetch(file, good, memory=memory, desk=desk))
    withheld = {step.file.cid for step in steps if isinstance(step, Withhold)}
    steps += _announcements([promise for promise in good if promise.release.cid not in withheld], desk)
    return tuple(steps)


def _drops(memory: Memory, wanted: frozenset[CID]) -> Iterator[Drop]:
    for cid, (file, stage) in memory.files.items():
        if cid not in wanted and stage is not Stage.DROPPED:
            yield Drop(file, wanted)


def _stage(file: File, memory: Memory) -> Stage:
    """How far a wanted file came; what was dropped, or was recorded otherwise, begins again."""
    known, stage = memory.files.get(file.cid, (file, Stage.WANTED))
    is_begun = known == file and stage not in {Stage.DROPPED, Stage.DROPPING}
    return stage if is_begun else Stage.WANTED


def _fetch(file: File, good: list[Promise], *, memory: Memory, desk: Desk) -> Fetch:
    """Asks the vendor's repositories, and the other replicas of the releases that a file belongs to, but no liars."""
    holders = (promise for promise in good if file.cid in {one.cid for one in promise.files()})
    others = dict.fromkeys(url for promise in holders for url in promise.replicas)
    skipped = {url for url, until in memory.left_out.items() if desk.now < until}
    strangers = [url for url in others if url not in {*desk.sources, desk.url}]
    return Fetch(
        file,
        tuple(url for url in desk.sources if url not in skipped),
        tuple(url for url in strangers if url not in skipped),
        tuple(url for url in (*desk.sources, *strangers) if url in skipped),
    )


def _toward_pinned(stage: Stage, fetch: Fetch) -> Iterator[Action]:
    if stage is Stage.UNFIT:
        yield Withhold(fetch.file)
        return
    if stage is Stage.WANTED:
        yield fetch
    if stage in {Stage.WANTED, Stage.WHOLE}:
        yield Pin(fetch.file)


def _announcements(promises: list[Promise], desk: Desk) -> Iterator[Announce]:
    for promise in promises if desk.url else []:
        newest = promise.newest
        is_open = newest.status is AgreementStatus.ACCEPTED
        if is_open and (base_url(newest.uri) != desk.url or promise.is_under_way):
            yield Announce(newest.number, desk.url, next(promise.files()))
