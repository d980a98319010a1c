"""Find a release's image: in the store, else at its vendor and brokers, else at gateways.

Nobody who serves is believed. Every block is checked against the content address that follows from the chain's record,
and what a source did wrong is told with its name. What is found is kept in the store where it can be written, so that
nobody has to be asked the next time.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from blockota.errors import ContentError, NotInStoreError, StoreError, UsageError, VerificationError
from blockota.model.agreement import Agreement
from blockota.model.release import Release
from blockota.stores.fetch import FileDestination, FileFetch, UnservedError
from blockota.stores.gateway import GatewayStore
from blockota.stores.local import LocalStore
from blockota.stores.source import NO_CREDENTIALS, Credentials, Limits, Source, SourceReport, Verdict
from blockota.stores.store import SearchingStore, Store

MAX_URL = 2048
"""Characters of the longest announced URL that is asked; servers take no longer ones for granted (RFC 9110, 4.1)."""
_SHOWN = 80
Candidate = Source | SourceReport
"""Somebody who may be asked, or the report on one who is not."""


@dataclass(frozen=True)
class SearchStage:
    """Sources that are asked at once.

    Attributes:
        name: what they are together, for people.
        candidates: names them; it is called only when those before them did not serve the image, or are slow.
    """

    name: str
    candidates: Callable[[], Iterable[Candidate]]


@dataclass(frozen=True)
class SearchObserver:
    """Who is told how a search goes on.

    Attributes:
        note: takes a sentence for people.
        progress: takes the bytes of the image that are there now.
    """

    note: Callable[[str], object] = lambda _: None
    progress: Callable[[int], object] = lambda _: None


@dataclass(frozen=True)
class ImageSources:
    """The sources of a release's image beside the store, in the order in which they are asked.

    Attributes:
        named: URLs that the operator named for this search.
        vendor: the vendor's URLs, from the settings.
        gateways: other gateways, from the settings.
        replicas: reads the agreements of brokers that serve a release; called only when brokers are to be asked.
        allow_private: whether announced URLs may lead to this machine or a private network. Only on a local
            development chain: elsewhere a stranger could have us send requests into our own network.
        credentials: the tokens of sources.
    """

    named: tuple[str, ...] = ()
    vendor: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    replicas: Callable[[Release], Iterable[Agreement]] = lambda _: ()
    allow_private: bool = False
    credentials: Credentials = NO_CREDENTIALS

    def stages(self, release: Release) -> tuple[SearchStage, ...]:
        """The stages of a search; URLs from the operator and the settings are checked at once.

        Raises:
            UsageError: one of these URLs is not that of a gateway.
        """
        first, vendor, gateways = (
            list(named(urls, self.credentials)) for urls in (self.named, self.vendor, self.gateways)
        )

        def vendor_and_brokers() -> list[Candidate]:
            replicas = self.replicas(release)
            return [*vendor, *announced(replicas, is_local_chain=self.allow_private, credentials=self.credentials)]

        return (
            SearchStage("the named sources", lambda: first),
            SearchStage("the vendor and the brokers", vendor_and_brokers),
            SearchStage("the gateways", lambda: gateways),
        )


def named(urls: Iterable[str], credentials: Credentials) -> Iterator[Candidate]:
    """The sources that the person named, or the settings; one whose token cannot be read is not asked.

    Raises:
        UsageError: a URL names no gateway.
    """
    for url in urls:
        base = base_url(url)
        Source(base)
        if "/ipfs/" in base:
            raise UsageError(
                f"{url!r} names no gateway",
                why="it is the address of something there",
                remedy="name what stands before /ipfs/",
            )
        yield _candidate(base, credentials)


def announced(
    agreements: Iterable[Agreement], *, is_local_chain: bool, credentials: Credentials = NO_CREDENTIALS
) -> Iterator[Candidate]:
    """The sources that brokers have announced on the chain.

    Args:
        agreements: with what the brokers say; a stranger's text.
        is_local_chain: whether the chain is a local development chain. Only there a URL may lead to this machine or
            a private network, which on a public chain a stranger could have us ask for anything.
        credentials: the tokens of those sources that the settings know.
    """
    for agreement in agreements:
        url = base_url(agreement.uri)
        if len(url) > MAX_URL:
            yield _refused(url, f"it has more than {MAX_URL} characters")
        else:
            yield _candidate(url, credentials, public_only=not is_local_chain)


def find_image(
    release: Release,
    store: Store,
    *,
    stages: Sequence[SearchStage],
    into: BinaryIO,
    observer: SearchObserver = SearchObserver(),
) -> None:
    """Write a release's image into a file, from wherever it is to be had; `blockota.model.verification` proves it.

    Args:
        release: the chain's record.
        store: is asked first; a local one that can be written keeps what is found elsewhere.
        stages: who is asked then, one stage after the other; where one is slow, the next joins it.
        into: an empty file that is open for reading and writing; its position is undefined afterwards.
        observer: who is told how it goes on, and which sources were left out.

    Raises:
        VerificationError: number 4, what was found is something else, and nobody is left to ask.
        StoreError: nobody serves the image, or it cannot be written.
    """
    search = _Search(release, stages, into=into, observer=observer)
    if isinstance(store, GatewayStore):  # a source like others: it must not be waited for either
        search.begin_with(SearchStage("the store", lambda: [store.source]))
    elif search.is_held(store):
        return
    keeper = store if isinstance(store, LocalStore) and _is_writable(store.folder) else None
    if search.is_fetched(keeper) or (isinstance(store, SearchingStore) and search.is_on_the_network(store)):
        return
    raise search.failure()


class _Search:
    """The search for one image: what was tried, and what became of it."""

    def __init__(
        self, release: Release, stages: Sequence[SearchStage], *, into: BinaryIO, observer: SearchObserver
    ) -> None:
        self._release, self._into, self._listener = release, into, observer
        self._stages = deque(stages)
        self._reports: dict[str, SourceReport] = {}
        self._of_store: StoreError | ContentError | None = None
        self._in_vain = ""
        self._there = 0

    def begin_with(self, stage: SearchStage) -> None:
        self._stages.appendleft(stage)

    def is_held(self, store: Store) -> bool:
        """Take the image from the store, and say whether it is whole there."""
        try:
            self._copy(store.open(self._release.cid))
        except (StoreError, ContentError) as error:
            self._of_store = error
            if not isinstance(error, NotInStoreError):
                self._listener.note(f"Not taken from the store: {error.what}, {error.why}.")
            return False
        return True

    def is_on_the_network(self, store: SearchingStore) -> bool:
        """Let a store that works look for the image elsewhere, and say whether it is whole now."""
        if not isinstance(self._of_store, NotInStoreError):
            return False
        self._listener.note(f"Asking the IPFS network through the Kubo node at {store.url}; it may take minutes.")
        try:
            self._copy(store.search(self._release.cid))
        except (StoreError, ContentError) as error:
            self._in_vain = f"the IPFS network, through that node: {error.why}"
            return False
        return True

    def is_fetched(self, keeper: LocalStore | None) -> bool:
        """Ask all stages, let a store keep what comes, and say whether the image is whole now."""
        self._empty()
        with self._locked(keeper) as store:
            destination = FileDestination(self._into, store=store)
            is_whole = self._fetch(destination)
            if store:
                self._settle(store, destination, is_whole=is_whole)
        return is_whole

    def _fetch(self, destination: FileDestination) -> bool:
        release = self._release
        fetch = FileFetch(release.cid, (), size=release.size, into=destination, limits=Limits())
        try:
            fetch.run(self._count, more=lambda: self._next(fetch))
        except ContentError as error:
            raise _translated(error) from error
        except UnservedError:
            return False
        finally:
            self._report(fetch.report().bad)
        return True

    @contextmanager
    def _locked(self, keeper: LocalStore | None) -> Iterator[LocalStore | None]:
        """The store that keeps what comes, while nothing is removed there; none where that cannot be had."""
        with ExitStack() as stack:
            try:
                if keeper:
                    stack.enter_context(keeper.locked(exclusive=False))
            except StoreError as error:
                self._not_kept(error)
                keeper = None
            yield keeper

    def _settle(self, store: LocalStore, destination: FileDestination, *, is_whole: bool) -> None:
        try:
            if destination.store_error:
                raise destination.store_error
            if is_whole:
                store.pin(self._release.cid)
        except StoreError as error:
            self._not_kept(error)

    def _not_kept(self, error: StoreError) -> None:
        self._listener.note(f"Not kept in the store: {error.what}, {error.why}.")

    def failure(self) -> StoreError | VerificationError:
        """What to raise when nobody served the image."""
        of_store = self._of_store
        if of_store and not (self._reports or self._in_vain):
            return _translated(of_store)
        verdicts = "; ".join(map(str, self._reports.values()))
        of_others = "; ".join(filter(None, (verdicts, self._in_vain)))
        why = f"{of_store.what} ({of_store.why}); {of_others}" if of_store else of_others
        if self._reports and all(report.verdict == Verdict.LIED for report in self._reports.values()):
            return VerificationError(
                4,
                "only other images than the release were found",
                why=why,
                remedy="name a source that serves the release with --source, and tell the vendor of these",
            )
        return StoreError(
            f"the image of {self._release.product} {self._release.version} was found nowhere",
            why=why,
            remedy="name a source that serves it with --source, or try again later",
        )

    def _next(self, fetch: FileFetch) -> list[Source] | None:
        """The sources of the next stage that has any, or nothing when all were asked."""
        self._report(fetch.report().bad)
        while self._stages:
            stage = self._stages.popleft()
            candidates = list(stage.candidates())
            self._report(candidate for candidate in candidates if isinstance(candidate, SourceReport))
            if sources := [candidate for candidate in candidates if isinstance(candidate, Source)]:
                number = "1 source" if len(sources) == 1 else f"{len(sources)} sources"
                self._listener.note(f"Asking {stage.name} for the image ({number}).")
                return sources
        return None

    def _copy(self, parts: Iterator[bytes]) -> None:
        """Write what a store has under the release's address into the file, and no more than the record says."""
        self._empty()
        size = 0
        for part in parts:
            size += len(part)
            if size > self._release.size:
                raise ContentError(
                    f"what {self._release.cid} names is too large",
                    why=f"it has more than the {self._release.size} bytes expected",
                )
            with _written():
                self._into.write(part)
            self._listener.progress(size)

    def _empty(self) -> None:
        with _written():
            self._into.seek(0)
            self._into.truncate()

    def _count(self, size: int) -> None:
        self._there += size
        self._listener.progress(self._there)

    def _report(self, reports: Iterable[SourceReport]) -> None:
        for report in reports:
            if report.url not in self._reports:
                self._reports[report.url] = report
                self._listener.note(f"Left out: {report}.")


def base_url(url: str) -> str:
    """The part of a URL before ``/ipfs/…``; a trailing ``/ipfs`` or slash is removed."""
    return url.rstrip("/").removesuffix("/ipfs").rstrip("/")


def _candidate(url: str, credentials: Credentials, *, public_only: bool = False) -> Candidate:
    try:
        return credentials.source(url, public_only=public_only)
    except UsageError as error:
        return _refused(url, error.why)


def _refused(url: str, why: str) -> SourceReport:
    return SourceReport(url[:_SHOWN], 0, 0.0, Verdict.REFUSED, why)


def _translated(error: StoreError | ContentError) -> StoreError | VerificationError:
    """What a store could not give, in the words of check 4 where it gave other bytes."""
    if isinstance(error, StoreError):
        return error
    return VerificationError(
        4,
        "the image in the store is not the release",
        why=f"{error.what}, {error.why}",
        remedy="take the image from another store with --store, from a source with --source, or from a file",
    )


def _is_writable(folder: Path) -> bool:
    """Whether a folder can be written, or made."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return nearest.is_dir() and os.access(nearest, os.W_OK)


@contextmanager
def _written() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            "the image cannot be written to a file",
            why=error.strerror or str(error),
            remedy="check the disk's free space",
        ) from error
