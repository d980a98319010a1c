"""Release management: postponed and multiple releases, notes, floors, configurations, pairing and pausing."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from blockota.approval.proposal import Proposal
from blockota.model.manifest import MAX_NOTES_SIZE, Manifest
from firmware_host.simulator import SimulatedBoard, serve_tcp
from tests.stories.conftest import PRODUCT, Workshop, execute_signed
from tests.stories.test_bad_input import REFUSED, USAGE, refused
from tests.stories.test_road import NEW, OLD
from tests.support.networks import rpc

CONFIGURATION = "acme-thermo2-cfg"
CONFIGURATION_START = 0x0800_FC00
WEEK = 7 * 86400
RELEASE = ("--product", PRODUCT, "--version", "1.0.0")
NOTES = "- Keeps time over midnight.\n- Ölt das Getriebe."


def decide(workshop: Workshop, file: str) -> None:
    """Have two owners sign a proposal file, and execute it."""
    for words in (("sign", file, "--key", "dev:1", "--yes"), ("sign", file, "--key", "dev:3", "--yes")):
        outcome = workshop.run("proposal", *words)
        assert outcome.status == 0, outcome.err
    outcome = workshop.run("proposal", "execute", file, "--key", "dev:0")
    assert outcome.status == 0, outcome.err


def publish(workshop: Workshop, *options: str) -> None:
    """Publish release 1.0.0 with these options."""
    outcome = workshop.run("release", "publish", str(OLD), *RELEASE, *options, "-o", "publish.json")
    assert outcome.status == 0, outcome.err
    decide(workshop, "publish.json")


@pytest.fixture
def configured(workshop: Workshop) -> Workshop:
    """Return a test workshop with a second product for configuration data in the last page of the flash."""
    return workshop.after(configure)


def configure(workshop: Workshop) -> None:
    """Pair the configuration product, and write an image for that product."""
    words = ("--oem", "acme", "--chip", "0x410", "--region", "0x0800fc00:1K", "-o", "pair.json")
    assert workshop.run("product", "pair", CONFIGURATION, *words).status == 0
    decide(workshop, "pair.json")
    Path("settings.bin").write_bytes(b"interval=60\0")


def test_a_postponed_release_waits_for_its_time(workshop: Workshop, board_url: str) -> None:
    """A postponed release is shown with its start time, and can be flashed only after that time."""
    made = workshop.run("release", "publish", str(OLD), *RELEASE, "--active-from", "+7d", "-o", "p.json", "--json")
    (release,) = made.json["releases"]
    assert release["activeFrom"] == pytest.approx(time.time() + WEEK, abs=60)
    shown = f"{datetime.fromtimestamp(release['activeFrom'], UTC):%Y-%m-%d %H:%M:%S} UTC"
    assert shown in workshop.run("proposal", "show", "p.json").out
    decide(workshop, "p.json")
    listed = workshop.run("release", "list").out
    assert "postponed" in listed
    assert shown in listed
    assert "postponed" in workshop.run("release", "show", "--product", PRODUCT).out
    assert f"1.0.0, active from {shown}" in workshop.run("product", "show", PRODUCT).out
    refused(workshop.flash(board_url), REFUSED, "check 3", "not active yet", shown)
    fetch = ("release", "fetch", *RELEASE, "-o", "got.bin")
    refused(workshop.run(*fetch), REFUSED, "check 3", "not active yet")
    assert not Path("got.bin").exists()
    rpc(workshop.chain, "evm_increaseTime", WEEK + 60)
    rpc(workshop.chain, "evm_mine")
    assert workshop.flash(board_url).status == 0
    assert "postponed" not in workshop.run("release", "list").out


@pytest.mark.parametrize(
    ("word", "status", "sentence"),
    [
        ("2020-01-01T08:00Z", REFUSED, "activation time of"),
        ("2031-01-01T08:00", USAGE, "has no time zone"),
        ("2031-13-01T08:00Z", USAGE, "is not a time"),
        ("next week", USAGE, "is not a time"),
        ("1960-01-01T08:00Z", USAGE, "before 1970"),
        ("+7w", USAGE, "is not a duration"),
        ("-7d", USAGE, "is not a time"),
        ("", USAGE, "is not a time"),
    ],
    ids=range(8),
)
def test_a_time_that_cannot_be_is_refused(workshop: Workshop, word: str, status: int, sentence: str) -> None:
    """An activation time that is past, malformed or without a time zone is refused."""
    outcome = workshop.run("release", "publish", str(OLD), *RELEASE, f"--active-from={word}", "-o", "p.json")
    assert (outcome.status, sentence in outcome.err) == (status, True), outcome.err
    assert not Path("p.json").exists()
    assert not Path(".blockota/store").exists()


def test_program_and_configuration_are_one_proposal_and_live_side_by_side(configured: Workshop) -> None:
    """A program and its configuration are published together, and flashing the program keeps the configuration."""
    publish(configured, "--also-configuration", "settings.bin", CONFIGURATION, "1.0.0")
    board = SimulatedBoard()
    with serve_tcp(board) as url:
        assert configured.flash(url).status == 0
        flash = ("flash", "--product", CONFIGURATION, "--port", url)
        refused(configured.run(*flash), REFUSED, "check 9", "--configuration")
        assert configured.run(*flash, "--configuration").status == 0
        configured.publish("1.1.0", NEW)
        outcome = configured.flash(url, "--json")
    assert outcome.json["results"][0]["banner"].startswith("BlockOTA bluepill 1.1.0")
    start = CONFIGURATION_START - 0x0800_0000
    assert bytes(board.flash[start : start + 12]) == b"interval=60\0"
    releases = configured.run("release", "list", "--json").json["releases"]
    assert [(r["product"], r["version"]) for r in releases] == [
        *((PRODUCT, "1.1.0"), (PRODUCT, "1.0.0"), (CONFIGURATION, "1.0.0"))
    ]


def test_several_versions_are_one_proposal(workshop: Workshop) -> None:
    """One proposal publishes several versions of a product."""
    publish(workshop, "--also", str(NEW), PRODUCT, "1.1.0")
    releases = workshop.run("release", "list", "--json").json["releases"]
    assert [release["version"] for release in releases] == ["1.1.0", "1.0.0"]


BAD_ALSO = {
    "same-image": (str(OLD), PRODUCT, "1.1.0", REFUSED, "already published"),
    "older": (str(NEW), PRODUCT, "0.9.0", REFUSED, "is not newer"),
    "unpaired": (str(NEW), "acme-thermo3", "1.1.0", REFUSED, "is not paired"),
    "missing": ("missing.bin", PRODUCT, "1.1.0", USAGE, "does not exist"),
    "version": (str(NEW), PRODUCT, "1.1", USAGE, "is not a version"),
    "data": ("settings.bin", CONFIGURATION, "1.0.0", REFUSED, "no plausible vector table"),
}


@pytest.mark.parametrize("name", BAD_ALSO)
def test_where_one_release_is_refused_nothing_is_stored(configured: Workshop, name: str) -> None:
    """If one release of a proposal is refused, nothing is proposed or stored."""
    *words, status, sentence = BAD_ALSO[name]
    also = ("--also", *map(str, words))
    outcome = configured.run("release", "publish", str(OLD), *RELEASE, *also, "-o", "p.json")
    assert (outcome.status, str(sentence) in outcome.err) == (status, True), outcome.err
    assert not Path("p.json").exists()
    assert not Path(".blockota/store").exists()


def test_a_program_that_cannot_start_is_refused_before_anybody_signs(workshop: Workshop) -> None:
    """An image that would fail check 9 is not proposed.

    Configuration data for the boot address are not proposed either.
    """
    Path("foreign.bin").write_bytes(b"\x00\x80\x00\x20" + OLD.read_bytes()[4:])
    Path("data.bin").write_bytes(b"interval=60\0")
    words = (*RELEASE, "-o", "p.json")
    refused(workshop.run("release", "publish", "foreign.bin", *words), REFUSED, "0x20008000 is not in RAM")
    refused(workshop.run("release", "publish", "data.bin", *words), REFUSED, "linked image of a program")
    outcome = workshop.run("release", "publish", "data.bin", "--configuration", *words)
    refused(outcome, REFUSED, "cannot be configuration", "0x08000000")
    assert not Path("p.json").exists()
    assert not Path(".blockota/store").exists()


def test_notes_and_metadata_lie_beside_the_image(workshop: Workshop) -> None:
    """Release notes are shown as text and JSON, and can be fetched to a file."""
    Path("notes.md").write_text(NOTES)
    publish(workshop, "--notes", "notes.md", "--metadata", "commit=4f2a", "--metadata", "ticket=TH-7")
    shown = workshop.run("release", "show", "--product", PRODUCT).out
    assert "│  - Ölt das Getriebe." in shown
    assert "commit  4f2a" in shown
    fields = workshop.run("release", "show", "--product", PRODUCT, "--json").json["manifest"]
    assert (fields["notes"], fields["metadata"]) == (NOTES, {"commit": "4f2a", "ticket": "TH-7"})
    words = ("release", "fetch", *RELEASE, "-o", "got.bin", "--manifest", "got.json")
    assert workshop.run(*words).status == 0
    manifest = Manifest.from_json(Path("got.json").read_bytes())
    assert (manifest.notes, str(manifest.cid)) == (NOTES, fields["cid"])
    assert Path("got.bin").read_bytes() == OLD.read_bytes()


def test_notes_that_are_missing_or_false_are_reported(workshop: Workshop) -> None:
    """A release whose notes are missing or corrupt is shown with a warning, but its notes cannot be fetched."""
    Path("notes.md").write_text(NOTES)
    publish(workshop, "--notes", "notes.md")
    address = workshop.run("release", "show", "--product", PRODUCT, "--json").json["manifest"]["cid"]
    block = next(Path(".blockota/store").glob(f"blocks/*/{address}"))
    fetch = ("release", "fetch", *RELEASE, "-o", "got.bin", "--manifest", "got.json")
    for spoil, word, status in ((lambda: block.write_bytes(b"{}"), "corrupt", REFUSED), (block.unlink, "not have", 5)):
        spoil()
        outcome = workshop.run("release", "show", "--product", PRODUCT)
        assert (outcome.status, word in outcome.err, NOTES in outcome.out) == (0, True, False)
        fields = workshop.run("release", "show", "--product", PRODUCT, "--json").json["manifest"]
        assert (fields["cid"], fields["notes"], word in fields["trouble"]) == (address, None, True)
        refused(workshop.run(*fetch), status, word)
    assert not list(Path().glob("got.*"))


def test_a_release_without_notes_is_shown_without(workshop: Workshop) -> None:
    """A release without notes is shown, but its notes cannot be fetched."""
    publish(workshop)
    assert workshop.run("release", "show", "--product", PRODUCT, "--json").json["manifest"] is None
    assert "manifest     none" in workshop.run("release", "show", "--product", PRODUCT).out
    fetch = ("release", "fetch", *RELEASE, "-o", "got.bin", "--manifest", "got.json")
    refused(workshop.run(*fetch), REFUSED, "has no manifest", "--manifest")
    assert not list(Path().glob("got.*"))


BAD_NOTES = {
    "escape": (b"fine\nnot \x1b[2Jfine", REFUSED, "line 2 of the notes cannot be shown safely"),
    "bidi": ("\u202etxt.exe".encode(), REFUSED, "U+202E"),
    "latin-1": (b"\xd6l", REFUSED, "not UTF-8"),
    "binary": (OLD.read_bytes(), REFUSED, "the notes"),
    "large": (b"x" * (MAX_NOTES_SIZE + 1), USAGE, "too large"),
}


@pytest.mark.parametrize("name", BAD_NOTES)
def test_notes_that_could_deceive_are_refused(workshop: Workshop, name: str) -> None:
    """Release notes that are too large, not UTF-8 or deceptive are refused, and nothing is stored."""
    content, status, sentence = BAD_NOTES[name]
    Path("notes.md").write_bytes(content)
    words = ("--notes", "notes.md", "-o", "p.json")
    refused(workshop.run("release", "publish", str(OLD), *RELEASE, *words), status, sentence)
    assert not Path("p.json").exists()
    assert not Path(".blockota/store").exists()


@pytest.mark.parametrize(
    ("entries", "status", "sentence"),
    [
        (("commit",), USAGE, "write KEY=VALUE"),
        (("=4f2a",), USAGE, "write KEY=VALUE"),
        (("a b=1",), REFUSED, "cannot be a key"),
        (("k=\x1b[2J",), REFUSED, "cannot be shown safely"),
        (("k=1", "k=2"), REFUSED, "a key is repeated"),
        (("k=" + "x" * 1025,), REFUSED, "too long"),
    ],
    ids=range(6),
)
def test_metadata_that_cannot_be_is_refused(
    workshop: Workshop, entries: tuple[str, ...], status: int, sentence: str
) -> None:
    """Invalid metadata of a release is refused with the reason, and nothing is stored."""
    words = [word for entry in entries for word in ("--metadata", entry)]
    outcome = workshop.run("release", "publish", str(OLD), *RELEASE, *words, "-o", "p.json")
    assert (outcome.status, sentence in outcome.err) == (status, True), outcome.err
    assert "\x1b" not in outcome.err
    assert not Path(".blockota/store").exists()


def test_an_unpaired_product_takes_nothing(workshop: Workshop, board_url: str) -> None:
    """After a product is unpaired, its releases are neither published nor flashed.

    The earlier releases remain on the chain.
    """
    publish(workshop)
    assert workshop.run("product", "unpair", PRODUCT, "-o", "unpair.json").status == 0
    refused(
        workshop.run("proposal", "sign", "unpair.json", "--key", "dev:1", "--yes"), REFUSED, "red flags (unpairing)"
    )
    execute_signed(Proposal.from_json(Path("unpair.json").read_bytes()), workshop.chain, cast=workshop.cast)
    assert workshop.run("product", "show", PRODUCT, "--json").json["paired"] is False
    refused(workshop.flash(board_url), REFUSED, "check 2", "unknown to this vendor")
    again = ("--product", PRODUCT, "--version", "1.1.0", "-o", "p.json")
    refused(workshop.run("release", "publish", str(NEW), *again), REFUSED, "not paired")
    refused(workshop.run("product", "unpair", PRODUCT, "-o", "twice.json"), REFUSED, "not paired")
    assert workshop.run("release", "show", "--product", PRODUCT).status == 0
    assert not Path("twice.json").exists()


def test_a_floor_excludes_older_releases(workshop: Workshop, board_url: str) -> None:
    """A release below the product's floor (minimum version) is not flashed, and the floor can only rise."""
    publish(workshop, "--also", str(NEW), PRODUCT, "1.1.0")
    outcome = workshop.run("product", "floor", PRODUCT, "1.1.0", "-o", "floor.json")
    assert "permanently excluded  1.0.0" in outcome.out
    assert "still allowed         1.1.0" in outcome.out
    assert "cannot be lowered again" in outcome.out
    decide(workshop, "floor.json")
    assert workshop.run("product", "show", PRODUCT, "--json").json["minimumVersion"] == "1.1.0"
    refused(workshop.flash(board_url, "--version", "1.0.0"), REFUSED, "check 6", "1.1.0")
    assert workshop.flash(board_url).status == 0
    refused(workshop.run("product", "floor", PRODUCT, "1.0.0", "-o", "down.json"), REFUSED, "can only be raised")
    assert not Path("down.json").exists()


