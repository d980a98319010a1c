"""A vendor's first day: a newcomer types the commands, makes ordinary mistakes, and reads the answers."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path

from tests.stories.conftest import Outcome, Workshop
from tests.stories.test_bad_input import OUT_OF_REACH, REFUSED, USAGE, refused
from tests.stories.test_release_desk import ok
from tests.stories.test_road import NEW, OLD
from tests.support.descriptors import descriptor

Mistake = tuple[str, int, Sequence[str]]
"""A typed command, its exit status, and words of the answer. The words explain what is wrong, or what to do."""
PAIR = "blockota product pair acme-fan --oem acme --chip 0x410 --region 0x08000000:64K -o pair.json"
PUBLISH = "blockota release publish app.bin --product acme-fan --version 1.0.0 -o 1.0.0.json"

PAIRING: list[Mistake] = [
    ("blockota prodct list", USAGE, ["product"]),
    ("blockota product piar acme-fan", USAGE, ["pair"]),
    ("blockota product pair acme-fan", USAGE, ["--oem", "manufacturer"]),
    (PAIR.replace("--chip", "--cip"), USAGE, ["--chip"]),
    (PAIR.replace("0x410", "stm32"), USAGE, ["blockota board chips"]),
    (PAIR.replace("0x410", "STM32F103"), USAGE, ["0x410", "blockota board identify"]),
    (PAIR.replace(":64K", ""), USAGE, ["0x08000000:64K"]),
    (PAIR.replace(":64K", ":1M"), REFUSED, ["131,072 bytes", "Give the part of the flash"]),
    (PAIR.replace(" -o pair.json", ""), USAGE, ["'-o'", "proposal file to write"]),
    (PAIR.replace("pair.json", "out/pair.json"), USAGE, ["out/pair.json", "its folder does not exist", "-o FILE"]),
    (f"{PAIR} --sign alice.json", USAGE, ["keystore:FILE"]),
    (f"{PAIR} --sign keystore:alice.json", USAGE, ["alice.json", "does not exist", "blockota key new"]),
    (f"{PAIR} --sign dev:7", REFUSED, ["is not an owner of the Safe"]),
    (PUBLISH, REFUSED, ["acme-fan is not paired", "blockota product pair"]),
]
"""Mistakes before the product is paired."""

PUBLISHING: list[Mistake] = [
    (f"{PAIR.replace('pair.json', 'again.json')}", REFUSED, ["acme-fan is paired already", "Propose a release"]),
    ("blockota release publish app.bin acme-fan 1.0.0", USAGE, ["--product", "the image is for"]),
    (
        PUBLISH.replace("app.bin", "ap.bin"),
        USAGE,
        ["ap.bin does not exist", "a similar file is app.bin"],
    ),
    (PUBLISH.replace("app.bin", "app.zip"), REFUSED, ["ZIP archive", "Unpack it"]),
    (PUBLISH.replace("app.bin", "empty.bin"), REFUSED, ["empty", "Build or fetch the image again"]),
    (PUBLISH.replace("app.bin", "pair.json"), REFUSED, ["JSON file", "Give the .bin"]),
    (PUBLISH.replace("acme-fan", "acme-fun"), REFUSED, ["acme-fun is not paired", "acme-fan", "Check the name"]),
    (PUBLISH.replace("--version 1.0.0", "--version v1.0"), USAGE, ["'v1.0' is not a version", "1.4.0"]),
    (PUBLISH.replace("1.0.0.json", "pair.json"), USAGE, ["pair.json already exists", "Choose another file"]),
    (PUBLISH.replace("-o 1.0.0.json", "-o out/1.0.0.json"), USAGE, ["its folder does not exist", "another folder"]),
    (f"{PUBLISH} --expires-in 10", USAGE, ["'10' is", "write"]),
]
"""Mistakes after the product is paired, before its first release."""

SIGNING: list[Mistake] = [
    ("blockota proposal sign 1.0.0.json --key dev:2", USAGE, ["1.0.0.json cannot be read", "Check the path"]),
    ("blockota proposal sign 1.0.0.pack", USAGE, ["--key", "keystore:FILE"]),
    ("blockota proposal sign 1.0.0.pack --key dev:2 --yes -o out/s.json", USAGE, ["its folder does not exist"]),
    ("blockota proposal sign 1.0.0.pack --key dev:2", USAGE, ["was not confirmed", "--yes"]),
    ("blockota proposal sign 1.0.0.pack --key dev:7 --yes", REFUSED, ["red flags (stranger)"]),
    ("blockota proposal execute 1.0.0.pack --key dev:0", USAGE, ["is a pack", "Give the proposal file"]),
]
"""Mistakes of the owner without a network."""

EXECUTING: list[Mistake] = [
    ("blockota proposal execute 1.0.0.json", USAGE, ["--key"]),
    (
        "blockota proposal execute 1.0.0 --key dev:0",
        USAGE,
        ["1.0.0 cannot be read", "a similar file is 1.0.0.json"],
    ),
    ("blockota proposal execute 1.0.0.json --key dev:0", REFUSED, ["1 of 2", "Have another owner sign"]),
    ("blockota proposal execute app.bin --key dev:0", REFUSED, ["are not text", "Give the proposal file"]),
    (
        "blockota proposal sign 1.0.0.json --key dev:1 --yes",
        USAGE,
        ["has signed the proposal already", "Nothing is left to sign"],
    ),
]
"""Mistakes before enough owners have signed."""

AFTERWARDS: list[Mistake] = [
    ("blockota proposal execute 1.0.0.json --key dev:0", REFUSED, ["was executed already", "nothing left"]),
    ("blockota proposal sign 1.0.0.json --key dev:3 --yes", REFUSED, ["was executed already"]),
    ("blockota proposal pack 1.0.0.json", REFUSED, ["was executed already"]),
    (PUBLISH.replace("app.bin", "new.bin").replace("1.0.0.json", "b.json"), REFUSED, ["a version above 1.0.0"]),
    (PUBLISH.replace("1.0.0", "1.1.0"), REFUSED, ["already published", "build it again"]),
    ("blockota proposal sign old.json --key dev:2 --yes", REFUSED, ["has expired", "Make a new proposal"]),
    ("blockota release revoke --product acme-fan --version 1.0.0 -o r.json", USAGE, ["--reason"]),
]
"""Mistakes after the release is executed."""


def type_in(workshop: Workshop, line: str) -> Outcome:
    """Type a command line, without a terminal for questions."""
    return workshop.run(*shlex.split(line)[1:])


def answered(workshop: Workshop, mistakes: Sequence[Mistake]) -> None:
    """Make mistakes. Each mistake causes one error, and does not change the folder."""
    before = sorted(Path().iterdir())
    for line, status, words in mistakes:
        refused(type_in(workshop, line), status, *words)
        assert sorted(Path().iterdir()) == before, line


def test_a_newcomer_pairs_a_product(workshop: Workshop) -> None:
    """A newcomer, who begins in a wrong folder, pairs a product. The error for each mistake names the remedy."""
    empty = workshop.folder / "empty"
    empty.mkdir()
    with chdir(empty):
        refused(type_in(workshop, "blockota release list"), USAGE, "blockota.toml", "--config FILE")
    shutil.copy(OLD, "app.bin")
    answered(workshop, PAIRING)
    made = ok(type_in(workshop, f"{PAIR} --sign dev:1"))
    assert made.err.endswith("then `blockota proposal execute pair.json --key KEY`\n")
    ok(type_in(workshop, "blockota proposal sign pair.json --key dev:2 --yes"))
    done = ok(type_in(workshop, "blockota proposal execute pair.json --key dev:0"))
    assert "Next: `blockota release publish IMAGE --product acme-fan" in done.err


def pair_product(workshop: Workshop) -> None:
    """Pair the product of the newcomer."""
    shutil.copy(OLD, "app.bin")
    ok(type_in(workshop, f"{PAIR} --sign dev:1"))
    ok(type_in(workshop, "blockota proposal sign pair.json --key dev:2 --yes"))
    ok(type_in(workshop, "blockota proposal execute pair.json --key dev:0"))


def test_a_newcomer_publishes_a_release(workshop: Workshop) -> None:
    """Owners at a desk and at an off-line machine publish an image as a release.

    The error for each mistake names the remedy.
    """
    workshop.after(pair_product)
    Path("app.zip").write_bytes(b"PK\x03\x04".ljust(100, b"\0"))
    Path("empty.bin").touch()
    answered(workshop, PUBLISHING)
    ok(type_in(workshop, f"{PUBLISH} --sign dev:1"))
    packed = ok(type_in(workshop, "blockota proposal pack 1.0.0.json"))
    assert "Send 1.0.0.pack to the owner" in packed.err

    # The owner without a network has the pack, and first no settings.
    home = workshop.folder / "home"
    home.mkdir()
    shutil.copy("1.0.0.pack", home)
    sign = "blockota proposal sign 1.0.0.pack --key"
    with chdir(home):
        assert "Next: `blockota proposal show 1.0.0.pack`" in ok(type_in(workshop, "blockota proposal list")).err
        bare = type_in(workshop, f"{sign} dev:2 --yes")
        refused(bare, REFUSED, "red flags (unconfigured)")
        assert "copy the vendor's blockota.toml to this folder" in bare.out + bare.err
        settings = f'[networks.local]\nurl = "http://127.0.0.1:9"\ncontract = "{workshop.contract.address}"\n'
        Path("blockota.toml").write_text(settings)
        locked = workshop.cast.owner_b.encrypt("right", kdf="pbkdf2", iterations=2)
        Path("bob.json").write_text(json.dumps(locked))
        Path("bob.json").chmod(0o600)
        answered(workshop, SIGNING)
        shutil.copy("../1.0.0.json", ".")
        away = type_in(workshop, "blockota proposal sign 1.0.0.json --key dev:2")
        refused(away, OUT_OF_REACH, "does not answer", "Off line, sign a pack", "blockota proposal pack FILE")
        Path("1.0.0.json").unlink()
        with descriptor("wrong") as number:
            wrong = type_in(workshop, f"{sign} keystore:bob.json --password-fd {number}")
        refused(wrong, REFUSED, "wrong password for bob.json", "Try again")
        with descriptor("right") as number:
            signed = ok(type_in(workshop, f"{sign} keystore:bob.json --password-fd {number} --yes"))
        assert "back to the sender of 1.0.0.pack" in signed.err
        refused(
            type_in(workshop, f"{sign} dev:2 --yes"),
            USAGE,
            "has signed the proposal already",
            "Nothing is left to sign",
        )
        (signature,) = Path().glob("*.signature.json")

    answered(workshop, EXECUTING)
    shutil.copy(home / signature, ".")
    done = ok(type_in(workshop, "blockota proposal execute 1.0.0.json --key dev:0"))
    assert "Next: `blockota flash --product acme-fan`" in done.err

    shutil.copy(NEW, "new.bin")
    fields = json.loads(Path("1.0.0.json").read_text())
    Path("old.json").write_text(json.dumps(fields | {"nonce": fields["nonce"] + 1, "expires": fields["created"]}))
    answered(workshop, AFTERWARDS)
    assert "acme-fan 1.0.0, the newest release" in ok(type_in(workshop, "blockota release verify app.bin")).out
