"""Each of the ten checks fails if one value is wrong, and passes at its boundary values."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from blockota.errors import FlashProofError, VerificationError
from blockota.formats.cid import CID, RAW
from blockota.model.container import Container
from blockota.model.facts import BoardAnswer, ChainAnswer, Consent, InterruptedRun, Passed, Trust
from blockota.model.manifest import NO_DESCRIPTION, Description, Manifest
from blockota.model.release import Product, Region, Release, Revocation, Status, Version
from blockota.model.verification import prove_board, prove_container, prove_flash, prove_release
from tests.support.programs import noise, program, signed, swu
from tests.support.samples import (
    BOARD,
    CHIP_ID,
    CONTRACT,
    FLASH,
    NOW,
    OTHER_CHIP_ID,
    PRODUCT,
    RAM,
    SAFE,
    TRUST,
    answer_with,
    code,
    release_of,
)

IMAGE = code()
RELEASE = release_of(IMAGE)
OTHER = replace(RELEASE, product="acme-lamp", version=Version(3, 2, 1))
FLOOR = replace(PRODUCT, minimum_version=Version(1, 1, 1))
ANSWER, NO_CONSENT = answer_with(), Consent()
EVERY_CONSENT = Consent(allow_downgrade=True, replace_unknown=True, configuration=True)
LARGEST_TIME = (1 << 40) - 1


@dataclass(frozen=True)
class Bench:
    """The inputs of the ten checks."""

    answer: ChainAnswer = ANSWER
    trust: Trust = TRUST
    image: bytes = IMAGE
    board: BoardAnswer = BOARD
    consent: Consent = NO_CONSENT
    flash: tuple[bytes, ...] = (IMAGE[:10], IMAGE[10:])
    description: Description = NO_DESCRIPTION

    def walk(self) -> list[Passed]:
        """Run the ten checks in order."""
        proven = prove_release(self.answer, self.trust, read_image=lambda _: self.image)
        proven = replace(proven, description=self.description)
        before = [*proven.passed, *prove_board(proven, self.board, consent=self.consent)]
        digest = hashlib.sha256(b"".join(self.flash)).digest()
        return [*before, prove_flash(proven.release, digest, method="read-back")]


def with_answer(**changes: Any) -> Bench:
    """Return a `Bench` with changed fields in the chain's answer."""
    return Bench(answer=answer_with(**changes))


def with_product(product: Product | None) -> Bench:
    """Return a `Bench` with another product record in the chain's answer."""
    return with_answer(product=product)


def with_release(**changes: Any) -> Bench:
    """Return a `Bench` with another release record in the chain's answer."""
    return with_answer(release=replace(RELEASE, **changes))


def with_board(*, consent: Consent | None = None, **changes: Any) -> Bench:
    """Return a `Bench` with changed fields in the board's answer."""
    return Bench(board=replace(BOARD, **changes), consent=consent or NO_CONSENT)


def interrupted(
    version: Version, replaced: Version | None = None, *, consent: Consent | None = None, **changes: bool
) -> Bench:
    """Return a `Bench` with a board on which a flash run was interrupted."""
    run = InterruptedRun(version, replaced, **({"is_revoked": False} | changes))
    return with_board(half_written=True, installed=None, interrupted=run, consent=consent)


def revoked(**changes: Any) -> Bench:
    """Return a `Bench` that installs 1.1.0 on a board with the newer, revoked release 1.2.0."""
    return replace(with_answer(**changes), board=replace(BOARD, installed=Version(1, 2, 0), is_revoked=True))


def with_image(image: bytes, *, consent: Consent | None = None, **changes: Any) -> Bench:
    """Return a `Bench` with another published image."""
    answer = answer_with(release=release_of(image, **changes))
    return Bench(answer=answer, image=image, flash=(image,), consent=consent or NO_CONSENT)


MOVED = program(0x0800_2000, after=noise(20_000))


def described(image: bytes, **fields: Any) -> Description:
    """Return the manifest of a published image, with its address."""
    release = release_of(image)
    facts = (release.product, release.version, release.sha256, release.size)
    manifest = Manifest(*facts, notes="notes", **fields)
    return Description(manifest.cid, manifest)


