"""The review of a proposal before it is signed: the order of checks, red flags, and proposal folders."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

from blockota.approval.chain_view import ChainView, SafeState
from blockota.approval.flags import Word
from blockota.approval.proposal import Proposal
from blockota.bindings.block_ota import publish_call
from blockota.errors import ProposalError, StoreError
from blockota.keys import dev_account
from blockota.model.container import Container
from blockota.model.draft import Draft, draft_manifest, draft_release
from blockota.model.release import Region, Version
from blockota.stores.local import LocalStore
from blockota.stores.store import Store
from blockota.vendor.images import CheckedImage, ImageInputs, UncheckedImage
from blockota.vendor.review import Review, review_proposal
from blockota.vendor.screen import screen_of
from tests.support.programs import noise, program, swu
from tests.support.samples import CONTRACT, NOW, PRODUCT, SAFE, code, proposal_with, release_of

OWNERS = tuple(dev_account(number).address for number in (1, 2, 3))
VIEW = ChainView(
    chain_id=1337,
    block_number=100,
    block_hash=bytes(32),
    block_time=NOW,
    contract=CONTRACT,
    replication=None,
    safe=SafeState(SAFE, OWNERS, 2, 7, "1.5.0"),
    products=(PRODUCT,),
)
OTHER_CHAIN = proposal_with(chain_id=1)


def no_store() -> Store:
    """Raise an error, because the test must not open the store."""
    raise StoreError("the store was opened", why="a test forbids it")


def image_file(folder: Path) -> Path:
    """Write the image of `proposal_with` to a file."""
    path = folder / "app.bin"
    path.write_bytes(code())
    return path


def test_another_chain_is_refused_before_images_are_read(tmp_path: Path) -> None:
    """A proposal for another chain is refused before the image file or the store is opened."""
    inputs = ImageInputs(no_store, images=[tmp_path / "missing.bin"])
    with pytest.raises(ProposalError, match="for another chain"):
        review_proposal(OTHER_CHAIN, VIEW, inputs, is_required=False)


def test_a_given_image_needs_no_store(tmp_path: Path) -> None:
    """An owner who gives the image as a file needs no store."""
    inputs = ImageInputs(no_store, images=[image_file(tmp_path)])
    review = review_proposal(proposal_with(), VIEW, inputs, is_required=True)
    (image,) = review.images
    assert isinstance(image, CheckedImage)
    assert (image.size, image.since) == (64, None)
    assert review.red_flags(signer=OWNERS[0], now=NOW) == []


def test_an_image_that_is_not_found_is_an_error_only_if_it_is_required() -> None:
    """A missing image raises an error if the image is required, as for `sign`; otherwise it is only reported."""
    inputs = ImageInputs(no_store)
    with pytest.raises(StoreError, match=r"the image of acme-thermo2 1\.1\.0 cannot be checked"):
        review_proposal(proposal_with(), VIEW, inputs, is_required=True)
    (image,) = review_proposal(proposal_with(), VIEW, inputs, is_required=False).images
    assert isinstance(image, UncheckedImage)
    assert "the store was opened" in image.trouble


def test_without_a_view_there_are_no_red_flags() -> None:
    """If no chain view is given, the review has None instead of a list of red flags."""
    assert Review(proposal_with(), None).red_flags(signer=None, now=NOW) is None


def test_the_calldata_is_decoded_once() -> None:
    """The calldata of a proposal is decoded only once."""
    found = Proposal.from_json(proposal_with().to_json())
    decoded = found.call
    assert decoded
    Review(found, VIEW).red_flags(signer=None, now=NOW)
    assert found.call is decoded


def test_an_unpinned_contract_is_a_red_flag() -> None:
    """A red flag is raised if the settings do not contain the contract of the chain view."""
    view = replace(VIEW, source="view.json", is_pinned=False)
    flags = Review(proposal_with(), view).red_flags(signer=None, now=NOW) or []
    assert [flag.word for flag in flags] == ["unconfigured"]


def test_an_image_for_another_address_is_a_red_flag(tmp_path: Path) -> None:
    """An owner's machine raises a flag if a program was linked for another address than its load address."""
    content = program(0x0800_2000, after=noise(20_000))
    (tmp_path / "moved.bin").write_bytes(content)
    proposal = proposal_with(data=publish_call([release_of(content)]))
    inputs = ImageInputs(no_store, images=[tmp_path / "moved.bin"])
    review = review_proposal(proposal, VIEW, inputs, is_required=True)
    (flag,) = review.red_flags(signer=OWNERS[0], now=NOW) or []
    assert flag.word is Word.ADDRESS
    assert "seems to be linked for 0x08002000, and would be written at 0x08000000" in flag.what
    assert "the publisher did not accept this in the manifest" in flag.what
    assert review.images[0].fields["linkedFor"] == 0x0800_2000


