"""The commands about Kubo in docs/broker.md are run in order, with a real node."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tests.conftest import IMAGES, ROOT
from tests.peers.kubo.node import Kind, Node, running_node
from tests.stories.conftest import Workshop
from tests.stories.pages import commands, missing

PAGE, START = ROOT / "docs" / "broker.md", "## A Kubo node as the store"
DONE_BY_THE_FIXTURE = ("init", "daemon")
AUTHORIZATIONS = "API.Authorizations"


def test_the_page_shows_what_the_commands_print(workshop: Workshop, kubo: Path, tmp_path: Path) -> None:
    """The commands about Kubo, including those of ``ipfs``, print what docs/broker.md shows."""
    Path("app-1.0.0.bin").write_bytes((IMAGES / "bluepill-1.0.0.bin").read_bytes())
    with running_node(kubo, tmp_path, kind=Kind(profile="unixfs-v1-2025")) as node:
        settings = Path("blockota.toml")
        settings.write_text(f'store = "kubo:{node.api}"\n' + settings.read_text())
        ran = [typed(workshop, node, command=command, lines=lines) for command, lines in commands(PAGE, start=START)]
    assert sum(ran) > 8


def typed(workshop: Workshop, node: Node, *, command: str, lines: list[str]) -> bool:
    """Run a command and compare its output with docs/broker.md; return whether the command was run."""
    program, *words = shlex.split(command)
    if program == "ipfs" and (words[0] in DONE_BY_THE_FIXTURE or AUTHORIZATIONS in words):
        return False
    if program == "ipfs":
        printed = node.ipfs(*words)
    else:
        outcome = workshop.run(*words)
        assert outcome.status == 0, f"$ {command}\n{outcome.err}"
        printed = outcome.out + outcome.err
    assert not missing(lines, printed), f"$ {command}\n{printed}"
    return True


def test_the_authorization_of_the_page_is_enough(workshop: Workshop, kubo: Path, tmp_path: Path) -> None:
    """The authorization in docs/broker.md is sufficient to publish and download an image."""
    words = next(
        words for command, _ in commands(PAGE, start=START) if AUTHORIZATIONS in (words := shlex.split(command))
    )
    config = {AUTHORIZATIONS: json.loads(words[-1])}
    with running_node(kubo, tmp_path, kind=Kind(config=config)) as node, pytest.MonkeyPatch.context() as environment:
        environment.setenv("BLOCKOTA_STORE", f"kubo:{node.api}")
        assert workshop.run("release", "publish", *PUBLISH).status == 5
        environment.setenv("BLOCKOTA_KUBO_AUTHORIZATION", "basic:vendor:SECRET")
        workshop.publish("1.0.0", IMAGES / "bluepill-1.0.0.bin")
        assert workshop.run("release", "fetch", "--product", "acme-thermo2", "-o", "fetched.bin").status == 0
    assert Path("fetched.bin").read_bytes() == (IMAGES / "bluepill-1.0.0.bin").read_bytes()


def test_every_ipfs_command_works_with_the_authorization_of_the_page(
    workshop: Workshop, kubo: Path, tmp_path: Path
) -> None:
    """Every ``ipfs`` command in docs/broker.md works with the secret shown there."""
    Path("app-1.0.0.bin").write_bytes((IMAGES / "bluepill-1.0.0.bin").read_bytes())
    typed = [words[1:] for command, _ in commands(PAGE, start=START) if (words := shlex.split(command))[0] == "ipfs"]
    config = {AUTHORIZATIONS: json.loads(next(words[-1] for words in typed if AUTHORIZATIONS in words))}
    secret = next(words[:2] for words in typed if words[0] == "--api-auth")
    with running_node(kubo, tmp_path, kind=Kind(config=config)) as node, pytest.MonkeyPatch.context() as environment:
        environment.setenv("BLOCKOTA_STORE", f"kubo:{node.api}")
        environment.setenv("BLOCKOTA_KUBO_AUTHORIZATION", "basic:vendor:SECRET")
        workshop.publish("1.0.0", IMAGES / "bluepill-1.0.0.bin")
        address = workshop.run("cid", "app-1.0.0.bin").out.strip()
        written = [words for words in typed if words[0] in {"pin", "add", "dag"}]
        assert len(written) > 2
        for words in (*written, ["id"], ["pin", "rm", address], ["pin", "add", address], ["repo", "gc"]):
            with pytest.raises(RuntimeError, match="Access Denied"):
                node.ipfs(*words)
            node.ipfs(*secret, *words)


PUBLISH = (str(IMAGES / "bluepill-1.0.0.bin"), "--product", "acme-thermo2", "--version", "1.0.0", "-o", "refused.json")