LOST = CID(RAW, bytes(32))
ONE_THING_WRONG: tuple[tuple[int, Bench, tuple[str, ...]], ...] = (
    (1, with_answer(chain_id=1), ("another chain", "chain id is 1,", "chain id is 1337", "blockota.toml")),
    (1, with_answer(contract=SAFE), ("another contract", SAFE, CONTRACT, "blockota.toml")),
    (1, with_answer(newest_block=111), ("can still change", "11 blocks", "12 are required", "Wait for more blocks")),
    (1, with_answer(newest_block=99), ("can still change", "-1 blocks")),
    (2, with_product(None), ("unknown to this vendor", "Check the product's name")),
    (2, with_product(replace(PRODUCT, paired=False)), ("unknown to this vendor", "Check the product's name")),
    (2, with_answer(paused=True), ("paused", "stopped all releases", "Ask the vendor")),
    (
        3,
        with_answer(release=None),
        ("acme-thermo2 has no active release", "block 100", "each is revoked", "for more blocks"),
    ),
    (3, with_answer(release=None, version=Version(9, 8, 7)), ("acme-thermo2 9.8.7 does not exist",)),
    (3, with_release(status=Status.REVOKED), ("acme-thermo2 1.1.0 is revoked", "withdrew it. ", "newest release")),
    (
        3,
        with_answer(release=release_of(code(), status=Status.REVOKED), revocation=Revocation("reboots", 0, 9)),
        ("the vendor withdrew it on 1970-01-01 00:00:00 UTC with the reason 'reboots'.",),
    ),
    (
        3,
        with_release(product="acme-other"),
        ("another release", "returned acme-other 1.1.0", "for acme-thermo2 (newest)"),
    ),
    (3, with_answer(version=Version(1, 0, 9)), ("another release", "1.1.0", "for acme-thermo2 1.0.9", "another node")),
    (3, with_release(active_from=NOW + 1), ("not active yet", "2027-01-15 08:00:01 UTC", "08:00:00 UTC", "Wait")),
    (3, with_release(active_from=LARGEST_TIME), ("not active yet", f"{LARGEST_TIME} s after 1970")),
    (4, Bench(image=IMAGE[:-1]), ("not the release", "has 63 bytes", "record has 64", "Fetch the image again")),
    (4, Bench(image=IMAGE + b"\xff"), ("not the release", "has 65 bytes", "record has 64")),
    (4, Bench(image=b""), ("not the release", "has 0 bytes", "record has 64")),
    (4, Bench(image=IMAGE[:-1] + b"\xa4"), ("not the release", RELEASE.sha256.hex(), "Fetch the image again")),
    (5, with_product(replace(PRODUCT, region=Region(FLASH.start, 63))), ("0x0800003f", "0x0800003e", "Ask the vendor")),
    (5, with_product(replace(PRODUCT, region=Region(FLASH.start + 1, 99))), ("not inside the product's region",)),
    (6, with_board(installed=Version(1, 1, 1)), ("1.1.0 is not newer", "holds 1.1.1", "allow the downgrade")),
    (
        6,
        interrupted(Version(1, 2, 0)),
        ("a run with 1.2.0 was interrupted on the board", "Complete the interrupted run, or allow the downgrade"),
    ),
    (
        6,
        interrupted(Version(1, 2, 0), Version(1, 1, 1)),
        ("1.1.0 is not newer", "1.1.1", "a run", "1.2.0", "allow the downgrade"),
    ),
    (6, interrupted(Version(1, 2, 0), Version(1, 1, 1), is_revoked=True), ("1.1.1", "Take the newest")),
    (6, interrupted(Version(1, 2, 0), Version(1, 1, 1), is_replaced_revoked=True), ("a run with 1.2.0 was",)),
    (
        6,
        revoked(version=Version(1, 1, 0), newest=Version(1, 1, 1)),
        ("holds 1.2.0, which is revoked", "Take the newest active release, or allow the downgrade"),
    ),
    (6, revoked(product=FLOOR), ("1.1.0 is below the floor",)),
    (6, with_board(holds_unknown=True, installed=None), ("unknown contents", "consent to replacing")),
    (
        6,
        with_board(other=OTHER, installed=None),
        ("contains another product", "acme-lamp 3.2.1, and acme-thermo2 would replace it", "replacing acme-lamp"),
    ),
    (6, with_product(FLOOR), ("1.1.0 is below the floor", "versions below 1.1.1", "Take 1.1.1 or newer")),
    (7, with_board(chip_id=OTHER_CHIP_ID), ("another chip", "0x414", "0x410", "name the product of this board")),
    (7, with_board(flash=Region(FLASH.start, 63)), ("does not fit", "64 bytes", "63 bytes", "Take the board")),
    (
        7,
        with_board(flash=Region(FLASH.start, 0x8000)),
        ("region is not inside the board's flash", "acme-thermo2 has the region", "(65,536 bytes)", "(32,768 bytes)"),
    ),
    (8, with_board(readout_protected=True), ("readout protected", "erases the whole flash")),
    (8, with_board(write_protected=(Region(FLASH.start, 4096),)), ("write protected", "4,096 bytes", "Remove")),
    (7, with_release(chip_id=0), ("not for an STM32 board", "the container is stm32", "a gateway installs")),
    (
        7,
        replace(with_release(chip_id=0), description=described(IMAGE, container=Container.SWU)),
        ("not for an STM32 board", "paired with chip id 0"),
    ),
    (
        7,
        Bench(description=described(IMAGE, container=Container.MCUBOOT)),
        ("not for an STM32 board", "the container is mcuboot"),
    ),
    (
        9,
        with_image(MOVED),
        ("linked for another address", "at 0x08002000", "no manifest states that", "Ask the vendor"),
    ),
    (
        9,
        replace(with_image(MOVED), description=described(MOVED)),
        ("linked for another address", "no manifest states that"),
    ),
    (
        9,
        replace(with_image(MOVED), description=Description(LOST, trouble="the store is empty")),
        (f"the manifest {LOST},", "cannot be read: the store is empty", "Name a source"),
    ),
    (9, with_image(signed(code()), load_address=FLASH.start + 1024), ("reset vector 0x08000009", "inside the image")),
    (9, with_image(signed(program(FLASH.start + 0x200))), ("MCUboot header", "needs a vector table")),
    (9, with_image(code(7)), ("vector table", "too short", "linked image of a program")),
    (9, with_image(code(stack=RAM.start)), ("vector table", "0x20000000", "0x20000000-0x20004fff", "linked image")),
    (9, with_image(code(stack=RAM.end + 4)), ("vector table", "0x20005004")),
    (9, with_image(code(stack=RAM.end - 2)), ("vector table", "0x20004ffe")),
    (9, with_image(b"\xff" * 64), ("vector table", "0xffffffff")),
    (9, with_image(code(reset=FLASH.start + 8)), ("reset vector 0x08000008", "Thumb")),
    (9, with_image(code(reset=FLASH.start + 65)), ("reset vector 0x08000041", "inside the image")),
    (9, with_image(code(reset=FLASH.start - 1)), ("reset vector 0x07ffffff", "inside the image")),
    (10, Bench(flash=(IMAGE[:-1], b"\xa4")), ("does not contain", RELEASE.sha256.hex(), "Flash the board again")),
    (10, Bench(flash=(IMAGE[:-1],)), ("does not contain", hashlib.sha256(IMAGE[:-1]).hexdigest())),
    (10, Bench(flash=(IMAGE, b"\xff")), ("does not contain",)),
    (10, Bench(flash=()), ("does not contain",)),
)
BOUNDARIES: dict[str, Bench] = {
    "everything in order": Bench(),
    "exactly deep enough": with_answer(newest_block=112),
    "no depth asked for": Bench(answer=answer_with(newest_block=100), trust=replace(TRUST, confirmations=0)),
    "the contract's address in another case": with_answer(contract=CONTRACT.lower()),
    "active from the block's own time": with_release(active_from=NOW),
    "the image ends where the region ends": with_product(replace(PRODUCT, region=Region(FLASH.start, 64))),
    "the image and the region end where the flash ends": replace(
        with_product(replace(PRODUCT, region=Region(FLASH.start, 64))),
        board=replace(BOARD, flash=Region(FLASH.start, 64)),
    ),
    "the version is the floor": with_product(replace(PRODUCT, minimum_version=Version(1, 1, 0))),
    "the board is blank": with_board(installed=None),
    "the newest active release replaces a revoked one": revoked(),
    "the newest active release replaces a revoked one, and is requested by its version": revoked(
        version=Version(1, 1, 0)
    ),
    "a revoked run that replaced a revoked release is left": interrupted(
        Version(1, 2, 0), Version(1, 1, 1), is_revoked=True, is_replaced_revoked=True
    ),
    "protected up to the image": with_board(write_protected=(Region(FLASH.start - 64, 64),)),
    "protected after the image": with_board(write_protected=(Region(FLASH.start + 64, 64),)),
    "the stack begins in the last word of RAM": with_image(code(stack=RAM.start + 4)),
    "the stack begins at the end of RAM": with_image(code(stack=RAM.end)),
    "the publisher accepted the load address": replace(
        with_image(MOVED), description=described(MOVED, accepts_load_address=True)
    ),
    "an MCUboot image in its slot": with_image(
        signed(program(FLASH.start + 0x4200)), load_address=FLASH.start + 0x4000
    ),
    "the program begins in the image's last instruction": with_image(code(reset=FLASH.start + 63)),
    "a downgrade is allowed": with_board(installed=Version(2, 0, 0), consent=Consent(allow_downgrade=True)),
    "the version is installed already": with_board(installed=RELEASE.version),
    "another product may go": with_board(other=OTHER, installed=None, consent=Consent(replace_product="acme-lamp")),
    "an interrupted installation": with_board(half_written=True, installed=None),
    "the interrupted run is completed": interrupted(Version(1, 1, 0), Version(1, 2, 0)),
    "the interrupted run's release is older": interrupted(Version(1, 0, 0)),
    "the interrupted run's release is revoked": interrupted(Version(1, 2, 0), Version(1, 1, 0), is_revoked=True),
    "an older release than the interrupted run's": interrupted(
        Version(1, 2, 0), Version(1, 1, 1), consent=Consent(allow_downgrade=True)
    ),
    "unknown contents beside the image": with_board(half_written=True, installed=None, lost=(FLASH,)),
    "unknown contents may go": with_board(holds_unknown=True, installed=None, consent=Consent(replace_unknown=True)),
    "a configuration without a vector table": with_image(
        b"\xff" * 64, consent=Consent(configuration=True), load_address=FLASH.end - 64
    ),
    "a configuration of one byte": with_image(b"\x01", consent=Consent(configuration=True), load_address=FLASH.end - 1),
}
CONSENT_IS_NOT_ENOUGH: dict[str, tuple[int, Bench]] = {
    "a downgrade below the floor": (6, replace(with_product(FLOOR), consent=Consent(allow_downgrade=True))),
    "unknown contents when only a downgrade is allowed": (
        6,
        with_board(holds_unknown=True, installed=None, consent=Consent(allow_downgrade=True)),
    ),
    "another product when unknown contents may go": (
        6,
        with_board(other=OTHER, installed=None, consent=Consent(allow_downgrade=True, replace_unknown=True)),
    ),
    "another product than the one that may go": (
        6,
        with_board(other=OTHER, installed=None, consent=Consent(replace_product="acme-gate")),
    ),
    "the same version below the floor": (
        6,
        replace(with_product(FLOOR), board=replace(BOARD, installed=RELEASE.version)),
    ),
    "a downgrade when only unknown contents may go": (
        6,
        with_board(installed=Version(2, 0, 0), consent=Consent(replace_unknown=True)),
    ),
    "a configuration at the start of the flash": (9, with_image(b"\xff" * 64, consent=Consent(configuration=True))),
    "a configuration outside the region": (
        5,
        with_image(b"\1", consent=Consent(configuration=True), load_address=FLASH.end),
    ),
    "a revoked release": (3, replace(with_release(status=Status.REVOKED), consent=EVERY_CONSENT)),
}


