"""Search for a release's image: in the store, then at the vendor and the brokers, then at gateways.

Sources are untrusted: every block is verified against the content address in the chain's record, and a source that
serves a wrong block is reported and not asked again. A writable local store keeps the fetched blocks for the next
search.
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from blockota.errors import Action, ContentError, NotInStoreError, StoreError, UsageError, VerificationError, shortened
from blockota.formats.cid import CID
from blockota.model.agreement import Agreement
from blockota.model.release import Release
from blockota.stores.fetch import FileDestination, FileFetch, UnservedError
from blockota.stores.gateway import GatewayStore
from blockota.stores.local import LocalStore
from blockota.stores.source import (
    NO_CREDENTIALS,
    Credentials,
    Source,
    SourceReport,
    Verdict,
    base_url,
)
from blockota.stores.store import SearchingStore, Store, read_whole
from blockota.url_secrets import shown_url

MAX_URL = 2048
"""Maximum length of an announced URL in characters; servers need not support longer URLs (RFC 9110, 4.1)."""
_SHOWN = 80
Candidate = Source | SourceReport
"""A source that may be asked, or the report on a source that may not be asked."""


@dataclass(frozen=True)
class SearchStage:
    """A group of sources that are asked concurrently.

    Attributes:
        name: name of the group, for messages.
        candidates: returns the sources of the stage, and is called only if the earlier stages are too slow or do not
            serve the image.
    """

    name: str
    candidates: Callable[[], Iterable[Candidate]]


NETWORK = SearchStage("the IPFS network", lambda: ())
"""The IPFS network, searched through a Kubo node; a search may take minutes if no node has the image."""


@dataclass(frozen=True)
class SearchObserver:
    """Receives the progress of a search.

    Attributes:
        note: called with a sentence for the operator.
        progress: called with the number of bytes of the image that have been found.
        served: called with the URL of each source that served a part of the image; not called for the store or the IPFS
            network.
    """

    note: Callable[[str], object] = lambda _: None
    progress: Callable[[int], object] = lambda _: None
    served: Callable[[str], object] = lambda _: None


@dataclass(frozen=True)
class ImageSources:
    """The sources of a release's image other than the store, in the order in which they are asked.

    Attributes:
        named: URLs that the operator gave for this search.
        vendor: the vendor's URLs, from the settings.
        gateways: further gateways, from the settings.
        replicas: returns the agreements of the brokers that serve a release, and is called only when the search reaches
            the brokers.
        allow_private: whether announced URLs may lead to this machine or a private network. Allow this only on a local
            development chain, because anyone can announce a URL on a public chain.
        credentials: the bearer tokens of sources.
    """

    named: tuple[str, ...] = ()
    vendor: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    replicas: Callable[[Release], Iterable[Agreement]] = lambda _: ()
    allow_private: bool = False
    credentials: Credentials = NO_CREDENTIALS

    def stages(self, release: Release) -> tuple[SearchStage, ...]:
        """Return the stages of a search. URLs from the operator and the settings are checked immediately.

        Raises:
            UsageError: a URL from the operator or the settings is not the URL of a gateway.
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
            NETWORK,
        )


def named(urls: Iterable[str], credentials: Credentials) -> Iterator[Candidate]:
    """Yield the sources from the operator or the settings, or a report for a source whose token cannot be read.

    Raises:
        UsageError: a URL is not the URL of a gateway.
    """
    for url in urls:
        base = base_url(url)
        Source(base)
        if "/ipfs/" in base:
            raise UsageError(
                f"{shown_url(url)!r} is not the URL of a gateway",
                why="the URL names a file on a gateway",
                remedy="give the part of the URL before /ipfs/",
            )
        yield _candidate(base, credentials)