def test_a_floor_above_everything_must_be_meant(workshop: Workshop) -> None:
    """A floor (minimum version) above all releases excludes every release, so it needs ``--above-newest``."""
    publish(workshop)
    floor = ("product", "floor", PRODUCT, "1.0.1", "-o", "floor.json")
    refused(workshop.run(*floor), REFUSED, "exclude every release", "1.0.0", "--above-newest")
    assert not Path("floor.json").exists()
    outcome = workshop.run(*floor, "--above-newest", "--json")
    assert (outcome.json["excluded"], outcome.json["allowed"]) == (["1.0.0"], [])
    missing = workshop.run("product", "floor", "nobody", "1.0.0", "-o", "x.json")
    refused(missing, REFUSED, "product nobody does not exist")
    assert workshop.run("product", "floor", PRODUCT, "1.0", "-o", "x.json").status == USAGE


def test_one_owner_stops_everything_and_all_resume(workshop: Workshop, board_url: str) -> None:
    """One owner can pause the contract, but only the Safe can resume the contract."""
    publish(workshop)
    refused(workshop.run("contract", "pause", "--key", "dev:6"), REFUSED, "may not pause the contract")
    assert workshop.run("contract", "pause", "--key", "dev:2", "--json").json["paused"] is True
    shown = workshop.run("contract", "show", "--json").json
    assert (shown["paused"], shown["safe"]["threshold"], len(shown["safe"]["owners"])) == (True, 2, 3)
    assert "YES, nothing can be published or installed" in workshop.run("contract", "show").out
    refused(workshop.flash(board_url), REFUSED, "check 2", "paused")
    again = workshop.run("contract", "pause", "--key", "dev:1")
    refused(again, REFUSED, "the contract is paused", "decide when to resume it (`blockota contract resume -o FILE`)")
    for name in ("resume.json", "twice.json"):
        made = workshop.run("contract", "resume", "-o", name)
        assert made.status == 0, made.err
    assert "Warning: resume.json proposes the same already" in made.err
    nonce = workshop.run("safe", "owners", "--json").json["nonce"]
    assert f"make this proposal again with --nonce {nonce}: its execution then replaces resume.json" in made.err
    decide(workshop, "resume.json")
    useless = workshop.run("proposal", "simulate", "twice.json")
    refused(useless, REFUSED, "the contract is not paused", "Reject this proposal", "`blockota proposal reject FILE`")
    assert workshop.run("contract", "show", "--json").json["paused"] is False
    assert workshop.flash(board_url).status == 0
    refused(workshop.run("contract", "resume", "-o", "again.json"), REFUSED, "not paused")


