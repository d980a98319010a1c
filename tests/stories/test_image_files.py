"""The image files that vendors have: formats, gaps, unusual load addresses and memories, and files of other kinds."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from blockota.approval.proposal import Proposal
from blockota.bindings.block_ota import pair_call
from blockota.formats.cid import CID
from blockota.model.release import Product, Region
from firmware_host.simulator import serve_tcp
from tests.conftest import IMAGES
from tests.formats.test_dfuse import dfuse, target
from tests.formats.test_firmware_image import END, linear
from tests.formats.test_firmware_image import record as hex_record
from tests.formats.test_srecord import record as s_record
from tests.formats.test_uf2 import uf2
from tests.stories.conftest import PRODUCT, Outcome, Workshop, execute_signed, publish_first
from tests.stories.technicians import board
from tests.stories.test_bad_input import REFUSED, USAGE, refused
from tests.stories.test_release_desk import ok, sign
from tests.support.hostile_gateway import serving
from tests.support.programs import noise, program, signed

BASE, MOVED = 0x0800_0000, 0x0800_2000
F1 = 0x5EE2_1072
UNREACHABLE = 5
APPLICATION = (IMAGES / "bluepill-1.1.0.bin").read_bytes()


def publish(workshop: Workshop, image: str, *options: str, product: str = PRODUCT) -> Outcome:
    """Propose an image as release 1.1.0."""
    words = ("release", "publish", image, "--product", product, "--version", "1.1.0", "-o", "1.1.0.json")
    return workshop.run(*words, *options)


def execute(workshop: Workshop) -> None:
    """Sign and execute the proposal of release 1.1.0, although it may have red flags."""
    execute_signed(Proposal.from_json(Path("1.1.0.json").read_bytes()), workshop.chain, cast=workshop.cast)


def pair(workshop: Workshop, name: str, *, chip_id: int = 0x410, region: Region) -> None:
    """Pair another product."""
    workshop.decide(pair_call(Product(name, "acme", chip_id, region, minimum_version=None, paired=True)))


def test_an_image_for_another_address_is_published_where_it_belongs(workshop: Workshop) -> None:
    """A raw image that was linked for another address is refused.

    The load address that the error suggests is accepted.
    """
    Path("moved.bin").write_bytes(program(MOVED, after=noise(20_000)))
    refused(
        publish(workshop, "moved.bin"),
        REFUSED,
        "was linked for another address",
        "--load-address 0x08002000",
        "--accept-load-address",
    )
    assert not Path("1.1.0.json").exists()
    assert not Path(".blockota/store/blocks").exists()
    ok(publish(workshop, "moved.bin", "--load-address", "0x08002000"))
    assert "0x08002000-0x" in ok(workshop.run("proposal", "show", "1.1.0.json")).out


def test_a_publisher_who_insists_is_seen_by_owners_and_benches(workshop: Workshop) -> None:
    """``--accept-load-address`` raises a red flag for owners.

    A bench that does not have the manifest refuses an image that was linked for another address.
    """
    Path("moved.bin").write_bytes(program(MOVED, after=noise(20_000)))
    ok(publish(workshop, "moved.bin", "--accept-load-address"))
    flagged = sign(workshop, "1.1.0.json", "dev:1")
    refused(flagged, REFUSED, "red flags (address)")
    assert "RED FLAG address" in flagged.out
    execute(workshop)
    shown = workshop.run("release", "show", "--product", PRODUCT, "--json").json
    assert shown["manifest"]["loadAddressAccepted"] is True

    with serve_tcp(board(1)) as url:
        cid = shown["manifest"]["cid"]
        manifest = next(Path(".blockota/store").glob(f"blocks/*/{cid}"))
        kept = manifest.read_bytes()
        manifest.unlink()
        words = ("check 9 failed, the image was linked for another address", f"the manifest {cid},", "--source URL")
        refused(workshop.flash(url), REFUSED, *words)

        # A source serves the manifest as it serves the image, also for an image in a file.
        with serving({CID.parse(cid): kept}) as vendor:
            outcome = ok(workshop.flash(url, "--source", vendor.url, "--image", "moved.bin"))
            assert manifest.read_bytes() == kept
            manifest.unlink()
            fetch = ("release", "fetch", "--product", PRODUCT, "-o", "got.bin", "--manifest", "got.json")
            refused(workshop.run(*fetch), UNREACHABLE, "was not found", "--source URL")
            ok(workshop.run(*fetch, "--source", vendor.url))
    assert "stack pointer 0x20005000 in RAM" in outcome.out
    assert Path("got.json").read_bytes() == manifest.read_bytes() == kept


def test_every_format_gives_the_same_release(workshop: Workshop) -> None:
    """S-record, UF2 and DfuSe files of a program yield the same release as the program's raw image."""
    publish_first(workshop)
    old = (IMAGES / "bluepill-1.0.0.bin").read_bytes()
    records = [s_record(3, BASE + at, old[at : at + 32]) for at in range(0, len(old), 32)]
    Path("app.srec").write_bytes(b"".join(records) + s_record(7, BASE))
    Path("app.uf2").write_bytes(uf2(old, family=F1))
    Path("app.dfu").write_bytes(dfuse(target((BASE, old))))
    for name in ("app.srec", "app.uf2", "app.dfu"):
        assert "is acme-thermo2 1.0.0" in ok(workshop.run("release", "verify", name, "--product", PRODUCT)).out
    with serve_tcp(board(1)) as url:
        ok(workshop.flash(url, "--image", "app.uf2"))