@pytest.mark.parametrize(("number", "bench", "words"), ONE_THING_WRONG)
def test_one_thing_wrong_fails_its_check(number: int, bench: Bench, words: tuple[str, ...]) -> None:
    """A single wrong value makes its check fail; the error contains the values and a remedy."""
    expected: type[FlashProofError | VerificationError] = FlashProofError if number == 10 else VerificationError
    with pytest.raises(expected) as failed:
        bench.walk()
    assert getattr(failed.value, "number", 0) == number
    assert failed.value.exit_status == (4 if number == 10 else 3)
    assert [word for word in (f"check {number} failed", *words) if word not in str(failed.value)] == []
    assert failed.value.why
    assert failed.value.remedy


def test_every_check_has_its_failure() -> None:
    """The cases of `ONE_THING_WRONG` cover all ten checks."""
    assert {number for number, _, _ in ONE_THING_WRONG} == set(range(1, 11))


@pytest.mark.parametrize("bench", BOUNDARIES.values(), ids=BOUNDARIES)
def test_the_boundary_belongs_to_what_is_allowed(bench: Bench) -> None:
    """All ten checks pass in order at their boundary values."""
    assert [passed.number for passed in bench.walk()] == list(range(1, 11))


@pytest.mark.parametrize(("number", "bench"), CONSENT_IS_NOT_ENOUGH.values(), ids=CONSENT_IS_NOT_ENOUGH)
def test_a_consent_overrides_only_its_check(number: int, bench: Bench) -> None:
    """Each kind of consent overrides one check. The checks of floor, region and revocation cannot be overridden."""
    with pytest.raises(VerificationError) as failed:
        bench.walk()
    assert getattr(failed.value, "number", 0) == number


