"""A broker's day: carry out what `broker_plan` says, step by step, each remembered before the next one begins.

Whatever ends the run, the next one plans again from the chain and the state file: blocks that came stay, a pin is
set or taken away as often as one likes, and an announcement goes through the journal, which sends none twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from eth_account.signers.base import BaseAccount

from blockota import broker
from blockota.broker_facts import FactReader
from blockota.broker_plan import Action, Announce, Desk, Drop, Fetch, File, Pin, Stage, Withhold, plan
from blockota.broker_state import BrokerState
from blockota.cid import Block
from blockota.depot import Depot
from blockota.errors import BlockOTAError, ContentError, RefusedError, StoreError
from blockota.replication import ReplicationContract
from blockota.stores.destinations import InStore
from blockota.stores.fetching import Fetch as FileFetch
from blockota.stores.source import Limits, Source, SourceError, Verdict
from blockota.stores.trustless import TrustlessClient

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
        limits: what a source may cost.
    """

    reader: FactReader
    depot: Depot
    state: BrokerState
    replication: ReplicationContract
    account: BaseAccount | None = None
    allow_private: bool = False
    limits: Limits = field(default_factory=Limits)


class Sync:
    """The broker's rounds.

    Args:
        means: what it works with.
        address: the broker's.
        must_stop: whether to end before the next step.
    """

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
        means = self._means
        head, is_rewritten = means.reader.confirmed_head()
        if is_rewritten:
            yield Done("re-read", "the chain", f"it was rewritten; decided upon block {head.number}")
        facts = means.reader.read(head, broker=self._address, url=desk.url)
        failed = set()
        for step in plan(facts, means.state.memory(), desk=desk):
            if self._must_stop():
                return
            if step.file.cid in failed:
                continue
            for done in self._carried_out(step, now=desk.now):
                yield done
                if done.error and done.verb != "left out":
                    failed.add(step.file.cid)

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
        strangers = (Source(url, public_only=not self._means.allow_private) for url in step.replicas)
        sources = [*map(Source, step.sources), *strangers]
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
        state.put(file, Stage.WHOLE)
        yield Done("fetched", file.label, str(file.cid))

    def _pin(self, step: Pin) -> Done:
        self._means.depot.pin(step.file.cid)
        self._means.state.put(step.file, Stage.PINNED)
        return Done("pinned", step.file.label, str(step.file.cid))

    def _announce(self, step: Announce) -> Done:
        means, words = self._means, f"blockota replica announce {step.number} {step.url}"
        if means.account is None:
            return Done("not announced", step.file.label, f"name a key with --key, or run `{words} --key …`")
        receipt = broker.announce(means.replication, means.account, number=step.number, uri=step.url)
        means.state.announced(step.number, step.url, transaction=receipt.transaction, block=receipt.block_number)
        return Done("announced", step.file.label, f"agreement {step.number} at {step.url}")

    def _fetch_image(self, file: File, sources: list[Source], *, now: float) -> Iterator[Done]:
        arrivals = self._means.depot.arrivals
        fetch = FileFetch(file.cid, sources, size=file.size, into=InStore(arrivals), limits=self._means.limits)
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
        if arrivals.has(file.cid):
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
        why = "; ".join(reasons) or "there is no source to ask"
        raise StoreError(f"the {file.label} could not be fetched", why=why, remedy="name another --vendor-source")


_VERBS = {Drop: "drop", Fetch: "fetch", Pin: "pin", Announce: "announce", Withhold: "keep"}


def _unfit(step: Withhold) -> ContentError:
    return ContentError(
        f"{step.file.label} is not kept",
        why=f"the blocks of {step.file.cid} are right, and are not the image that the chain records",
        remedy="tell the vendor: the release was published with another image's address",
    )


def _lied(url: str, why: str) -> Done:
    return Done("left out", url, f"it lied: {why}")
