"""The whole path of an image: vendor, store, Safe, chain, technician and board."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from blockota.formats.cid import cid_of
from firmware_host.simulator import SimulatedBoard, serve_tcp
from tests.conftest import IMAGES
from tests.stories.conftest import PRODUCT, Workshop, publish_first

OLD, NEW, LARGE = (IMAGES / f"bluepill-{version}.bin" for version in ("1.0.0", "1.1.0", "1.2.0"))


def test_an_image_travels_the_whole_road(workshop: Workshop, board_url: str) -> None:
    """An image published by a 2-of-3 Safe is verified, flashed and booted, and so is its successor."""
    travel_the_road(workshop, board_url)


def travel_the_road(workshop: Workshop, board_url: str) -> None:
    """Publish an image and its successor, flash both, and check that each boots."""
    for version, image in (("1.0.0", OLD), ("1.1.0", NEW)):
        workshop.publish(version, image)
        outcome = workshop.flash(board_url, "--json")
        assert outcome.status == 0, outcome.err
        (result,) = outcome.json["results"]
        assert result["passed"] == list(range(1, 11))
        assert f"BlockOTA bluepill {version}" in result["banner"]


@pytest.mark.parametrize("kind", ["bin", "hex", "elf"])
def test_every_image_format_becomes_the_same_release(workshop: Workshop, kind: str) -> None:
    """A .hex or .elf file is published as the flat binary that it encodes."""
    workshop.publish("1.0.0", OLD.with_suffix(f".{kind}"))
    shown = workshop.run("release", "show", "--product", PRODUCT, "--json").json
    with OLD.open("rb") as stream:
        assert shown["cid"] == str(cid_of(stream))


def test_a_large_image_is_flashed_and_booted(workshop: Workshop, board_url: str) -> None:
    """An image that fills nearly all of the flash is flashed, and boots."""
    workshop.publish("1.2.0", LARGE)
    outcome = workshop.flash(board_url, "--json")
    assert outcome.status == 0, outcome.err
    assert "1.2.0" in outcome.json["results"][0]["banner"]


def test_only_the_addressed_range_is_written(workshop: Workshop) -> None:
    """Flashing an image leaves the flash after the image's pages unchanged."""
    board = SimulatedBoard(flash=b"\xff" * 1024 + bytes(range(256)) * 252)
    workshop.after(publish_first)
    with serve_tcp(board) as url:
        assert workshop.flash(url).status == 0
    assert bytes(board.flash[:584]) == OLD.read_bytes()
    assert bytes(board.flash[1024:]) == bytes(range(256)) * 252


def test_a_tampered_store_is_found_before_anything_is_erased(workshop: Workshop) -> None:
    """One flipped bit in the store fails check 4, and the board is unchanged."""
    board = SimulatedBoard()
    workshop.after(publish_first)
    with serve_tcp(board) as url:
        assert workshop.flash(url).status == 0
        workshop.publish("1.1.0", NEW)
        before = bytes(board.flash)
        tamper(workshop.folder / ".blockota" / "store", NEW)
        outcome = workshop.flash(url, "--json")
    assert (outcome.status, outcome.json["error"]["check"]) == (3, 4)
    assert bytes(board.flash) == before


def test_the_image_may_come_from_a_stick(workshop: Workshop, board_url: str) -> None:
    """With ``--image``, a board is flashed from a local file without a store."""
    workshop.after(publish_first)
    shutil.rmtree(workshop.folder / ".blockota" / "store")
    assert workshop.flash(board_url).status == 5
    outcome = workshop.flash(board_url, "--image", str(OLD))
    assert outcome.status == 0, outcome.err


def test_fetch_writes_what_verify_accepts(workshop: Workshop) -> None:
    """A fetched image equals the published image, and ``release verify`` names its release."""
    workshop.after(publish_first)
    assert workshop.run("release", "fetch", "--product", PRODUCT, "-o", "got.bin").status == 0
    assert Path("got.bin").read_bytes() == OLD.read_bytes()
    verified = workshop.run("release", "verify", "got.bin", "--product", PRODUCT, "--json").json
    assert (verified["version"], verified["passed"]) == ("1.0.0", [1, 2, 3, 4, 5])


def test_a_second_product_is_paired_by_proposal(workshop: Workshop) -> None:
    """A product is paired by a proposal with two signatures, as a release is published."""
    words = ("--oem", "acme", "--chip", "0x410", "--region", "0x0800f800:2K", "-o", "pair.json")
    assert workshop.run("product", "pair", "acme-thermo2-cfg", *words).status == 0
    for owner in ("dev:2", "dev:3"):
        assert workshop.run("proposal", "sign", "pair.json", "--key", owner, "--yes").status == 0
    assert workshop.run("proposal", "execute", "pair.json", "--key", "dev:5").status == 0
    shown = workshop.run("product", "show", "acme-thermo2-cfg", "--json").json
    assert (shown["paired"], shown["region"]) == (True, {"start": 0x0800F800, "size": 2048})


def test_a_configuration_image_is_flashed_beside_the_program(workshop: Workshop, board_url: str) -> None:
    """A configuration image is flashed into its own region, and needs no vector table."""
    test_a_second_product_is_paired_by_proposal(workshop)
    Path("settings.bin").write_bytes(b"interval=60\0")
    words = ("--product", "acme-thermo2-cfg", "--version", "1.0.0", "--configuration", "-o", "cfg.json")
    assert workshop.run("release", "publish", "settings.bin", *words).status == 0
    for owner in ("dev:1", "dev:3"):
        assert workshop.run("proposal", "sign", "cfg.json", "--key", owner, "--yes").status == 0
    assert workshop.run("proposal", "execute", "cfg.json", "--key", "dev:0").status == 0
    flash = ("flash", "--product", "acme-thermo2-cfg", "--port", board_url)
    assert workshop.run(*flash).status == 3
    outcome = workshop.run(*flash, "--configuration")
    assert outcome.status == 0, outcome.err


def tamper(store: Path, image: Path) -> None:
    """Flip one bit of the block that stores an image."""
    with image.open("rb") as stream:
        block = next(store.glob(f"blocks/*/{cid_of(stream)}"))
    data = bytearray(block.read_bytes())
    data[len(data) // 2] ^= 1
    block.write_bytes(data)