def test_the_image_is_asked_for_only_after_the_chain_agreed() -> None:
    """The image of a revoked release is not opened."""
    asked: list[Release] = []

    def read_image(release: Release) -> bytes:
        asked.append(release)
        return IMAGE

    with pytest.raises(VerificationError):
        prove_release(with_release(status=Status.REVOKED).answer, TRUST, read_image=read_image)
    assert asked == []


def test_a_passed_check_reports_what_was_compared() -> None:
    """The result of a passed check contains the compared values, which the log records as evidence."""
    text = " ".join(passed.what for passed in Bench().walk())
    values = ("1337", CONTRACT, "block 100", "acme-thermo2", "1.1.0", RELEASE.sha256.hex(), f"0x{CHIP_ID:03x}")
    assert [value for value in (*values, "0x20005000", "0x08000009") if value not in text] == []


@pytest.mark.parametrize(
    ("bench", "words"),
    [
        (Bench(), "1.1.0 replaces 1.0.0;"),
        (BOUNDARIES["the board is blank"], "replaces blank flash;"),
        (BOUNDARIES["an interrupted installation"], "replaces an interrupted run;"),
        (BOUNDARIES["unknown contents may go"], "replaces unknown contents;"),
        (BOUNDARIES["another product may go"], "replaces acme-lamp 3.2.1;"),
        (BOUNDARIES["the version is installed already"], "the board holds 1.1.0 already;"),
    ],
)
def test_check_6_reports_what_is_replaced(bench: Bench, words: str) -> None:
    """The result of check 6 contains the contents that the release replaces."""
    assert words in bench.walk()[5].what