def announced(
    agreements: Iterable[Agreement], *, is_local_chain: bool, credentials: Credentials = NO_CREDENTIALS
) -> Iterator[Candidate]:
    """Yield the sources that brokers have announced on the chain.

    Args:
        agreements: agreements with the announced URLs, which are untrusted text.
        is_local_chain: whether the chain is a local development chain. On a public chain, anyone can announce a URL
            that leads into our own network. URLs with private addresses are therefore accepted only on a local chain.
        credentials: the bearer tokens of sources.
    """
    for agreement in agreements:
        url = base_url(agreement.uri)
        if len(url) > MAX_URL:
            yield _refused(url, f"the URL has more than {MAX_URL} characters")
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
    """Read a release's image from the store or the sources, and write the image into a file.

    The caller must verify the file (`blockota.model.verification`).

    Args:
        release: the chain's record.
        store: the store, which is read first. Blocks that sources serve are also stored in a writable local store.
        stages: the stages in the order of the search. If the sources of a stage are slow, the sources of the next stage
            are asked too. If `NETWORK` is one of the stages and the store is a Kubo node, the search ends with the IPFS
            network.
        into: an empty file, open for reading and writing; its position is undefined afterwards.
        observer: receives the progress, and the sources that are not asked again.

    Raises:
        VerificationError: only wrong images were found (check 4 in `blockota.model.verification`).
        StoreError: no source serves the image, or the image cannot be written.
    """
    search = _Search(release, stages, into=into, observer=observer)

    # (1) The store. A gateway as the store is asked as a source, so that other sources can join if it is slow.
    if isinstance(store, GatewayStore):
        search.prepend(SearchStage("the store", lambda: [store.source]))
    elif search.copy_from_store(store):
        return

    # (2) The stages of sources.
    keeper = store if isinstance(store, LocalStore) and _is_writable(store.folder) else None
    if search.fetch(keeper):
        return

    # (3) The IPFS network, through the store's node. It is last, because its search may take minutes.
    if NETWORK in stages and isinstance(store, SearchingStore) and search.search_network(store):
        return
    raise search.failure()


def find_small_file(cid: CID, store: Store, *, stages: Sequence[SearchStage], size: int, what: str) -> bytes:
    """Read a small file, such as a manifest, from the store, or from the first source that serves the file.

    Args:
        cid: the content address.
        store: the store, which is read first. A file that a source serves is also stored in a writable local store.
        stages: the stages; their sources are asked in order, one after another.
        size: the largest accepted file, in bytes.
        what: the name of the file, for errors.

    Raises:
        ContentError: the store has wrong bytes under the content address, and the stages do not have a source.
        StoreError: neither the store nor a source serves the file.
    """
    try:
        return read_whole(store, cid, size=size)
    except (StoreError, ContentError) as error:
        of_store, failures = error, [f"{error.what} ({error.why})"]

    candidates = chain.from_iterable(stage.candidates() for stage in stages)
    for candidate in candidates:
        if isinstance(candidate, SourceReport):
            failures.append(str(candidate))
            continue
        try:
            content = read_whole(GatewayStore(candidate), cid, size=size)
        except (StoreError, ContentError) as error:
            failures.append(f"{error.what} ({error.why})")
            continue
        if isinstance(store, LocalStore) and _is_writable(store.folder):
            # The file is complete, so a failure to keep it in the store is ignored.
            with suppress(StoreError):
                store.put(io.BytesIO(content))
        return content

    if NETWORK in stages and isinstance(store, SearchingStore):
        try:
            return b"".join(store.search(cid))
        except (StoreError, ContentError) as error:
            failures.append(f"{error.what} ({error.why})")
    # No source was asked: the store's own error is more precise.
    if len(failures) == 1 and (not stages or isinstance(of_store, ContentError)):
        raise of_store
    raise StoreError(
        f"{what} was not found",
        why=shortened(failures, "; "),
        remedy="name a source that serves the release with its manifest, or try again later",
        action=Action.NAME_SOURCE,
    )


