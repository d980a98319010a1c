"""Proposal packs: the review equals that of the single files, and a pack with a wrong byte is refused."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockota.approval.chain_view import ChainView, SafeState
from blockota.approval.proposal import Proposal
from blockota.bindings.block_ota import publish_call
from blockota.errors import BlockOTAError, ProposalError, StoreError, UsageError
from blockota.formats.car import join_car
from blockota.formats.cid import CHUNK_SIZE, CID, DAG_PB, MAX_LINKS, RAW, Block, dag
from blockota.model.draft import Draft, draft_manifest, draft_release
from blockota.model.release import Version
from blockota.stores.local import LocalStore
from blockota.vendor.files import is_pack, read_proposal
from blockota.vendor.images import CheckedImage, ImageInputs
from blockota.vendor.pack import MAX_BLOCKS, Pack, open_pack, read_packs_beside, write_pack
from blockota.vendor.review import Review, review_proposal
from tests.formats.test_cid_hostile import Child, inner
from tests.support.samples import CONTRACT, FLASH, NOW, PRODUCT, SAFE, code, proposal_with, release_of

VIEW = ChainView(
    chain_id=1337,
    block_number=100,
    block_hash=bytes(32),
    block_time=NOW,
    contract=CONTRACT,
    replication=None,
    safe=SafeState(SAFE, (SAFE,), 1, 7, "1.5.0"),
    products=(PRODUCT,),
)
NEW, OLD = code(80), code(64)
DRAFT = Draft(PRODUCT.name, Version(1, 1, 0), NEW, load_address=FLASH.start, notes="quieter fan")
RELEASE = draft_release(DRAFT, PRODUCT)
MANIFEST = draft_manifest(DRAFT, RELEASE)
assert MANIFEST
PROPOSAL = proposal_with(data=publish_call([RELEASE]))
PACKED_VIEW = replace(VIEW, newest=(release_of(OLD, version=Version(1, 0, 0)),))
FILES = (MANIFEST.to_json(), NEW, OLD)
SMALL = proposal_with(data=publish_call([release_of(NEW)]))
"""A proposal without notes."""


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """Return a store with both images and the manifest."""
    found = LocalStore(tmp_path / "store")
    for content in FILES:
        found.put(io.BytesIO(content))
    return found


def pack_bytes(store: LocalStore, proposal: Proposal = PROPOSAL, view: ChainView = PACKED_VIEW) -> bytes:
    """Write a pack with the files of a store."""
    into = io.BytesIO()
    write_pack(proposal, view, ImageInputs(lambda: store), into=into)
    return into.getvalue()


def joined(*files: bytes, proposal: Proposal = SMALL, view: ChainView = VIEW, more: Iterable[Block] = ()) -> bytes:
    """Join a proposal, a chain view and other files into a CARv1, which may be an invalid pack."""
    heads = [Block(CID.of(RAW, raw), raw) for raw in (proposal.to_json(), view.to_json())]
    blocks = [block for content in files for block in dag(io.BytesIO(content))]
    return b"".join(join_car([head.cid for head in heads], [*heads, *blocks, *more]))


def review_of(pack: Pack) -> Review:
    """Review the proposal of a pack, as before signing, with no input but the pack."""
    return review_proposal(pack.proposal, pack.view, ImageInputs(lambda: pack), is_required=True)


def test_a_pack_is_reviewed_like_its_files(store: LocalStore, tmp_path: Path) -> None:
    """The review of a pack shows the same as the review of the files: image, notes and changes."""
    path = tmp_path / "1.1.0.pack"
    path.write_bytes(pack_bytes(store))
    assert is_pack(path)
    with open_pack(path) as pack:
        assert (pack.proposal, pack.view, pack.view.source) == (PROPOSAL, PACKED_VIEW, "1.1.0.pack")
        review = review_of(pack)
    (image,) = review.images
    assert isinstance(image, CheckedImage)
    assert image.description.manifest == MANIFEST
    assert image.fields["difference"]["new_size"] == len(NEW)
    inputs = ImageInputs(lambda: store)
    (same,) = review_proposal(PROPOSAL, PACKED_VIEW, inputs, is_required=True).images
    assert image.fields == same.fields | {"source": "1.1.0.pack"}


def test_equal_contents_give_equal_bytes(store: LocalStore) -> None:
    """Two packs of the same files are equal, because a pack contains no time, no file name and a fixed order."""
    assert pack_bytes(store) == pack_bytes(store)


def test_a_pack_without_notes_and_previous_image_names_them(tmp_path: Path) -> None:
    """A pack without the notes or without the previous image is accepted, because signing needs neither."""
    (tmp_path / "new.bin").write_bytes(NEW)
    inputs = ImageInputs(lambda: LocalStore(tmp_path / "empty"), images=[tmp_path / "new.bin"])
    into = io.BytesIO()
    contents = write_pack(PROPOSAL, PACKED_VIEW, inputs, into=into)
    assert (contents.images, contents.previous, len(contents.missing)) == (1, 0, 2)
    (image,) = review_of(Pack(into, "a.pack")).images
    assert image.description.trouble
    assert isinstance(image, CheckedImage)
    assert "was not found" in str(image.difference)
    with pytest.raises(StoreError, match="cannot be checked"):
        write_pack(PROPOSAL, PACKED_VIEW, replace(inputs, images=[]), into=io.BytesIO())


def many_blocks() -> bytes:
    """Return a pack with more blocks than its list contains."""
    empty = Block(CID.of(RAW, b""), b"")
    return joined(NEW, more=[empty] * (MAX_BLOCKS + 1))


def repeated_leaf() -> bytes:
    """Return a pack of an image with eight equal leaves, for which the pack contains only one block."""
    image = NEW.ljust(CHUNK_SIZE, b"\0") * 8
    *_, root = dag(io.BytesIO(image))
    release = release_of(image, dag_root=root.cid.digest)
    blocks = dict.fromkeys(dag(io.BytesIO(image)))
    return joined(proposal=proposal_with(data=publish_call([release])), more=blocks)


def in_pieces(*nodes: list[Child]) -> bytes:
    """Return a pack with an image whose root has the given lists of links. All links refer to a block of one byte."""
    raws = [inner(links) for links in nodes]
    sizes = [sum(size for _, _, size in links) for links in nodes]
    raws.append(inner([(CID.of(DAG_PB, raw), size, size) for raw, size in zip(raws, sizes, strict=True)]))
    blocks = [Block(CID.of(DAG_PB, raw), raw) for raw in raws]
    release = release_of(b"\0", dag_root=blocks[-1].cid.digest)
    return joined(b"\0", proposal=proposal_with(data=publish_call([release])), more=blocks)


ONE_BYTE = CID.of(RAW, b"\0")
HOSTILE = [
    ("a piece has fewer than 1,048,576 bytes", in_pieces([(ONE_BYTE, 1, 1)] * MAX_LINKS)),
    ("more than 16,384 links", in_pieces(*([(ONE_BYTE, 1, CHUNK_SIZE + n)] * MAX_LINKS for n in range(17)))),
    ("a part of an image is missing", in_pieces([(CID.of(RAW, b"absent"), CHUNK_SIZE, CHUNK_SIZE)])),
    ("fewer than its images", repeated_leaf()),
    ("is corrupt, the bytes do not hash", joined(NEW, OLD, view=PACKED_VIEW).replace(OLD, OLD[:-1] + b"?")),
    ("an image is missing", joined()),
    ("an image is missing", joined(OLD)),
    ("other contents", joined(NEW, b"a note that nobody reads")),
    ("more than 16,384 blocks", many_blocks()),
    ("the roots are not those", b"".join(join_car([CID.of(RAW, NEW)], [Block(CID.of(RAW, NEW), NEW)]))),
    ("the roots are not those", b"".join(join_car([], []))),
    ("a.pack does not have", b"".join(join_car([CID.of(RAW, NEW), CID.of(RAW, OLD)], []))),
    (
        "not valid JSON",
        b"".join(
            join_car([CID.of(RAW, one) for one in (NEW, OLD)], [Block(CID.of(RAW, one), one) for one in (NEW, OLD)])
        ),
    ),
    ("a section of 0 bytes", joined(NEW) + b"\0"),
    ("ends inside a section", joined(NEW)[:-1]),
    ("a header of 16383 bytes", b"\xff\x7f" + joined(NEW)[1:]),
    ("does not begin with the header", b"PK\x03\x04".ljust(200, b"\0")),
    ("does not begin with the header", b""),
]


@pytest.mark.parametrize(("words", "content"), HOSTILE, ids=[f"{n} {words}" for n, (words, _) in enumerate(HOSTILE)])
def test_other_files_are_not_packs(words: str, content: bytes, tmp_path: Path) -> None:
    """A file that differs from a pack in any way is refused before an image is read."""
    path = tmp_path / "a.pack"
    path.write_bytes(content)
    with pytest.raises(ProposalError) as failure, open_pack(path):
        pass
    assert "a.pack cannot be used" in failure.value.what
    assert words in failure.value.why


@settings(max_examples=150)
@given(st.data())
def test_changed_bytes_are_never_reviewed(data: st.DataObject) -> None:
    """A pack with changed, removed, repeated or inserted bytes is refused without a traceback."""
    honest = joined(NEW, OLD, view=PACKED_VIEW)
    start = data.draw(st.integers(0, len(honest)))
    stop = data.draw(st.integers(start, min(start + 40, len(honest))))
    middle = data.draw(st.one_of(st.binary(max_size=60), st.just(honest[start:stop] * 2)))
    changed = honest[:start] + middle + honest[stop:]
    try:
        review_of(Pack(io.BytesIO(changed), "a.pack"))
    except BlockOTAError:
        assert changed != honest
    else:
        assert changed == honest


def test_packs_beside_a_pack_are_read_as_far_as_they_are_packs(tmp_path: Path) -> None:
    """A damaged pack, another file and a pipe in the proposals' folder are ignored, and the pipe does not block."""
    others = joined(NEW), joined(NEW)[:-1], b"".join(join_car([], [])), b"".join(join_car([CID.of(RAW, NEW)], []))
    for name, content in zip(("b.pack", "c.pack", "e.pack", "f.pack"), others, strict=True):
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "d.pack")
    assert read_packs_beside(tmp_path / "a.pack") == {"b.pack": SMALL}


def test_a_pack_is_not_a_proposal_file_nor_a_store(store: LocalStore, tmp_path: Path) -> None:
    """A pack used as a proposal file is refused as a pack; a pack used as a store is read-only."""
    path = tmp_path / "1.1.0.pack"
    path.write_bytes(pack_bytes(store))
    with pytest.raises(UsageError, match="is a pack"):
        read_proposal(path)
    with open_pack(path) as pack:
        for store_it in (
            lambda: pack.put(io.BytesIO(b"")),
            lambda: pack.pin(RELEASE.cid),
            lambda: pack.unpin(RELEASE.cid),
        ):
            with pytest.raises(UsageError, match="read-only"):
                store_it()
    with pytest.raises(UsageError, match="cannot be read"), open_pack(tmp_path / "missing.pack"):
        pass