def test_the_insistence_of_the_publisher_is_reported() -> None:
    """The result of check 9 states that the publisher accepted a load address that the image was not linked for."""
    assert "accepted the load address" in BOUNDARIES["the publisher accepted the load address"].walk()[8].what


def test_unreadable_write_protection_is_reported() -> None:
    """If the chip does not report its write protection, the result of check 8 states this."""
    eighth = with_board(write_protected=None).walk()[7]
    assert "does not report" in eighth.what


def at_gateway(
    container: Container, image: bytes = b"any", *, chip_id: int = 0, described_as: Description | None = None
) -> list[Passed]:
    """Run the checks of a gateway that need no device."""
    found = described_as or described(image, container=container)
    return prove_container(release_of(image, chip_id=chip_id), found, image)


def test_a_gateway_checks_the_container() -> None:
    """Checks 7 and 9 pass for a container that fits the chip id and the image."""
    for passed in (at_gateway(Container.SWU, swu()), at_gateway(Container.STM32, IMAGE, chip_id=CHIP_ID)):
        assert [one.number for one in passed] == [7, 9]
    data = release_of(b"data")
    assert prove_container(data, NO_DESCRIPTION, b"data", is_configuration=True)[1].number == 9


@pytest.mark.parametrize(
    ("number", "run", "why"),
    [
        (7, lambda: at_gateway(Container.SWU, swu(), chip_id=CHIP_ID), "the chip 0x410 of an STM32"),
        (7, lambda: at_gateway(Container.STM32, IMAGE), "for devices that are not an STM32"),
        (7, lambda: at_gateway(Container.SWU, described_as=Description(LOST, trouble="no source")), "no source"),
        (9, lambda: at_gateway(Container.SWU), "not a cpio archive"),
        (9, lambda: at_gateway(Container.MCUBOOT), "does not begin with an MCUboot header"),
        (9, lambda: at_gateway(Container.STM32, b"data", chip_id=CHIP_ID), "too short for a vector table"),
    ],
)
def test_a_gateway_refuses_what_does_not_fit(number: int, run: Callable[[], object], why: str) -> None:
    """A container that does not fit fails check 7, and an image of another format fails check 9."""
    with pytest.raises(VerificationError, match=why) as failed:
        run()
    assert failed.value.number == number
