"""Decides from chain facts which files may be stored and served. Pure.

A vendor serves the files of its active releases: images, manifests, and the deltas that a manifest lists. A broker
stores and serves the files of an active release while it has an accepted, unexpired agreement on the release.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from blockota.errors import BlockOTAError
from blockota.formats.cid import CID, check_block
from blockota.model.agreement import Agreement, AgreementStatus
from blockota.model.manifest import MAX_SIZE, Delta, Manifest
from blockota.model.release import Release, Status

_ONCE_ACCEPTED = (AgreementStatus.ACCEPTED, AgreementStatus.WITHDRAWN, AgreementStatus.TERMINATED)


@dataclass(frozen=True)
class ReleaseFile:
    """A file that belongs to a release.

    Attributes:
        cid: content address of the file.
        size: size of an image or a delta in bytes; for a manifest, the maximum size.
        sha256: SHA-256 of an image or a delta; None for a manifest, whose CID contains its SHA-256.
        label: name of the file for messages to the operator.
    """

    cid: CID
    size: int
    sha256: bytes | None
    label: str = field(compare=False)


class Obstacle(enum.Enum):
    """The reason why a release must not be served."""

    REVOKED = enum.auto()
    EXPIRED = enum.auto()
    NOT_ACCEPTED = enum.auto()


@dataclass(frozen=True)
class Claim:
    """A release, and the agreement under which the release may be served.

    Attributes:
        release: the release.
        manifest: content address of the release's manifest; None if the release has no manifest.
        agreement: the broker's agreement; None for the vendor's own releases.
        deltas: the deltas that the manifest lists; empty until the manifest is read.
    """

    release: Release
    manifest: CID | None = None
    agreement: Agreement | None = None
    deltas: tuple[Delta, ...] = ()

    def obstacle(self, time: int) -> Obstacle | None:
        """Return why the release must not be served at the block time `time`, in Unix seconds; None if allowed."""
        if self.release.status is not Status.ACTIVE:
            return Obstacle.REVOKED
        if self.agreement is None or self.agreement.is_in_force(time):
            return None
        return Obstacle.EXPIRED if self.agreement.has_expired(time) else Obstacle.NOT_ACCEPTED

    @property
    def was_good(self) -> bool:
        """Whether serving the release is allowed now, or was allowed in the past."""
        return self.agreement is None or self.agreement.status in _ONCE_ACCEPTED

    @property
    def label(self) -> str:
        """Product and version."""
        return f"{self.release.product} {self.release.version}"

    def files(self) -> Iterator[ReleaseFile]:
        """The files of the release: the image, the manifest if the release has one, and the deltas."""
        yield ReleaseFile(self.release.cid, self.release.size, self.release.sha256, self.label)
        if self.manifest:
            yield ReleaseFile(self.manifest, MAX_SIZE, None, f"manifest of {self.label}")
        for delta in self.deltas:
            label = f"delta of {self.label} from {delta.base_version}"
            yield ReleaseFile(delta.cid, delta.size, delta.sha256, label)


class DeltaReader:
    """Adds deltas to claims.

    Each manifest is read only once.

    Args:
        read: returns the untrusted bytes of a manifest.
    """

    def __init__(self, read: Callable[[CID], bytes]) -> None:
        self._read = read
        self._known: dict[CID, tuple[Delta, ...]] = {}

    def with_deltas(self, claim: Claim, *, from_memory: bool = False) -> Claim:
        """Return a claim with the deltas that its manifest lists.

        The claim is unchanged if the manifest cannot be read.

        Args:
            claim: the claim.
            from_memory: whether to use only manifests that were read earlier.
        """
        if claim.manifest is None or (from_memory and claim.manifest not in self._known):
            return claim

        if claim.manifest not in self._known:
            try:
                raw = self._read(claim.manifest)
                check_block(claim.manifest, raw)
                manifest = Manifest.from_json(raw)
                manifest.require_about(claim.release)
            except BlockOTAError:
                return claim
            self._known[claim.manifest] = manifest.deltas

        return replace(claim, deltas=self._known[claim.manifest])


@dataclass(frozen=True)
class Rights:
    """The files that may be served at a given time.

    Attributes:
        time: the chain's time in Unix seconds.
        releases: the number of releases that may be served.
        roots: CID of each file that may be served, with the file's largest possible size in bytes.
        gone: CIDs of files that must not be served any more, although serving them was allowed earlier.
        changes_at: Unix time of the earliest expiry among the agreements in force; None if no agreement is in force.
    """

    time: int
    releases: int
    roots: dict[CID, int]
    gone: frozenset[CID]
    changes_at: int | None


def rights_at(time: int, claims: Iterable[Claim]) -> Rights:
    """Determine which files may be served at `time`, in Unix seconds.

    A file may be served if at least one valid claim covers the file.
    """
    known = list(claims)
    good = [claim for claim in known if claim.obstacle(time) is None]

    roots: dict[CID, int] = {}
    for file in (file for claim in good for file in claim.files()):
        # The size of a manifest is a limit, that of an image is exact. A file can be both, and gets the larger size.
        roots[file.cid] = max(file.size, roots.get(file.cid, 0))

    gone = {file.cid for claim in known if claim.was_good for file in claim.files()} - roots.keys()
    ends = [claim.agreement.expires_at for claim in good if claim.agreement]
    return Rights(time, len(good), roots, frozenset(gone), min(ends, default=None))
