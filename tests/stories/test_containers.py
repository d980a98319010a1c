"""Products for devices that are not an STM32: pairing with chip id 0, and the containers of their releases."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from blockota.bindings.block_ota import pair_call
from blockota.model.release import Product, Region
from tests.stories.conftest import PRODUCT, Workshop, publish_first
from tests.stories.test_bad_input import REFUSED, USAGE, refused
from tests.stories.test_release_desk import ok, sign
from tests.stories.test_road import NEW
from tests.support.programs import hashed, program, signed, swu

HUB = Product("acme-hub", "acme", 0, Region(0, 1 << 26), minimum_version=None, paired=True)


def files(workshop: Workshop) -> None:
    """Pair the product of a hub, and write a file for each container."""
    workshop.decide(pair_call(HUB))
    Path("hub.swu").write_bytes(swu())
    Path("hub.bin").write_bytes(hashed(signed(program(0x4200))[:-4]))


def test_a_product_without_an_stm32_is_paired_with_chip_id_0(workshop: Workshop) -> None:
    """With chip id 0, only a region that starts at 0 and has the maximum size of an image is accepted."""
    words = ("product", "pair", HUB.name, "--oem", "acme", "--chip", "0", "-o", "pair.json")
    refused(workshop.run(*words, "--region", "0x08000000:64K"), REFUSED, "does not begin at 0", "Give 0:65536")
    ok(workshop.run(*words, "--region", "0:64M"))
    workshop.decide(pair_call(HUB))
    shown = ok(workshop.run("product", "show", HUB.name)).out
    assert "0 (not an STM32)" in shown
    assert "0x00000000-0x03ffffff (67,108,864 bytes)" in shown


def test_a_swu_is_published_and_signed(workshop: Workshop, board_url: str) -> None:
    """Owners see the container and the requirements. For an STM32 board, check 7 refuses the release."""
    files(workshop)
    words = ("--version", "1.1.0", "--container", "swu", "--container", f"{PRODUCT}=stm32", "-o", "hub.json")
    needs = ("--requires-installed", "1.0.0", "--hardware", "rev-b", "--hardware", "rev-c")
    also = ("--also", str(NEW), PRODUCT, "1.1.0", "--notes", "notes.txt")
    Path("notes.txt").write_text("Both together.")
    ok(workshop.run("release", "publish", "hub.swu", "--product", HUB.name, *words, *needs, *also))
    for owner in ("dev:1", "dev:2"):
        screen = ok(sign(workshop, "hub.json", owner)).out
        assert [screen.count(word) for word in ("container", "1.0.0 or newer installed", "rev-b, rev-c")] == [1, 1, 1]
    ok(workshop.run("proposal", "execute", "hub.json", "--key", "dev:0"))
    assert f"is {HUB.name} 1.1.0" in ok(workshop.run("release", "verify", "hub.swu")).out
    ok(workshop.run("release", "fetch", "--product", HUB.name, "-o", "fetched.swu"))
    assert Path("fetched.swu").read_bytes() == swu()
    manifest = ok(workshop.run("release", "show", HUB.name, "--json")).json["manifest"]
    assert manifest["container"] == "swu"
    assert manifest["requires"] == {"installed": "1.0.0", "hardware": ["rev-b", "rev-c"]}
    assert "container" not in ok(workshop.run("release", "show", PRODUCT, "--json")).json["manifest"]
    refused(workshop.run("flash", "--product", HUB.name, "--port", board_url), REFUSED, "check 7", "not for an STM32")


def test_what_does_not_fit_is_refused_before_it_is_stored(workshop: Workshop) -> None:
    """The error names the container that fits the file, or states that the product is for an STM32."""
    files(workshop)

    def publish(image: str, product: str, *words: str) -> tuple[str, ...]:
        return ("release", "publish", image, "--product", product, "--version", "1.1.0", "-o", "new.json", *words)

    for words, status, why in (
        (publish("hub.swu", HUB.name), REFUSED, "Choose the container swu, which fits this file (--container NAME)"),
        (publish("hub.bin", HUB.name), REFUSED, "Choose the container mcuboot"),
        (publish("hub.bin", HUB.name, "--container", "swu"), REFUSED, "it is not a cpio archive"),
        (publish("hub.swu", HUB.name, "--container", "mcuboot"), REFUSED, "choose the container swu for this file"),
        (publish("hub.swu", PRODUCT), REFUSED, "Publish a .swu with the container swu, for a product"),
        (publish("hub.swu", PRODUCT, "--container", "swu"), REFUSED, "is paired with the chip 0x410 of an STM32"),
        (publish("hub.swu", HUB.name, "--container", "zip"), USAGE, "stm32, mcuboot, swu, opaque"),
        (publish("hub.swu", HUB.name, "--container", "acme=swu"), USAGE, "no image for the product acme"),
        (publish("hub.swu", HUB.name, "--container", "swu", "--load-address", "4096"), USAGE, "no address in a flash"),
        (publish("hub.swu", HUB.name, "--container", "swu", "--hardware", ""), REFUSED, "it has 0 characters"),
    ):
        refused(workshop.run(*words), status, why)
    assert not Path("new.json").exists()
    assert not Path(".blockota/store").exists()


def test_a_delta_needs_its_extra(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library detools, ``--delta-from`` exits with status 2, and the error names the extra."""
    workshop.after(publish_first)
    monkeypatch.setitem(sys.modules, "detools", None)
    words = ("--product", PRODUCT, "--version", "1.1.0", "--delta-from", "1.0.0", "-o", "new.json")
    refused(
        workshop.run("release", "publish", str(NEW), *words),
        USAGE,
        "detools is not installed",
        "`pip install 'blockota[delta]'`",
    )
    assert not Path("new.json").exists()
