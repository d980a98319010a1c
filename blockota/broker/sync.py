"""A broker's day: carry out what `broker_plan` says, step by step, each remembered before the next one begins.

Whatever ends the run, the next one plans again from the chain and the state file: blocks that came stay, a pin is
set or taken away as often as one likes, and an announcement goes through the journal, which sends none twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from blockota.bindings.replication import ReplicationContract
from blockota.broker import agreements as broker
from blockota.broker.copies import Depot
from blockota.broker.facts import FactReader
from blockota.broker.plan import Action, Announce, Desk, Drop, Facts, Fetch, File, Pin, Stage, Withhold, plan
from blockota.broker.state import BrokerState
from blockota.errors import BlockOTAError, ContentError, RefusedError, StoreError, UsageError
from blockota.formats.cid import Block, check_block
from blockota.stores.fetch import FileFetch, StoreDestination
from blockota.stores.gateway import TrustlessClient
from blockota.stores.source import NO_CREDENTIALS, Credentials, Limits, Source, SourceError, Verdict

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

_NOTED = frozenset({"left out", "not announced", "missed"})
LEFT_OUT_SECONDS = 86400
"""How long a source that lied is not asked."""


@dataclass(frozen=True)
class Done:
    """One step, as it ended.

    Attributes:
        verb: what was done, such as ``fetched``; of a failure, what was to be done.
        subject: to what.
        detail: what else there is to say.
        error: why it failed.
    """

    verb: str
    subject: str
    detail: str = ""
    error: BlockOTAError | None = None

    @property
    def is_good(self) -> bool:
        """Whether it is as it should be."""
        return self.error is None and self.verb not in _NOTED


@dataclass(frozen=True)
class Means:
    """What a broker works with.

    Attributes:
        reader: asks the chain.
        depot: keeps the copies.
        state: what is remembered between runs.
        replication: takes announcements.
        account: signs them; without one they are only said to be missing.
        allow_private: whether a stranger's URL may lead into a private network.
        credentials: the tokens of repositories that want one.
        limits: what a source may cost.
    """

    reader: FactReader
    depot: Depot
    state: BrokerState
    replication: ReplicationContract
    account: BaseAccount | None = None
    allow_private: bool = False
    credentials: Credentials = NO_CREDENTIALS
    limits: Limits = field(default_factory=Limits)


class Sync:
    """The broker's rounds.

    Args:
        means: what it works with.
        address: the broker's.
        must_stop: whether to end before the next step.

    Attributes:
        facts: what the last round read from the chain, and what it announced since.
        left: how many steps the last round did not begin, because it was to stop.
    """

    facts: Facts | None = None
    left: int = 0

    def __init__(self, means: Means, address: str, *, must_stop: Callable[[], bool] = lambda: False) -> None:
        """Remember; nothing is asked yet."""
        self._means, self._address, self._must_stop = means, address, must_stop

    def round(self, desk: Desk) -> Iterator[Done]:
        """Read the chain once, and carry out what follows; each step is yielded when it has ended.

        Args:
            desk: the clock, the vendor's repositories, and where the broker serves.

        Raises:
            ChainError: the chain cannot be read.
            RefusedError: its answer cannot be understood.
            StoreError: the state file cannot be written.
        """
        means, self.facts, self.left = self._means, None, 0
        head, is_rewritten = means.reader.confirmed_head()
        if is_rewritten:
            yield Done("re-read", "the chain", f"it was rewritten; decided upon block {head.number}")
        self.facts = means.reader.read(head, broker=self._address, url=desk.url)
        yield from self._missed()
        steps, failed = plan(self.facts, means.state.memory(), desk=desk), set()
        for number, step in enumerate(steps):
            if self._must_stop():
                self.left = len(steps) - number
                return
            if step.file.cid in failed:
                continue
            for done in self._carried_out(step, now=desk.now):
                yield done
                if done.error and done.verb != "left out":
                    failed.add(step.file.cid)

    def _missed(self) -> Iterator[Done]:
        """Begin again with what was kept and is gone, such as after a disk was changed."""
        for file, stage in self._means.state.memory().files.values():
            if stage is Stage.PINNED and not self._means.depot.holds(file.cid):
                self._means.state.put(file, Stage.WANTED)
                yield Done("missed", file.label, f"the store does not hold {file.cid} any more")

    def _carried_out(self, step: Action, *, now: float) -> Iterator[Done]:
        try:
            yield from self._do(step, now=now)
        except (RefusedError, StoreError) as error:
            yield Done(_VERBS[type(step)], step.file.label, error=error)

    def _do(self, step: Action, *, now: float) -> Iterator[Done]:
        match step:
            case Drop():
                yield self._drop(step)
            case Fetch():
                yield from self._fetch(step, now=now)
            case Pin():
                yield self._pin(step)
            case Announce():
                yield self._announce(step)
            case Withhold():
                raise _unfit(step)

    def _drop(self, step: Drop) -> Done:
        state = self._means.state
        state.put(step.file, Stage.DROPPING)
        self._means.depot.drop(step.file.cid, keep=step.keep, is_foreign=state.is_foreign(step.file))
        state.put(step.file, Stage.DROPPED)
        return Done("dropped", step.file.label, str(step.file.cid))

    def _fetch(self, step: Fetch, *, now: float) -> Iterator[Done]:
        state, file = self._means.state, step.file
        if state.is_ours(file):
            state.put(file, Stage.WANTED)
        else:
            state.begin(file, is_foreign=self._means.depot.holds_for_others(file.cid))
        sources = list(self._sources(step))
        try:
            yield from (
                self._fetch_image(file, sources, now=now)
                if file.sha256
                else self._fetch_manifest(file, sources, now=now)
            )
        except ContentError as error:
            state.put(file, Stage.UNFIT)
            yield Done("fetch", file.label, error=error)
            return
        except StoreError as error:
            raise error if sources else _no_source(step) from error
        state.put(file, Stage.WHOLE)
        yield Done("fetched", file.label, str(file.cid))

    def _sources(self, step: Fetch) -> Iterator[Source]:
        credentials = self._means.credentials
        yield from map(credentials.source, step.sources)
        for url in step.replicas:
            with suppress(UsageError):  # one whose token cannot be read is not asked
                yield credentials.source(url, public_only=not self._means.allow_private)

    def _pin(self, step: Pin) -> Done:
        try:
            self._means.depot.pin(step.file.cid)
        except (ContentError, StoreError):
            self._means.state.put(step.file, Stage.WANTED)  # a block may be missing or corrupt; what is good stays
            raise
        self._means.state.put(step.file, Stage.PINNED)
        return Done("pinned", step.file.label, str(step.file.cid))

    def _announce(self, step: Announce) -> Done:
        means, words = self._means, f"blockota replica announce {step.number} {step.url}"
        if means.account is None:
            return Done("not announced", step.file.label, f"say --key URI, or run `{words} --key URI`")
        receipt = broker.announce(means.replication, means.account, number=step.number, uri=step.url)
        means.state.announced(step.number, step.url, transaction=receipt.transaction, block=receipt.block_number)
        if self.facts:
            self.facts = self.facts.announced(step.number, step.url)
        return Done("announced", step.file.label, f"agreement {step.number} at {step.url}")

    def _fetch_image(self, file: File, sources: list[Source], *, now: float) -> Iterator[Done]:
        arrivals = self._means.depot.arrivals
        fetch = FileFetch(file.cid, sources, size=file.size, into=StoreDestination(arrivals), limits=self._means.limits)
        try:
            fetch.run()
        finally:
            liars = [one for one in fetch.report().sources if one.verdict is Verdict.LIED]
            for liar in liars:
                self._means.state.leave_out(liar.url, why=liar.reason, until=now + LEFT_OUT_SECONDS)
        for liar in liars:
            yield _lied(liar.url, liar.reason)
        digest, size = hashlib.sha256(), 0
        for part in arrivals.open(file.cid):
            digest.update(part)
            size += len(part)
        if (digest.digest(), size) != (file.sha256, file.size):
            raise ContentError(
                f"{file.cid} is not the image that the chain records",
                why=f"it has {size} bytes and the SHA-256 {digest.hexdigest()}",
                remedy="tell the vendor: nothing of it is served",
            )

    def _fetch_manifest(self, file: File, sources: list[Source], *, now: float) -> Iterator[Done]:
        """A manifest is one block; whether it is right, its address alone tells."""
        arrivals, reasons = self._means.depot.arrivals, []
        with suppress(StoreError, ContentError):  # it is missing, or rotten
            check_block(file.cid, arrivals.read_block(file.cid))
            return
        for source in sources:
            try:
                with TrustlessClient(source, self._means.limits) as client:
                    block: Block = client.block(file.cid)
            except SourceError as error:
                reasons.append(f"{source.url} {error.verdict}: {error.why}")
                if error.verdict is Verdict.LIED:
                    self._means.state.leave_out(source.url, why=error.why, until=now + LEFT_OUT_SECONDS)
                    yield _lied(source.url, error.why)
            else:
                arrivals.write_block(block)
                return
        raise StoreError(
            f"the {file.label} could not be fetched", why="; ".join(reasons), remedy="name another --vendor-source"
        )


_VERBS = {Drop: "drop", Fetch: "fetch", Pin: "pin", Announce: "announce", Withhold: "keep"}


def _unfit(step: Withhold) -> ContentError:
    return ContentError(
        f"{step.file.label} is not kept",
        why=f"the blocks of {step.file.cid} are right, and are not the image that the chain records",
        remedy="tell the vendor: the release was published with another image's address",
    )


def _no_source(step: Fetch) -> StoreError:
    if step.left_out:
        return StoreError(
            f"there is nobody left to ask for {step.file.cid}",
            why=f"{', '.join(step.left_out)} served a bad block, and is not asked for a day",
            remedy="name another --vendor-source, or say --forgive when it was mended",
        )
    return StoreError(
        f"there is nobody to ask for {step.file.cid}",
        why="no repository of the vendor is named, and no other broker has announced this release",
        remedy="ask the vendor for its repository's URL, and name it with --vendor-source or in vendor_sources",
    )


def _lied(url: str, why: str) -> Done:
    return Done("left out", url, f"it lied: {why}")
