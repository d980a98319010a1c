"""An owner who lacks the image fetches it from other sources, and verifies it before signing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from blockota.formats.cid import CID
from tests.stories.conftest import PRODUCT, Workshop
from tests.stories.test_bad_input import OUT_OF_REACH, REFUSED, USAGE, refused
from tests.stories.test_finding import announce, settings
from tests.stories.test_release_desk import at_home, ok, propose, sign, without_network
from tests.stories.test_road import NEW, OLD
from tests.support import hostile_gateway as vices
from tests.support.fetch_samples import blocks_of
from tests.support.hostile_gateway import serving

NOBODY = "http://127.0.0.1:9"


def blocks(*images: Path) -> dict[CID, bytes]:
    """Return the blocks of these images by their CIDs."""
    return {cid: data for image in images for cid, data in blocks_of(image.read_bytes())[1].items()}


@pytest.fixture
def owner(workshop: Workshop) -> Workshop:
    """Return a test workshop with 1.0.0 published, 1.1.0 proposed, and an empty store of the signing owner."""
    return workshop.after(propose_second)


def propose_second(workshop: Workshop) -> None:
    """Publish release 1.0.0, propose release 1.1.0, and empty the store."""
    workshop.publish("1.0.0", OLD)
    propose(workshop, NEW, "1.1.0")
    shutil.rmtree(".blockota/store")


def test_an_owner_signs_what_a_gateway_serves(owner: Workshop) -> None:
    """Signing fetches the image from a gateway and its predecessor from a broker, and stores both images."""
    with serving(blocks(NEW), vices.honest) as gateway, serving(blocks(OLD), vices.honest) as broker:
        announce(owner, broker.url)  # uses up the Safe's nonce, so 1.1.0 is proposed again
        Path("1.1.0.json").unlink()
        propose(owner, NEW, "1.1.0")
        shutil.rmtree(".blockota/store")
        settings(owner, gateways=[gateway.url])
        outcome = ok(sign(owner, "1.1.0.json", "dev:1"))
        assert "hashed here from the network: its 620 bytes have the SHA-256 below" in outcome.out
        assert "since 1.0.0: 584 → 620 bytes" in outcome.out
        assert "Asking the gateways for the image (1 source)." in outcome.err
    outcome = ok(sign(owner, "1.1.0.json", "dev:2"))
    assert "hashed here from the store" in outcome.out
    assert "since 1.0.0: 584 → 620 bytes" in outcome.out
    assert "Asking" not in outcome.err


def test_a_named_source_is_asked_first(owner: Workshop) -> None:
    """If a source named by ``--source`` serves the image, configured gateways are not queried."""
    with serving(blocks(NEW, OLD), vices.honest) as named, serving(blocks(NEW, OLD), vices.honest) as gateway:
        settings(owner, gateways=[gateway.url])
        (image,) = ok(sign(owner, "1.1.0.json", "dev:1", "--source", named.url, "--json")).json["images"]
        assert (image["source"], image["size"], image["since"]) == ("the network", 620, "1.0.0")
        assert image["difference"]["changed_bytes"] == 397
        assert (bool(named.asked), bool(gateway.asked)) == (True, False)


def test_other_bytes_are_not_signed(owner: Workshop) -> None:
    """If the only source serves wrong bytes, its URL is reported and nothing is signed."""
    with serving(blocks(NEW), vices.flips_bit(0.5)) as liar:
        outcome = sign(owner, "1.1.0.json", "dev:1", "--source", liar.url)
        refused(outcome, REFUSED, "every image that was found differs", f"{liar.url} served wrong data")
    assert not list(Path().glob("1.1.0.*signature*"))


def test_an_image_that_is_nowhere_is_not_signed(owner: Workshop) -> None:
    """If no source has the image, signing is refused and the error lists the queried sources."""
    settings(owner, gateways=[NOBODY])
    words = (f"the image of {PRODUCT} 1.1.0 cannot be checked", f"{NOBODY} failed", "--image FILE", "--source")
    refused(sign(owner, "1.1.0.json", "dev:1"), OUT_OF_REACH, *words)
    refused(sign(owner, "1.1.0.json", "dev:1", "--source", "ftp://x"), USAGE, "is not the URL of a gateway")


def test_a_missing_predecessor_is_reported(owner: Workshop) -> None:
    """A missing image of the previous release is reported, and does not prevent signing."""
    settings(owner, gateways=[NOBODY])
    outcome = ok(sign(owner, "1.1.0.json", "dev:1", "--image", str(NEW)))
    assert "not known: the image of 1.0.0 was not found, and no file was given to compare with" in outcome.out
    assert f"Not asked again: {NOBODY} failed" in outcome.err


def test_signing_offline_asks_named_sources_only(owner: Workshop) -> None:
    """If an owner signs with a chain view, a missing image is searched only in the sources named by ``--source``."""
    ok(owner.run("proposal", "export-view", "1.1.0.json", "-o", "view.json"))
    home = at_home(owner, Path("1.1.0.json"), Path("view.json"), NEW)
    file = home / "blockota.toml"
    file.write_text(f'gateways = ["{NOBODY}"]\nvendor_sources = ["{NOBODY}"]\n{file.read_text()}')
    words = ("1.1.0.json", "--view", "view.json")
    signing: tuple[str, ...] = ("proposal", "sign", *words, "--key", "dev:1", "--yes")
    shown = ok(without_network(home, *signing, "--image", NEW.name)).out
    assert "not known: the image of 1.0.0 was not found, and no file was given to compare with" in shown
    signing += ("-o", "again.json")
    refused(without_network(home, *signing), OUT_OF_REACH, "cannot be checked", "--image FILE")
    assert "NOT CHECKED" in ok(without_network(home, "proposal", "show", *words)).out
    assert without_network(home, *signing, "--source", NOBODY).status == 97


def test_an_owner_sees_the_image_before_signing(owner: Workshop) -> None:
    """`proposal show` hashes and compares images as `proposal sign` does, and marks each image that was not checked."""
    shown = ok(owner.run("proposal", "show", "1.1.0.json"))
    assert f"image         NOT CHECKED: the image of {PRODUCT} 1.1.0 cannot be checked" in shown.out
    (image,) = ok(owner.run("proposal", "show", "1.1.0.json", "--json")).json["images"]
    assert image["source"] is None
    assert "cannot be checked" in image["trouble"]
    given = ("--image", str(NEW), "--previous", str(OLD))
    shown = ok(owner.run("proposal", "show", "1.1.0.json", *given))
    assert f"hashed here from {NEW}: its 620 bytes have the SHA-256 below" in shown.out
    assert "since 1.0.0: 584 → 620 bytes" in shown.out
    refused(owner.run("proposal", "show", "1.1.0.json", "--image", str(OLD)), REFUSED, "not the one in the proposal")
    with serving(blocks(NEW, OLD), vices.honest) as named:
        shown = ok(owner.run("proposal", "show", "1.1.0.json", "--source", named.url))
    assert "hashed here from the network" in shown.out


def test_a_chain_out_of_reach_leaves_the_difference_unknown(owner: Workshop) -> None:
    """Without a chain, the image is hashed, but it is not compared with the previous release."""
    Path("blockota.toml").write_text(f'[networks.local]\nurl = "{NOBODY}"\n')
    shown = ok(owner.run("proposal", "show", "1.1.0.json", "--image", str(NEW)))
    assert "hashed here from" in shown.out
    assert "not known: the newest release was not read from the chain" in shown.out