def test_a_file_that_is_almost_a_release_is_named(workshop: Workshop) -> None:
    """A file that only resembles a release is refused with an error that names the release.

    The cases are a release with further bytes, and a release at another address.
    """
    publish_first(workshop)
    old = (IMAGES / "bluepill-1.0.0.bin").read_bytes()
    Path("read.bin").write_bytes(old + b"x" * 440)
    Path("moved.srec").write_bytes(
        s_record(3, BASE + 0x4000, old[:240])
        + s_record(3, BASE + 0x40F0, old[240:480])
        + s_record(3, BASE + 0x41E0, old[480:])
        + s_record(7, BASE)
    )
    moved = ("begins at 0x08004000, but the release begins at 0x08000000",)
    with serve_tcp(board(1)) as url:
        words = (
            "read.bin is not only a release: it begins with acme-thermo2 1.0.0, the newest release, and has 440 more",
        )
        refused(workshop.flash(url, "--image", "read.bin"), REFUSED, *words, "without --image")
        elsewhere = "begins at 0x08004000, but the release begins at 0x08000000"
        refused(workshop.flash(url, "--image", "moved.srec"), REFUSED, "moved.srec is for another address", elsewhere)
    refused(
        workshop.run("release", "verify", "moved.srec"),
        REFUSED,
        "bytes of acme-thermo2 1.0.0 at another address",
        *moved,
    )
    read = workshop.run("release", "verify", "read.bin", "--version", "1.0.1")
    refused(read, REFUSED, "read.bin is not 1.0.1: it contains acme-thermo2 1.0.0")


def test_a_uf2_file_for_another_family_is_refused(workshop: Workshop) -> None:
    """A UF2 file is accepted only for chips of its family. The family id in the file may be that of a single chip."""
    pair(workshop, "acme-f4", chip_id=0x413, region=Region(BASE, 0x1_0000))
    for name, family in (("f1.uf2", F1), ("f4.uf2", 0x5775_5A57), ("f407.uf2", 0x6D09_22FA)):
        Path(name).write_bytes(uf2(APPLICATION, family=family))
    words = ("the uf2 file is for another chip", "its family is STM32F4, and the product's chip is an STM32F1")
    refused(publish(workshop, "f4.uf2"), REFUSED, *words)
    assert not Path("1.1.0.json").exists()
    ok(publish(workshop, "f1.uf2"))
    Path("1.1.0.json").unlink()
    refused(publish(workshop, "f1.uf2", product="acme-f4"), REFUSED, "its family is STM32F1")
    ok(publish(workshop, "f407.uf2", product="acme-f4"))


