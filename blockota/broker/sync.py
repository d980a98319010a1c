"""A broker's rounds.

Each step of the plan is executed and recorded before the next step begins. Every run derives a new plan from the chain
and the state file. An interrupted run does no harm: fetched blocks are kept, pins are idempotent, and the transaction
journal prevents a second announcement.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from blockota.bindings.replication import ReplicationContract
from blockota.broker import agreements
from blockota.broker.agreements import AgreementReader
from blockota.broker.copies import Copies
from blockota.broker.offences import Offence, skipped_until
from blockota.broker.plan import Announce, CopyStage, Drop, Facts, Fetch, Pin, Step, Withhold, plan
from blockota.broker.state import BrokerState
from blockota.errors import (
    Action,
    BlockOTAError,
    ChainError,
    ContentError,
    ContractRefusalError,
    RefusedError,
    StoreError,
    UsageError,
    shortened,
)
from blockota.files import is_disk_full
from blockota.formats.cid import check_block
from blockota.model.release import show_time
from blockota.model.rights import DeltaReader, ReleaseFile
from blockota.stores.fetch import FileFetch, StoreDestination
from blockota.stores.gateway import TrustlessClient
from blockota.stores.source import NO_CREDENTIALS, Credentials, Limits, Source, SourceError, SourceReport, Verdict
from blockota.url_secrets import shown_url

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

_SKIPPED = "left out"
_CORRUPT = "corrupt"
_NOTES = frozenset({_SKIPPED, _CORRUPT, "not announced", "missed"})
VERIFY_EVERY = 7 * 86400
"""The default number of seconds after which a copy is verified again."""
_VERBS = {Drop: "drop", Fetch: "fetch", Pin: "pin", Announce: "announce", Withhold: "keep"}
_KINDS = (ContentError, ContractRefusalError, RefusedError, ChainError, StoreError)


@dataclass(frozen=True)
class Done:
    """The outcome of one step.

    Attributes:
        verb: the completed action, such as ``fetched``; for a failed step, the attempted action.
        subject: the file or source to which the action applies.
        detail: further information.
        error: the reason of a failure; None if the step succeeded.
    """

    verb: str
    subject: str
    detail: str = ""
    error: BlockOTAError | None = None

    @property
    def is_good(self) -> bool:
        """Whether the step succeeded and nothing needs attention."""
        return self.error is None and self.verb not in _NOTES


@dataclass
class BrokerSync:
    """Executes a broker's rounds.

    Attributes:
        reader: reads the agreements from the chain.
        copies: the broker's copies.
        state: the broker's state file.
        replication: the contract that records announcements.
        sources: the URLs of the vendor's repositories.
        url: the URL at which the broker serves, as returned by `stores.source.base_url`; empty to announce nothing.
        account: the account that signs announcements; None to report due announcements without sending them.
        allow_private: whether an announced URL may lead into a private network.
        credentials: the tokens of repositories.
        limits: the time and size limits of the requests to a source.
        verify_every: seconds after which a copy is verified again.
        must_stop: returns whether the round must end after the current step.
        progress: a context manager that shows the progress of a fetch. It yields a function to call with the number of
            bytes that were just added to the image.
        facts: the chain facts of the last round, updated with its announcements.
        left: the number of steps that the last round did not begin.
    """

    reader: AgreementReader
    copies: Copies
    state: BrokerState
    replication: ReplicationContract
    sources: tuple[str, ...] = ()
    url: str = ""
    account: BaseAccount | None = None
    allow_private: bool = False
    credentials: Credentials = NO_CREDENTIALS
    limits: Limits = field(default_factory=Limits)
    verify_every: int = VERIFY_EVERY
    must_stop: Callable[[], bool] = lambda: False
    progress: Callable[[ReleaseFile], AbstractContextManager[Callable[[int], object]]] = lambda _: nullcontext(
        lambda _: None
    )
    facts: Facts | None = None
    left: int = 0

    def __post_init__(self) -> None:
        """Record the addresses of the manifests that were read."""
        self._deltas = DeltaReader(self.copies.read)

    def round(self, now: float, *, verify_all: bool = False) -> Iterator[Done]:
        """Read the chain, and execute the planned steps. Yields the outcome of each step after the step has ended.

        Args:
            now: Unix time in seconds.
            verify_all: whether to verify all copies first, including those that were verified recently.

        Raises:
            ChainError: the chain cannot be read.
            RefusedError: a contract's return data is not valid.
            StoreError: the state file cannot be written, or the disk is full.
        """
        self.facts, self.left = None, 0
        self.facts = self.reader.read(url=self.url).with_deltas(self._deltas)
        if self.facts.is_reorganised:
            yield Done("re-read", "the chain", f"it was reorganised; the plan is for block {self.facts.block}")
        yield from self._examine_copies(now, verify_all=verify_all)

        steps = plan(self.facts, self.state.memory(), now=now, sources=self.sources, url=self.url)
        yield from self._carry_out(steps, now=now)

        # A manifest that was just fetched names the deltas of its release.
        before = self.facts
        self.facts = before.with_deltas(self._deltas)
        if self.facts != before and not self.left:
            known = {file.cid for one in before.agreements for file in one.claim.files()}
            steps = plan(self.facts, self.state.memory(), now=now, sources=self.sources, url=self.url)
            yield from self._carry_out([step for step in steps if step.file.cid not in known], now=now)

    def _carry_out(self, steps: Sequence[Step], *, now: float) -> Iterator[Done]:
        """Carry out steps in order. If a step fails, the later steps for the same file are skipped."""
        failed = set()
        for number, step in enumerate(steps):
            if self.must_stop():
                self.left = len(steps) - number
                return
            if step.file.cid in failed:
                continue
            for done in self._attempt(step, now=now):
                if done.error and is_disk_full(done.error):
                    # All other steps would fail for the same reason.
                    self.left = len(steps) - number - 1
                    raise StoreError(
                        "the round ended, because the disk is full",
                        why=f"could not {done.verb} {done.subject}: {done.error.what}; {self.left} steps are left",
                        remedy="free space on the disk, and run the command again: completed steps are kept",
                    ) from done.error
                yield done
                if done.error:
                    failed.add(step.file.cid)

    def _examine_copies(self, now: float, *, verify_all: bool) -> Iterator[Done]:
        """Mark copies that are missing or corrupt as not fetched, for example after a disk fault."""
        verified = self.state.verified_at()
        for file, stage in self.state.memory().files.values():
            if stage is not CopyStage.PINNED or self.must_stop():
                continue
            if not self.copies.has(file.cid):
                self.state.put(file, CopyStage.WANTED)
                yield Done("missed", file.label, f"the store does not have {file.cid} any more; it is fetched again")
            elif verify_all or now - verified.get(file.cid, 0) >= self.verify_every:
                yield self._verify(file, now)

    def _verify(self, file: ReleaseFile, now: float) -> Done:
        try:
            self.copies.verify(file.cid)
        except (ContentError, StoreError) as error:
            self.copies.has(file.cid)  # raises if the store is out of reach: the copy may be intact
            self.state.put(file, CopyStage.WANTED)
            return Done(_CORRUPT, file.label, f"{error.what}; it is fetched again")
        self.state.put_verification(file.cid, now)
        return Done("verified", file.label, str(file.cid))

    def _attempt(self, step: Step, *, now: float) -> Iterator[Done]:
        try:
            match step:
                case Drop():
                    # The stage is recorded first, because an interruption may leave only some of the blocks.
                    self.state.put(step.file, CopyStage.DROPPING)
                    is_foreign = self.state.is_foreign(step.file)
                    self.copies.drop(step.file.cid, keep=step.keep, is_foreign=is_foreign)
                    self.state.put(step.file, CopyStage.DROPPED)
                    yield Done("dropped", step.file.label, f"{step.file.cid}, because {step.why}")
                case Fetch():
                    yield from self._fetch(step, now=now)
                case Pin():
                    self._pin(step.file, now)
                    yield Done("pinned", step.file.label, str(step.file.cid))
                case Announce():
                    yield self._announce(step)
                case Withhold():
                    raise ContentError(
                        f"{step.file.label} is not kept",
                        why=f"the blocks of {step.file.cid} are valid, but are not the image that the chain records",
                        remedy="report to the vendor that the release was published with the address of another image",
                    )
        except (RefusedError, StoreError) as error:
            yield Done(_VERBS[type(step)], step.file.label, error=error)

    def _fetch(self, step: Fetch, *, now: float) -> Iterator[Done]:
        state, file = self.state, step.file
        if state.is_begun(file):
            state.put(file, CopyStage.WANTED)
        else:
            state.add(file, is_foreign=self.copies.is_pinned(file.cid))

        for url, until in step.skipped.items():
            when = show_time(int(until))
            yield Done(_SKIPPED, shown_url(url), f"for {file.label} until {when}: it served wrong blocks")
        sources = [self.credentials.source(url) for url in step.sources]
        for url in step.replicas:
            with suppress(UsageError):  # the token for this source cannot be read
                sources.append(self.credentials.source(url, public_only=not self.allow_private))
        fetch = self._fetch_image if file.sha256 else self._fetch_manifest
        try:
            yield from fetch(file, sources, now=now)
        except ContentError as error:
            state.put(file, CopyStage.UNFIT)
            yield Done("fetch", file.label, error=error)
            return
        except StoreError as error:
            # A fetch without sources is tried too: it succeeds if the store already has all blocks.
            if not sources:
                raise _no_source(step) from error
            if error.action is Action.NAME_SOURCE:  # this option belongs to commands that fetch one file
                error.action = Action.NAME_VENDOR_SOURCE
            raise
        state.put(file, CopyStage.WHOLE)
        yield Done("fetched", file.label, str(file.cid))

    def _fetch_image(self, file: ReleaseFile, sources: list[Source], *, now: float) -> Iterator[Done]:
        staging = self.copies.staging
        fetch = FileFetch(file.cid, sources, size=file.size, into=StoreDestination(staging), limits=self.limits)
        failure = None
        try:
            with self.progress(file) as added:
                fetch.run(added)
        except BlockOTAError as error:
            failure = error  # raised below, after the newly skipped sources are reported
        finally:  # wrong blocks are recorded even if the fetch is interrupted
            bad = [one for one in fetch.report().sources if one.verdict is Verdict.WRONG]
            found = [self._accuse(one.url, file, one.reason, now=now) for one in bad]
        yield from found
        if failure:
            raise failure

        digest, size = hashlib.sha256(), 0
        for part in staging.open(file.cid):
            digest.update(part)
            size += len(part)
        if (digest.digest(), size) != (file.sha256, file.size):
            raise ContentError(
                f"{file.cid} is not the image that the chain records",
                why=f"the file has {size} bytes and the SHA-256 {digest.hexdigest()}",
                remedy="report this release to the vendor; the file is not served",
            )

    def _fetch_manifest(self, file: ReleaseFile, sources: list[Source], *, now: float) -> Iterator[Done]:
        """Fetch a manifest, which is one block and is verified by its content address."""
        staging = self.copies.staging
        reasons: list[SourceReport] = []
        with suppress(StoreError, ContentError):  # missing or corrupt
            check_block(file.cid, staging.read_block(file.cid))
            return

        for source in sources:
            try:
                with TrustlessClient(source, self.limits) as client:
                    staging.write_block(client.block(file.cid))
                    return
            except SourceError as error:
                reasons.append(SourceReport(source.url, 0, 0.0, error.verdict, error.why))
                if error.verdict is Verdict.WRONG:
                    yield self._accuse(source.url, file, error.why, now=now)

        raise StoreError(
            f"the {file.label} could not be fetched",
            why=shortened(reasons, "; "),
            remedy="give the URL of another repository of the vendor",
            action=Action.NAME_VENDOR_SOURCE,
        )

    def _accuse(self, url: str, file: ReleaseFile, why: str, *, now: float) -> Done:
        """Record a wrong block, and report the time until which the block's source is skipped."""
        self.state.put_offence(Offence(url, file.cid, now), why=why)
        until = show_time(int(skipped_until(self.state.memory().offences, url, file.cid)))
        return Done(_SKIPPED, shown_url(url), f"for {file.label} until {until}: it served a wrong block, {why}")

    def _pin(self, file: ReleaseFile, now: float) -> None:
        try:
            self.copies.pin(file.cid)
        except (ContentError, StoreError):
            self.state.put(file, CopyStage.WANTED)  # fetch missing and corrupt blocks again, and keep the others
            raise
        self.state.put(file, CopyStage.PINNED)
        self.state.put_verification(file.cid, now)

    def _announce(self, step: Announce) -> Done:
        number = step.agreement.number
        if self.account is None:
            detail = f"agreement {number} at {step.url}: no key was given"
            return Done("not announced", step.file.label, detail)
        receipt = agreements.announce(self.replication, self.account, agreement=step.agreement, uri=step.url)
        self.state.put_announcement(number, step.url, transaction=receipt.transaction, block=receipt.block_number)
        if self.facts:
            self.facts = self.facts.with_announcement(number, step.url)
        return Done("announced", step.file.label, f"agreement {number} at {step.url}")