def test_the_safe_pauses_by_proposal(workshop: Workshop) -> None:
    """The contract can also be paused by a proposal of the Safe."""
    for words in ((), ("--key", "dev:1", "-o", "pause.json")):
        refused(workshop.run("contract", "pause", *words), USAGE, "--key", "-o")
    assert workshop.run("contract", "pause", "-o", "pause.json").status == 0
    decide(workshop, "pause.json")
    assert workshop.run("contract", "show", "--json").json["paused"] is True


def test_a_command_that_proposes_signs_too(workshop: Workshop) -> None:
    """With ``--sign``, a proposal is written with a signature.

    With a red flag, neither the proposal nor the signature is written.
    """
    signed = workshop.run("proposal", "reject", "--nonce", "1", "--sign", "dev:1", "--json").json
    assert (signed["signer"], Path(signed["signature"]).is_file()) == (workshop.cast.owner_a.address, True)
    refused(
        workshop.run("product", "unpair", PRODUCT, "-o", "unpair.json", "--sign", "dev:1"),
        REFUSED,
        "not signed automatically",
        "unpairing",
    )
    assert not list(Path().glob("unpair*"))


def test_fetch_writes_over_nothing(workshop: Workshop) -> None:
    """``release fetch`` does not overwrite an existing file without ``--force``."""
    Path("notes.md").write_text(NOTES)
    publish(workshop, "--notes", "notes.md")
    Path("got.bin").write_bytes(b"mine")
    fetch = ("release", "fetch", *RELEASE, "-o")
    refused(workshop.run(*fetch, "got.bin"), USAGE, "got.bin already exists", "--force")
    refused(workshop.run(*fetch, "new.bin", "--manifest", "got.bin"), USAGE, "got.bin already exists")
    refused(workshop.run(*fetch, "new.bin", "--manifest", "./new.bin"), USAGE, "cannot be one file")
    refused(workshop.run(*fetch, "new.bin", "--manifest", "nowhere/new.json"), USAGE, "cannot be written")
    refused(workshop.run(*fetch, "nowhere/new.bin", "--manifest", "new.json"), USAGE, "cannot be written")
    assert Path("got.bin").read_bytes() == b"mine"
    assert not list(Path().glob("new.*"))
    assert workshop.run(*fetch, "got.bin", "--force").status == 0
    assert Path("got.bin").read_bytes() == OLD.read_bytes()


def test_a_revocation_gives_its_reason(workshop: Workshop) -> None:
    """A revocation without a reason is not proposed."""
    publish(workshop)
    for words in ((), ("--reason", ""), ("--reason", " ")):
        refused(workshop.run("release", "revoke", *RELEASE, *words, "-o", "r.json"), USAGE, "without a reason")
    assert not Path("r.json").exists()


def test_a_store_that_fails_leaves_no_proposal(workshop: Workshop) -> None:
    """If the image cannot be stored, no proposal file is written."""
    Path(".blockota").joinpath("store").write_text("no folder")
    refused(workshop.run("release", "publish", str(OLD), *RELEASE, "-o", "p.json"), 5, "store", "cannot be used")
    assert not Path("p.json").exists()