def test_a_container_that_does_not_fit_is_a_red_flag(tmp_path: Path) -> None:
    """The review shows the container, and a flag if it does not fit the product or if the manifest was not found."""
    hub = replace(PRODUCT, name="acme-hub", chip_id=0, region=Region(0, 1 << 20))
    draft = Draft(hub.name, Version(1, 0, 0), swu(), container=Container.SWU)
    release, store = draft_release(draft, hub), LocalStore(tmp_path / "store")
    manifest = draft_manifest(draft, release)
    assert manifest
    for file in (manifest.to_json(), swu()):
        store.put(io.BytesIO(file))
    proposal = proposal_with(data=publish_call([release]))
    view = replace(VIEW, products=(PRODUCT, hub))

    def flags(view: ChainView, inputs: ImageInputs) -> list[tuple[Word, str]]:
        review = review_proposal(proposal, view, inputs, is_required=True)
        assert [rows.get("container") for rows in screen_of(review, now=NOW).changes] in ([("swu",)], [None])
        return [(flag.word, flag.what) for flag in review.red_flags(signer=OWNERS[0], now=NOW) or []]

    assert flags(view, ImageInputs(lambda: store)) == []
    # The product was paired with an STM32 by mistake.
    (wrong,) = flags(replace(VIEW, products=(replace(hub, chip_id=0x410),)), ImageInputs(lambda: store))
    assert wrong[0] is Word.CONTAINER
    assert "acme-hub 1.0.0: the container is swu, and the product is paired with the chip 0x410" in wrong[1]
    (tmp_path / "hub.swu").write_bytes(swu())
    (missing,) = flags(view, ImageInputs(no_store, images=[tmp_path / "hub.swu"]))
    assert "its manifest was not found: the store was opened" in missing[1]


def test_what_the_publisher_accepted_is_shown(tmp_path: Path) -> None:
    """The review shows the filled gaps and the load address that the publisher accepted."""
    content = program(0x0800_2000, after=noise(20_000))
    gap = Region(0x0800_4000, 0x1000)
    draft = Draft(PRODUCT.name, Version(1, 1, 0), content, accept_load_address=True, filled=(gap,))
    release = draft_release(draft, PRODUCT)
    manifest = draft_manifest(draft, release)
    store = LocalStore(tmp_path / "store")
    assert manifest
    for file in (manifest.to_json(), content):
        store.put(io.BytesIO(file))
    proposal = proposal_with(data=publish_call([release]))
    review = review_proposal(proposal, VIEW, ImageInputs(lambda: store), is_required=True)
    (rows,) = screen_of(review, now=NOW).changes
    assert rows["filled"] == (str(gap), "with 0xFF: gaps in the file, erased on every board")
    assert "accepted by the publisher" in str(rows["load address"])
    (flag,) = review.red_flags(signer=OWNERS[0], now=NOW) or []
    assert flag.what.endswith("; the publisher accepted this")
    (tmp_path / "moved.bin").write_bytes(content)
    elsewhere = ImageInputs(no_store, images=[tmp_path / "moved.bin"])
    review_elsewhere = review_proposal(proposal, VIEW, elsewhere, is_required=True)
    (flag,) = review_elsewhere.red_flags(signer=OWNERS[0], now=NOW) or []
    assert flag.what.endswith("; the manifest, in which the publisher may have accepted this, was not found")
    shown = review.images[0].fields["manifest"]
    assert (shown["loadAddressAccepted"], shown["filled"]) == (True, [{"start": gap.start, "size": gap.size}])