class _Search:
    """The search for one image, with its results so far. Each step's function returns whether the image is complete."""

    def __init__(
        self, release: Release, stages: Sequence[SearchStage], *, into: BinaryIO, observer: SearchObserver
    ) -> None:
        self._release, self._into, self._observer = release, into, observer
        self._stages = deque(stages)
        self._reports: dict[str, SourceReport] = {}
        self._store_error: StoreError | ContentError | None = None
        self._network_failure = ""

    def prepend(self, stage: SearchStage) -> None:
        self._stages.appendleft(stage)

    def copy_from_store(self, store: Store) -> bool:
        try:
            self._copy(store.open(self._release.cid))
        except (StoreError, ContentError) as error:
            self._store_error = error
            if not isinstance(error, NotInStoreError):
                self._observer.note(f"Not taken from the store: {error.what}, {error.why}.")
            return False
        return True

    def search_network(self, store: SearchingStore) -> bool:
        if not isinstance(self._store_error, NotInStoreError):  # the node cannot search
            return False
        node = shown_url(store.url)
        self._observer.note(f"Asking the IPFS network through the Kubo node at {node}; it may take minutes.")
        try:
            self._copy(store.search(self._release.cid))
        except (StoreError, ContentError) as error:
            self._network_failure = f"the IPFS network, through that node: {error.why}"
            return False
        return True

    def fetch(self, keeper: LocalStore | None) -> bool:
        """Fetch the image from the stages, one after the other, and also store the blocks in `keeper` if possible."""
        release, found = self._release, 0

        def count(size: int) -> None:
            nonlocal found
            found += size
            self._observer.progress(found)

        self._truncate()
        with FileDestination(self._into, store=keeper) as destination:
            if lock_error := destination.store_error:
                self._note_not_kept(lock_error)
            fetch = FileFetch(release.cid, (), size=release.size, into=destination)
            try:
                report = fetch.run(count, more=lambda: self._next_sources(fetch))
                destination.pin(release.cid)
            except ContentError as error:
                raise _as_check_4(error) from error
            except UnservedError:
                return False
            finally:
                self._note_bad(fetch.report().bad)
                if destination.store_error and not lock_error:
                    self._note_not_kept(destination.store_error)
        for source in report.sources:
            if source.size:
                self._observer.served(source.url)
        return True

    def _next_sources(self, fetch: FileFetch) -> list[Source] | None:
        """Return the sources of the next stage with at least one source; None if no stage is left."""
        self._note_bad(fetch.report().bad)
        while self._stages:
            stage = self._stages.popleft()
            candidates = list(stage.candidates())
            self._note_bad(candidate for candidate in candidates if isinstance(candidate, SourceReport))
            if sources := [candidate for candidate in candidates if isinstance(candidate, Source)]:
                number = "1 source" if len(sources) == 1 else f"{len(sources)} sources"
                self._observer.note(f"Asking {stage.name} for the image ({number}).")
                return sources
        return None

    def failure(self) -> StoreError | VerificationError:
        """Return the error for an image that was not found."""
        of_store = self._store_error
        # No source was asked: the store's own error is more precise.
        if of_store and not (self._reports or self._network_failure):
            if isinstance(of_store, NotInStoreError):
                remedy = "ask the vendor for the address of its repository, and name it here or in vendor_sources"
                return of_store.revised(remedy=remedy, action=Action.NAME_SOURCE)
            return _as_check_4(of_store)

        verdicts = shortened(self._reports.values(), "; ")
        of_others = "; ".join(filter(None, (verdicts, self._network_failure)))
        why = f"{of_store.what} ({of_store.why}); {of_others}" if of_store else of_others
        if self._reports and all(report.verdict == Verdict.WRONG for report in self._reports.values()):
            return VerificationError(
                4,
                "every image that was found differs from the release",
                why=why,
                remedy="name a source that serves the release, and report the listed sources to the vendor",
                action=Action.NAME_SOURCE,
            )
        return StoreError(
            f"the image of {self._release.product} {self._release.version} was not found",
            why=why,
            remedy="name a source that serves the image, or try again later",
            action=Action.NAME_SOURCE,
        )

    def _copy(self, parts: Iterator[bytes]) -> None:
        """Write the file from a store; refuse a file that is larger than the size in the record."""
        self._truncate()
        size = 0
        for part in parts:
            size += len(part)
            if size > self._release.size:
                raise ContentError(
                    f"the file {self._release.cid} is too large",
                    why=f"the file has more than the {self._release.size} bytes of the record",
                )

            with _writing():
                self._into.write(part)
            self._observer.progress(size)

    def _truncate(self) -> None:
        with _writing():
            self._into.seek(0)
            self._into.truncate()

    def _note_bad(self, reports: Iterable[SourceReport]) -> None:
        """Report the sources that the fetch has excluded, and each source only once."""
        for report in reports:
            if report.url not in self._reports:
                self._reports[report.url] = report
                self._observer.note(f"Not asked again: {report}.")

    def _note_not_kept(self, error: StoreError) -> None:
        self._observer.note(f"Not kept in the store: {error.what}, {error.why}.")


def _candidate(url: str, credentials: Credentials, *, public_only: bool = False) -> Candidate:
    try:
        return credentials.source(url, public_only=public_only)
    except UsageError as error:
        return _refused(url, error.why)


def _refused(url: str, why: str) -> SourceReport:
    return SourceReport(url[:_SHOWN], 0, 0.0, Verdict.REFUSED, why)


def _as_check_4(error: StoreError | ContentError) -> StoreError | VerificationError:
    """Convert a `ContentError` of the store into a `VerificationError`; return a `StoreError` unchanged."""
    if isinstance(error, StoreError):
        return error
    return VerificationError(
        4,
        "the image in the store is not the release",
        why=f"{error.what}, {error.why}",
        remedy="fetch the image from another source, or use a file",
        action=Action.TAKE_IMAGE_ELSEWHERE,
    )


def _is_writable(folder: Path) -> bool:
    """Whether a folder can be written or created."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    return nearest.is_dir() and os.access(nearest, os.W_OK)


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            "the image cannot be written to a file",
            why=error.strerror or str(error),
            remedy="check the disk's free space",
        ) from error