def test_gaps_are_filled_only_on_request(workshop: Workshop) -> None:
    """A HEX file with a gap of whole pages is refused, and the error names the addresses of the gap.

    `--fill` records and shows the gap.
    """
    start, end = APPLICATION.ljust(1024, b"\0"), b"data" * 8
    lines = [linear(BASE)]
    lines += [hex_record(0, at, start[at : at + 32]) for at in range(0, len(start), 32)]
    # Linkers leave gaps below an erase unit.
    Path("small.hex").write_bytes(b"".join([*lines, hex_record(0, 0x7F0, end), END]))
    assert "manifest     none" in ok(published := publish(workshop, "small.hex", "--fill")).out
    assert "--fill changed nothing: no image has a gap of at least an erase unit." in published.err
    Path("1.1.0.json").unlink()

    Path("gap.hex").write_bytes(b"".join([*lines, hex_record(0, 0x2000, end), END]))
    refused(publish(workshop, "gap.hex"), REFUSED, "0x08000400-0x08001fff (7,168 bytes)", "--fill")
    assert not Path("1.1.0.json").exists()
    ok(publish(workshop, "gap.hex", "--fill"))
    assert "0x08000400-0x08001fff (7,168 bytes)" in ok(sign(workshop, "1.1.0.json", "dev:1")).out
    ok(sign(workshop, "1.1.0.json", "dev:2"))
    ok(workshop.run("proposal", "execute", "1.1.0.json", "--key", "dev:0"))
    text = ok(workshop.run("release", "show", "--product", PRODUCT)).out
    assert "  filled  0x08000400-0x08001fff (7,168 bytes), with 0xFF: gaps in the file" in text
    shown = workshop.run("release", "show", "--product", PRODUCT, "--json").json
    assert shown["manifest"]["filled"] == [{"start": BASE + 0x400, "size": 0x1C00}]


def test_a_gap_on_a_chip_with_another_erased_byte_says_so(workshop: Workshop) -> None:
    """For an STM32L0, the error for a gap states that erased bytes are 0x00, and data for the EEPROM are refused."""
    pair(workshop, "acme-valve", chip_id=0x417, region=Region(BASE, 0x1_0000))
    code = program(BASE)
    lines = [linear(BASE), *(hex_record(0, at, code[at : at + 32]) for at in range(0, len(code), 32))]
    Path("gap.hex").write_bytes(b"".join([*lines, hex_record(0, 0x1000, b"data"), END]))
    refused(publish(workshop, "gap.hex", product="acme-valve"), REFUSED, "its erased bytes are 0x00", "--fill")
    Path("eeprom.hex").write_bytes(b"".join([*lines, linear(0x0808_0000), hex_record(0, 0, b"data"), END]))
    refused(publish(workshop, "eeprom.hex", product="acme-valve"), REFUSED, "(4 bytes) lies in the data EEPROM")


@pytest.mark.parametrize(("chip_id", "page"), [(0x469, 0x800), (0x451, 0x4000)])
def test_gaps_count_on_chips_that_are_erased_as_a_whole(workshop: Workshop, chip_id: int, page: int) -> None:
    """On a chip whose page size is not known, a gap as large as the smallest possible page is refused."""
    pair(workshop, "acme-large", chip_id=chip_id, region=Region(BASE, 0x1_0000))
    code = program(BASE).ljust(0x400, b"\0")
    lines = [linear(BASE), *(hex_record(0, at, code[at : at + 32]) for at in range(0, len(code), 32))]
    Path("gap.hex").write_bytes(b"".join([*lines, hex_record(0, 0x400 + page, b"data"), END]))
    refused(publish(workshop, "gap.hex", product="acme-large"), REFUSED, f"({page:,} bytes)", "--fill")
    Path("small.hex").write_bytes(b"".join([*lines, hex_record(0, 0x3FF + page, b"data"), END]))
    ok(publish(workshop, "small.hex", product="acme-large"))


OTHER_KINDS = {
    "app.bin.gz": (gzip.compress(APPLICATION), "a gzip file", "Decompress it"),
    "app.apj": (json.dumps({"magic": "APJFWv1", "image": ""}).encode(), "an ArduPilot firmware file", "Base64"),
    "app.hex": (b"; rev C\n" + linear(BASE) + hex_record(0, 0, b"data") + END, "an Intel HEX file after", "first line"),
    "page.bin": (b"<!DOCTYPE html><html>", "a web page", "Download"),
}


@pytest.mark.parametrize("options", [(), ("--configuration", "--load-address", "0x0800F000")], ids=["program", "data"])
def test_other_kinds_of_files_are_refused_by_name(workshop: Workshop, options: tuple[str, ...]) -> None:
    """A file of a known other kind is refused, even with ``--configuration``, and the error names the kind.

    Any other file is accepted with ``--configuration``.
    """
    for name, (content, kind, remedy) in OTHER_KINDS.items():
        Path(name).write_bytes(content)
        refused(publish(workshop, name, *options), REFUSED, name, kind, remedy)
    assert not Path("1.1.0.json").exists()
    if options:
        Path("settings.dat").write_bytes(b"\x01\x02\x03")
        ok(publish(workshop, "settings.dat", *options))


