"""The installers find or build Go programs; a shell script replaces the Go toolchain."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

GO = """case "$1" in
env) echo {version};;
mod) echo '{module}';;
list) echo example.org/a example.org/b;;
build) {build};;
esac
"""
BUILT = 'printf "#!/bin/sh\\\\necho 0.43.1\\\\n" > "$5"; chmod +x "$5"'


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """Return the folder that precedes the system's folders on PATH."""
    (tmp_path / "tools").mkdir()
    return tmp_path / "tools"


def script(path: Path, text: str) -> None:
    """Write an executable shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def install(tools: Path, *options: str, of: str = "kubo") -> subprocess.CompletedProcess[str]:
    """Run an installer, with a cache folder that the test creates."""
    environment = {**os.environ, "PATH": f"{tools}:/usr/bin:/bin", "XDG_CACHE_HOME": str(tools.parent / "cache")}
    command = [sys.executable, "-m", f"scripts.install_{of}", *options]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def go(tools: Path, *, version: str = "go1.26.5", build: str = BUILT, module: str = "") -> None:
    """Put a script that acts as a Go toolchain on PATH."""
    described = module or f'{{"Dir": "{tools}"}}'
    script(tools / "go", GO.format(version=version, module=described, build=build))


def test_one_on_path_is_taken(tools: Path) -> None:
    """If PATH has an ``ipfs`` that is new enough, the installer uses it and builds nothing."""
    script(tools / "ipfs", "echo 0.40.0")
    assert install(tools).stdout == f"{tools / 'ipfs'}\n"


@pytest.mark.parametrize("body", ["echo 0.39.9", "echo something", "exit 1"], ids=range(3))
def test_an_old_one_is_not_taken(tools: Path, body: str) -> None:
    """An ``ipfs`` on PATH that is too old or does not print a version is ignored."""
    script(tools / "ipfs", body)
    found = install(tools, "--find")
    assert (found.returncode, found.stdout) == (1, "")


@pytest.mark.parametrize(
    ("of", "place"),
    [("kubo", "kubo/v0.43.1/ipfs"), ("geth", "geth/v1.13.15/geth"), ("cometbft", "cometbft/evm-0.2.0/evmd")],
)
def test_it_is_built_once(tools: Path, of: str, place: str) -> None:
    """`--find` finds a program that was built before, even without Go."""
    go(tools)
    assert install(tools, "--find", of=of).stdout == ""
    built = install(tools, of=of)
    assert built.returncode == 0, built.stderr
    assert built.stdout == f"{tools.parent}/cache/blockota/{place}\n"
    (tools / "go").unlink()
    assert install(tools, "--find", of=of).stdout == built.stdout


def test_an_old_go_is_named(tools: Path) -> None:
    """The error for an old Go toolchain contains its version and the required version."""
    go(tools, version="go1.26.4")
    refused = install(tools)
    assert refused.returncode == 1
    assert "go1.26.4 is too old: install Go 1.26.5 or newer" in refused.stderr


def test_a_missing_module_is_reported(tools: Path) -> None:
    """If no version of the module can be downloaded, the error lists each version with the reason."""
    go(tools, module='{"Error": "403 Forbidden"}')
    refused = install(tools)
    assert refused.returncode == 1
    assert "0.43.1: 403 Forbidden\n0.43.0: 403 Forbidden" in refused.stderr


def test_the_memory_of_small_machines_is_enough(tools: Path) -> None:
    """The installers compile geth and CometBFT one package at a time, to limit the use of memory."""
    go(tools, build=f'echo "$@" >> {tools}/arguments; {BUILT}')
    assert install(tools, of="geth").returncode == install(tools, of="cometbft").returncode == 0
    assert (tools / "arguments").read_text().count("-p 1 -ldflags=-checklinkname=0") == 2


@pytest.mark.parametrize(
    "build", ["echo undefined: Bitswap >&2; exit 1", 'echo nothing > "$5"'], ids=["fails", "broken"]
)
def test_a_failed_build_leaves_nothing(tools: Path, build: str) -> None:
    """After a failed build, or if the built program does not start, the cache does not contain ``ipfs``."""
    go(tools, build=build)
    refused = install(tools)
    assert refused.returncode == 1
    assert "the build failed" in refused.stderr or "does not start" in refused.stderr
    assert not list((tools.parent / "cache").rglob("ipfs"))
