"""What may be served, as a pure function of the chain's facts.

A vendor serves the images and manifests of its releases that are not revoked. A broker serves those of releases for
which it holds an accepted agreement that has not expired.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from blockota.formats.cid import CID
from blockota.model.agreement import Agreement, AgreementStatus
from blockota.model.manifest import MAX_SIZE
from blockota.model.release import Release, Status

_ONCE_HELD = (AgreementStatus.ACCEPTED, AgreementStatus.WITHDRAWN, AgreementStatus.TERMINATED)


@dataclass(frozen=True)
class Claim:
    """A release, and why it might be served.

    Attributes:
        release: as the chain records it.
        manifest: its manifest's content address, where it has one.
        is_held: whether vendor or agreement allow it at all.
        expires_at: Unix time, in seconds, from which on it is not allowed any more; None is never.
    """

    release: Release
    manifest: CID | None
    is_held: bool = True
    expires_at: int | None = None

    def is_good(self, time: int) -> bool:
        """Whether the release may be served at a time of the chain, in Unix seconds."""
        is_current = self.expires_at is None or time < self.expires_at
        return self.is_held and is_current and self.release.status is Status.ACTIVE

    def files(self) -> Iterator[tuple[CID, int]]:
        """Content address and greatest size, in bytes, of what belongs to the release."""
        yield self.release.cid, self.release.size
        if self.manifest:
            yield self.manifest, MAX_SIZE


@dataclass(frozen=True)
class Rights:
    """What may be served at one time.

    Attributes:
        time: the chain's time, in Unix seconds.
        releases: how many releases that is.
        roots: greatest size, in bytes, of each file that may be served.
        gone: files that were served once and may not be served any more.
        changes_at: the time at which an agreement expires next; None is never.
    """

    time: int
    releases: int
    roots: dict[CID, int]
    gone: frozenset[CID]
    changes_at: int | None


def rights_at(time: int, claims: Iterable[Claim]) -> Rights:
    """What claims allow at a time of the chain, in Unix seconds; a file of two releases needs only one of them."""
    known = list(claims)
    good = [claim for claim in known if claim.is_good(time)]
    roots: dict[CID, int] = {}
    for cid, size in (file for claim in good for file in claim.files()):
        roots[cid] = max(size, roots.get(cid, 0))
    gone = {cid for claim in known for cid, _ in claim.files()} - roots.keys()
    ends = [claim.expires_at for claim in good if claim.expires_at is not None]
    return Rights(time, len(good), roots, frozenset(gone), min(ends, default=None))


def agreed_claim(agreement: Agreement, release: Release, *, manifest: CID | None) -> Claim | None:
    """What a broker's agreement allows; None where the vendor never accepted it."""
    if agreement.status not in _ONCE_HELD:
        return None
    return Claim(release, manifest, agreement.status is AgreementStatus.ACCEPTED, agreement.expires_at)
