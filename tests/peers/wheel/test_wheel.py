"""The wheel runs the programs of docs/library.md in an empty environment, without Node and without a clone."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from firmware_host.simulator import serve_tcp
from tests.conftest import ROOT
from tests.stories.conftest import PRODUCT, Workshop
from tests.stories.technicians import board
from tests.stories.test_library_page import PAGE, copy_images
from tests.support.page_programs import PageProgram, programs


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into an empty environment, and return its Python."""
    return install_wheel(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_does_everything_on_a_given_node(workshop: Workshop, python: Path) -> None:
    """Every program runs with only the installed wheel.

    The installed command signs with the key of the option ``--sign``, as a build server does.
    """
    copy_images()
    with serve_tcp(board(1)) as port:
        for file, program in write_programs(workshop.folder):
            done = run(workshop, python, "-I", file, port)
            assert program.prints(done), f"{program.source}\n{done}"
    Path("next.bin").write_bytes(Path("app-1.1.0.bin").read_bytes() + b"next")
    words = ("release", "publish", "next.bin", "--product", PRODUCT, "--version", "1.2.0", "-o", "1.2.0.json")
    run(workshop, python.with_name("blockota"), *words, "--sign", "dev:1")
    assert list(workshop.folder.glob("1.2.0.0x*.signature.json"))


def test_the_programs_pass_a_strict_type_checker(python: Path, tmp_path: Path) -> None:
    """The installed package has type hints for everything that the programs use. It refuses an unknown name."""
    files = [file.name for file, _ in write_programs(tmp_path)]
    (tmp_path / "wrong.py").write_text("import blockota\n\nblockota.Netwrok\n")
    mypy = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--python-executable", str(python)]
    done = subprocess.run([*mypy, *files], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    done = subprocess.run([*mypy, "wrong.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert 'Module has no attribute "Netwrok"' in done.stdout


def test_the_wheel_needs_no_compiler(tmp_path: Path) -> None:
    """The wheel contains the contracts' artifacts, the flash hashing program, and the type markers."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    wheel = next(tmp_path.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        artifact = json.loads(archive.read("blockota/artifacts/BlockOTA.json"))
    assert artifact["bytecode"].startswith("0x")
    data = ("chips.toml", "simulator/families.toml", "flashing/stub/stub_v7m.bin", "flashing/stub/stub_v6m.bin")
    assert {"blockota/py.typed", "firmware_host/py.typed", *(f"firmware_host/{name}" for name in data)} <= names
    assert {f"blockota/clear-signing/calldata-{name}.json" for name in ("BlockOTA", "FirmwareReplication")} <= names
    assert not [name for name in names if name.startswith(("tests/", "contracts/"))]


def write_programs(folder: Path) -> list[tuple[Path, PageProgram]]:
    """Write the programs of the page to files, as a user copies them."""
    files = []
    for number, program in enumerate(programs(PAGE), 1):
        file = folder / f"program_{number}.py"
        file.write_text(program.source, "utf-8")
        files.append((file, program))
    return files


def install_wheel(folder: Path) -> Path:
    """Build the wheel, install it with its pinned dependencies into an empty environment, and return its Python."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(folder), str(ROOT)], check=True, capture_output=True)
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    install = [*pip, "--python", str(python), "install"]
    subprocess.run([*install, "--require-hashes", "-r", str(ROOT / "requirements.lock")], check=True)
    subprocess.run([*install, "--no-deps", str(next(folder.glob("*.whl")))], check=True)
    subprocess.run([*pip, "--python", str(python), "check"], check=True)  # the wheel names what the lock file installs
    return python


def run(workshop: Workshop, *words: str | Path) -> str:
    """Run a program in the workshop with nothing on PATH, and return its output."""
    environment = {"HOME": str(workshop.folder), "PATH": "/nonexistent", "USER": "ada"}
    done = subprocess.run(
        list(map(str, words)), cwd=workshop.folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