def test_option_bytes_are_named_with_their_remedy(workshop: Workshop) -> None:
    """A HEX file with option bytes is refused, and the error names the command that sets the protection."""
    content = linear(BASE) + hex_record(0, 0, b"code") + linear(0x1FFF_F800) + hex_record(0, 0xF800, b"\xa5\x5a") + END
    Path("app.hex").write_bytes(content)
    words = ("0x1ffff800-0x1ffff801 (2 bytes) lies in the option bytes", "`blockota board protect`")
    refused(publish(workshop, "app.hex"), REFUSED, *words)


def test_an_mcuboot_image_is_flashed_into_its_slot(workshop: Workshop) -> None:
    """A signed MCUboot image is published for its slot.

    Check 9 reads the vector table after the image's header.
    """
    slot = Region(BASE + 0x4000, 0x8000)
    pair(workshop, "acme-slot", region=slot)
    Path("signed.bin").write_bytes(signed(program(slot.start + 0x200, after=noise(4000))))
    ok(publish(workshop, "signed.bin", product="acme-slot"))
    execute(workshop)
    with serve_tcp(board(1)) as url:
        outcome = ok(workshop.run("flash", "--product", "acme-slot", "--port", url))
    assert "after an MCUboot header of 512 bytes" in outcome.out


def test_chips_outside_the_table_are_refused_before_publication(workshop: Workshop) -> None:
    """A chip that no bench can flash is refused, both when a product is paired and when a release is published."""
    words = ("product", "pair", "acme-new", "--oem", "acme", "--region", "0x08000000:64K", "-o", "pair.json")
    refused(workshop.run(*words, "--chip", "0x7ff"), REFUSED, "is not supported", "`blockota board chips`")
    assert not Path("pair.json").exists()
    pair(workshop, "acme-old", chip_id=0x7FF, region=Region(BASE, 0x1_0000))
    refused(publish(workshop, str(IMAGES / "bluepill-1.1.0.bin"), product="acme-old"), REFUSED, "0x7ff", "chips`")
    listed = workshop.run("board", "chips", "--json").json["chips"]
    assert {"chipId": 0x410, "name": "STM32F10x medium-density", "flashLimit": 0x2_0000} in listed
    assert "0x410" in ok(workshop.run("board", "chips")).out


OUTSIDE = {
    "behind": ("0x08000000:256K", "the largest flash of an STM32F10x medium-density is 0x08000000-0x0801ffff"),
    "ends behind": ("0x0801fc00:2K", "is not inside the flash of the chip 0x410"),
    "RAM": ("0x20000000:4K", "is not inside the flash of the chip 0x410"),
    "below": ("0x07fff000:8K", "is not inside the flash of the chip 0x410"),
    "odd start": ("0x08000200:1K", "Give 0x08000000:2048, or fewer erase units"),
    "odd size": ("0x08000400:1023", "Give 0x08000400:1024, or fewer erase units"),
}


def test_a_product_is_paired_with_a_chip_and_a_part_of_its_flash(workshop: Workshop) -> None:
    """``product pair`` requires a region of whole erase units inside the chip's flash.

    The chip's name must belong to exactly one chip id.
    """
    words = ("product", "pair", "acme-new", "--oem", "acme", "--chip", "0x410", "-o", "pair.json")
    for region, why in OUTSIDE.values():
        refused(workshop.run(*words, "--region", region), REFUSED, why)
    # Only the smallest page of an STM32G47x is known, and the flash is erased as a whole.
    refused(workshop.run(*words, "--region", "0x08000400:2K", "--chip", "0x469"), REFUSED, "Give 0x08000000:4096")
    assert not Path("pair.json").exists()
    ok(workshop.run(*words, "--region", "0x0801f000:4K"))

    # A name that has several ids, or none, is refused with what to pass.
    words = ("product", "pair", "acme-new", "--oem", "acme", "--region", "0x08000000:16K", "-o", "named.json")
    refused(workshop.run(*words, "--chip", "STM32F103"), USAGE, "has several ids", "0x410", "0x414", "board identify")
    refused(workshop.run(*words, "--chip", "410"), USAGE, "no chip has the decimal id 410. Did you mean 0x410?")
    refused(workshop.run(*words, "--chip", "ESP32"), USAGE, "`blockota board chips` lists them")
    ok(workshop.run(*words, "--chip", "stm32f407vg"))
    assert "0x413" in ok(workshop.run("proposal", "show", "named.json")).out
