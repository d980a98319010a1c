"""A vendor's first release with two owners, one of them off line.

The owners type nine commands, and send one file in each direction.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from blockota.chain.local import LocalChain, free_port
from blockota.cli.main import run
from tests.conftest import ROOT
from tests.stories.conftest import Workshop, publish_first
from tests.stories.test_bad_input import REFUSED, USAGE, refused
from tests.stories.test_release_desk import at_home, decide, ok, propose, without_network
from tests.stories.test_road import NEW, OLD

PAGE = ROOT / "docs" / "vendor.md"
HEADING = "## Your first day"
OFF_LINE = "# off line"


def road() -> list[str]:
    """Return the commands that the vendor's page lists for the first release."""
    section = PAGE.read_text("utf-8").partition(HEADING)[2].partition("\n## ")[0]
    return [line.strip() for line in section.splitlines() if line.startswith("    blockota ")]


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Yield a free port, and stop a chain that was started at this port in the folder ``desk``."""
    free = free_port()
    yield free
    LocalChain(tmp_path / "desk" / ".blockota", free).stop()


def test_the_first_release_takes_nine_commands(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands for a first release succeed; only a pack goes to the owner at home, and only a signature returns."""
    desk, home = tmp_path / "desk", tmp_path / "home"
    desk.mkdir()
    home.mkdir()
    shutil.copy(OLD, desk / "app.bin")

    commands = road()
    for command in commands:
        words = shlex.split(command, comments=True)[1:]
        if command.endswith(OFF_LINE):
            # Once for this machine: the addresses of the vendor's contracts. Its node cannot be reached.
            (home / "blockota.toml").write_text((desk / "blockota.toml").read_text().replace(f":{port}", ":9"))
            [pack] = [word for word in words if word.endswith(".pack")]
            shutil.copy(desk / pack, home)
            monkeypatch.chdir(home)
            assert run([*words, "--yes"]) == 0, command  # the owner's answer on a terminal
            for signature in home.glob("*.signature.json"):
                shutil.move(signature, desk)
        else:
            monkeypatch.chdir(desk)
            assert run([*words, "--port", str(port)] if words == ["dev", "up"] else words) == 0, command

    assert len(commands) <= 9
    assert run(["release", "show", "--product", "acme-fan", "--version", "1.0.0"]) == 0
    assert {path.suffix for path in home.iterdir()} == {".toml", ".pack"}


def test_a_pack_is_reviewed_and_signed_without_a_network(workshop: Workshop) -> None:
    """The owner at home sees the image, the notes and the changes. The folder gets one new file."""
    workshop.after(publish_first)
    Path("notes.txt").write_text("Fewer wake-ups.")
    file = propose(workshop, NEW, "1.1.0", "--notes", "notes.txt")
    packed = ok(workshop.run("proposal", "pack", str(file), "--json")).json
    assert (packed["images"], packed["previousImages"], packed["missing"]) == (1, 1, [])
    home = at_home(workshop, Path(packed["pack"]))
    before = set(home.iterdir())
    done = ok(without_network(home, "proposal", "sign", "1.1.0.pack", "--key", "dev:1", "--yes"))
    for words in ("hashed here from 1.1.0.pack", "Fewer wake-ups.", "1.0.0: 584 → 620 bytes", "chain view"):
        assert words in done.out
    (signature,) = set(home.iterdir()) - before
    shutil.copy(signature, ".")
    ok(decide(workshop, file, "dev:2"))
    assert str(workshop.contract.latest("acme-thermo2").version) == "1.1.0"  # type: ignore[union-attr]


def test_packs_are_signed_in_one_visit(workshop: Workshop) -> None:
    """Off line, an owner can sign the second of two proposals if the first pack is in the same folder."""
    for image, version in ((OLD, "1.0.0"), (NEW, "1.1.0")):
        file = propose(workshop, image, version)
        packed = ok(workshop.run("proposal", "pack", str(file)))
    assert "first: 1.0.0.json. Pack and send" in packed.err
    home = at_home(workshop, Path("1.0.0.pack"), Path("1.1.0.pack"))
    with chdir(home):
        shown = ok(workshop.run("proposal", "show", "1.1.0.pack"))
        assert "2, after 1.0.0.pack; the Safe's next nonce is 1" in shown.out
        assert shown.err.endswith("Next: `blockota proposal sign 1.1.0.pack --key KEY`\n")
        Path("1.0.0.pack").unlink()
        refused(workshop.run("proposal", "sign", "1.1.0.pack", "--key", "dev:1", "--yes"), REFUSED, "red flags")


def test_mistakes_with_packs_are_answered(workshop: Workshop) -> None:
    """For each mistake with a pack, the error has a remedy, and nothing is written."""
    file = propose(workshop, OLD, "1.0.0")
    ok(workshop.run("proposal", "pack", str(file)))
    for words in (("execute", "1.0.0.pack", "--key", "dev:0"), ("simulate", "1.0.0.pack"), ("pack", "1.0.0.pack")):
        refused(workshop.run("proposal", *words), USAGE, "1.0.0.pack is a pack")
    refused(workshop.run("proposal", "pack", str(file), "-o", str(file)), USAGE, "already exists")

    raw = Path("1.0.0.pack").read_bytes()
    place = raw.index(OLD.read_bytes())
    for content in (raw[:-10], raw[:place] + b"\xff" + raw[place + 1 :]):
        Path("bad.pack").write_bytes(content)
        for verb in (("show",), ("sign", "--key", "dev:1")):
            refused(workshop.run("proposal", *verb, "bad.pack"), REFUSED, "bad.pack", "`blockota proposal pack FILE`")
    Path("other.pack").write_bytes(b"PK\x03\x04" + bytes(100))
    refused(workshop.run("proposal", "sign", "other.pack", "--key", "dev:1"), REFUSED, "other.pack")
    (workshop.folder / "blockota.toml").write_text(f'[networks.local]\ncontract = "0x{"1" * 40}"\n')
    refused(workshop.run("proposal", "sign", "1.0.0.pack", "--key", "dev:1"), REFUSED, "of another contract")
    assert not list(Path().glob("*.signature.json"))