def failure_of(steps: Sequence[Done]) -> BlockOTAError | None:
    """Combine the errors of a round's failed steps into one error; None if no step failed.

    The combined error has the lowest exit status of the errors, so a refusal takes precedence over a source that is out
    of reach.
    """
    errors = [(done, done.error) for done in steps if done.error]
    if not errors:
        return None
    worst = min((error for _, error in errors), key=lambda error: error.exit_status)
    kind = next(kind for kind in (*_KINDS, BlockOTAError) if isinstance(worst, kind))
    what = "1 step of the round failed" if len(errors) == 1 else f"{len(errors)} steps of the round failed"
    names = shortened(f"could not {done.verb} {done.subject}" for done, _ in errors)
    return kind(what, why=names, remedy="see the messages above, and run the command again: completed steps are kept")


def _no_source(step: Fetch) -> StoreError:
    if step.skipped:
        until = shortened(f"{shown_url(url)} until {show_time(int(time))}" for url, time in step.skipped.items())
        return StoreError(
            f"no source is left for {step.file.cid}",
            why=f"these sources served wrong blocks and are not asked: {until}",
            remedy="wait, give the URL of another repository, or forgive the source after it was repaired",
            action=Action.FORGIVE_SOURCE,
        )

    return StoreError(
        f"no source is known for {step.file.cid}",
        why="no repository of the vendor is given, and no other broker has announced this release",
        remedy="ask the vendor for the URL of its repository, and give this URL",
        action=Action.NAME_VENDOR_SOURCE,
    )
