"""A broker's sync round reports its fetches, and ends with one error when the disk is full."""

from __future__ import annotations

import errno
import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from blockota.bindings.replication import ReplicationContract
from blockota.broker.agreements import AgreementReader
from blockota.broker.copies import Copies
from blockota.broker.plan import AgreementFacts, Facts
from blockota.broker.state import BrokerState
from blockota.broker.sync import BrokerSync, Done
from blockota.errors import StoreError, shortened
from blockota.files import is_disk_full
from blockota.formats.cid import Block
from blockota.model.agreement import Agreement, AgreementStatus
from blockota.model.release import Version
from blockota.model.rights import Claim
from blockota.stores.local import LocalStore
from tests.support.hostile_gateway import serving
from tests.support.samples import NOW, PRODUCT, code, release_of

FILES = 5


class FullStore(LocalStore):
    """A store on a full disk."""

    def write_block(self, block: Block) -> None:
        """Raise the error of the operating system for a full disk."""
        with self._translated():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(block.cid))


class FixedReader(AgreementReader):
    """A reader that returns fixed agreements on several small images."""

    def __init__(self, images: list[bytes]) -> None:
        self._fixed = Facts(NOW, tuple(map(agreed, range(1, len(images) + 1), images)))

    def read(self, *, url: str) -> Facts:  # noqa: ARG002 - nothing is announced
        """Return the fixed agreements."""
        return self._fixed


def agreed(number: int, image: bytes) -> AgreementFacts:
    """Return an accepted agreement on an image."""
    version = Version(1, number, 0)
    agreement = Agreement(number, "0xb", PRODUCT.name, version, NOW + 60, AgreementStatus.ACCEPTED, "")
    return AgreementFacts(Claim(release_of(image, version=version), agreement=agreement), agreement)


def test_a_full_disk_ends_the_round_at_the_first_failure(tmp_path: Path) -> None:
    """A full disk ends the sync round after the first image, and no other image is requested."""
    images = [code(64 + number) for number in range(FILES)]
    blocks = {release_of(image).cid: image for image in images}
    with serving(blocks) as vendor, BrokerState(tmp_path / "state", {}) as state:
        work = BrokerSync(
            FixedReader(images),
            Copies(FullStore(tmp_path / "store"), tmp_path / "arrivals"),
            state,
            ReplicationContract.__new__(ReplicationContract),
            sources=(vendor.url,),
            allow_private=True,
        )
        done: list[Done] = []
        with pytest.raises(StoreError, match="the round ended, because the disk is full") as refused:
            done.extend(work.round(NOW))
    assert done == []
    assert sum(vendor.asked.values()) == 1
    assert (refused.value.exit_status, "steps are left" in refused.value.why) == (5, True)


def test_the_fetch_of_an_image_reports_its_bytes(tmp_path: Path) -> None:
    """The fetch of each image is reported with its size in bytes, because a large image can take many minutes."""
    image, added = code(64), list[int]()
    with serving({release_of(image).cid: image}) as vendor, BrokerState(tmp_path / "state", {}) as state:
        work = BrokerSync(
            FixedReader([image]),
            Copies(LocalStore(tmp_path / "store"), tmp_path / "arrivals"),
            state,
            ReplicationContract.__new__(ReplicationContract),
            sources=(vendor.url,),
            allow_private=True,
            progress=lambda file: nullcontext(lambda size: added.append(size * (file.size == len(image)))),
        )
        assert [done.verb for done in work.round(NOW)] == ["fetched", "pinned"]
    assert sum(added) == len(image)


@pytest.mark.parametrize(
    ("error", "is_full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (StoreError("the Kubo node refused", why="write /data: no space left on device"), True),
        (StoreError("the state file cannot be used", why="database or disk is full"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (StoreError("no source is left"), False),
    ],
)
def test_a_full_disk_is_recognised(error: Exception, *, is_full: bool) -> None:
    """A store error is reported as a full disk if, and only if, its cause is a full disk."""
    with pytest.raises(StoreError) as refused:
        raise StoreError("the store cannot be used") from error
    assert is_disk_full(refused.value) is is_full


@pytest.mark.parametrize(
    ("count", "text"), [(0, ""), (1, "0"), (3, "0, 1, 2"), (4, "0, 1, 2 and 1 more"), (600, "0, 1, 2 and 597 more")]
)
def test_a_list_in_a_message_is_cut_after_three(count: int, text: str) -> None:
    """A list in an error message is shortened to three items and the count of the remaining items."""
    assert shortened(range(count)) == text
