"""Decides from chain facts which files may be kept and served. Pure.

A vendor serves the images and manifests of its active releases. A broker keeps and serves the images and manifests of
active releases for which it has an accepted agreement that has not expired.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from blockota.formats.cid import CID
from blockota.model.agreement import Agreement, AgreementStatus
from blockota.model.manifest import MAX_SIZE
from blockota.model.release import Release, Status

_ONCE_ACCEPTED = (AgreementStatus.ACCEPTED, AgreementStatus.WITHDRAWN, AgreementStatus.TERMINATED)


@dataclass(frozen=True)
class ReleaseFile:
    """A file that belongs to a release.

    Attributes:
        cid: content address of the file.
        size: size of an image in bytes; for a manifest, the maximum size.
        sha256: recorded SHA-256 of an image; None for a manifest, whose CID contains its SHA-256.
        label: name of the file in messages.
    """

    cid: CID
    size: int
    sha256: bytes | None
    label: str = field(compare=False)


@dataclass(frozen=True)
class Claim:
    """A release, and the agreement under which it may be served.

    Attributes:
        release: the release.
        manifest: content address of the release's manifest; None if it has no manifest.
        agreement: the broker's agreement; None for the vendor's own releases.
    """

    release: Release
    manifest: CID | None = None
    agreement: Agreement | None = None

    def is_good(self, time: int) -> bool:
        """Whether the release may be served at `time`, a block's timestamp in Unix seconds."""
        agreement = self.agreement
        # As in the contract, an agreement has expired at the second `expires_at`.
        is_agreed = agreement is None or (agreement.status is AgreementStatus.ACCEPTED and time < agreement.expires_at)
        return is_agreed and self.release.status is Status.ACTIVE

    @property
    def was_good(self) -> bool:
        """Whether the release could be served at some time, now or in the past."""
        return self.agreement is None or self.agreement.status in _ONCE_ACCEPTED

    @property
    def label(self) -> str:
        """Product and version."""
        return f"{self.release.product} {self.release.version}"

    def files(self) -> Iterator[ReleaseFile]:
        """The image, and the manifest if there is one."""
        yield ReleaseFile(self.release.cid, self.release.size, self.release.sha256, self.label)
        if self.manifest:
            yield ReleaseFile(self.manifest, MAX_SIZE, None, f"manifest of {self.label}")


@dataclass(frozen=True)
class Rights:
    """The files that may be served at a given time.

    Attributes:
        time: the chain's time in Unix seconds.
        releases: the number of releases that may be served.
        roots: CID of each file that may be served, with the file's largest possible size in bytes.
        gone: CIDs of files that may not be served any more.
        changes_at: Unix time of the earliest expiry among the agreements in force; None if no agreement is in force.
    """

    time: int
    releases: int
    roots: dict[CID, int]
    gone: frozenset[CID]
    changes_at: int | None


def rights_at(time: int, claims: Iterable[Claim]) -> Rights:
    """Determine which files may be served at `time`, in Unix seconds: each file with at least one valid claim."""
    known = list(claims)
    good = [claim for claim in known if claim.is_good(time)]

    roots: dict[CID, int] = {}
    for file in (file for claim in good for file in claim.files()):
        # The size of a manifest is a limit, that of an image is exact. A file can be both, and gets the larger size.
        roots[file.cid] = max(file.size, roots.get(file.cid, 0))

    gone = {file.cid for claim in known if claim.was_good for file in claim.files()} - roots.keys()
    ends = [claim.agreement.expires_at for claim in good if claim.agreement]
    return Rights(time, len(good), roots, frozenset(gone), min(ends, default=None))
