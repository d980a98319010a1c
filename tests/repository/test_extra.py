"""``repository serve`` when the server's packages are not installed."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.conftest import ROOT

SERVER = ("h11",)


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Return a folder with all installed packages except the server, BlockOTA itself and its location."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(SERVER) and entry.suffix != ".pth" and "blockota" not in entry.name:
            (folder / entry.name).symlink_to(entry)
    return folder


def serve(*folders: Path) -> str:
    """Return the output of the command with packages from these folders."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))}
    command = [sys.executable, "-S", "-m", "blockota", "repository", "serve", "."]
    done = subprocess.run(command, cwd=folders[0], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


def test_in_a_clone_the_clone_is_installed_once_more(packages: Path) -> None:
    """In a clone the remedy installs the clone, since a package index may not have BlockOTA."""
    told = serve(packages, ROOT)
    assert "h11 is not installed" in told
    assert f"{sys.executable} -m pip install -e '{ROOT}[repository]'" in told


def test_beside_a_wheel_the_packages_are_named(packages: Path) -> None:
    """For an installed wheel the remedy lists the packages and versions from its metadata."""
    installed = importlib.metadata.distribution("blockota").read_text("METADATA") or ""
    (packages / "blockota").symlink_to(ROOT / "blockota")
    facts = packages / f"blockota-{importlib.metadata.version('blockota')}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(installed)
    told = serve(packages)
    wanted = [line.split()[1].rstrip(";") for line in installed.splitlines() if "extra == 'repository'" in line]
    assert {word.partition("==")[0] for word in wanted} == set(SERVER)
    assert f"{sys.executable} -m pip install {' '.join(wanted)}`" in told
    assert "blockota[" not in told
