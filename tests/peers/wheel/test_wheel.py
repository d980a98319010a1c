"""The wheel in an empty environment, without Node and without a clone, runs the programs of docs/library.md."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from firmware_host.simulator import serve_tcp
from tests.conftest import ROOT
from tests.stories.conftest import PRODUCT, Workshop
from tests.stories.technicians import board
from tests.stories.test_library_page import PAGE, copy_images
from tests.support.page_programs import programs


def test_the_wheel_does_everything_on_a_given_node(
    workshop: Workshop, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Every program runs with the installed wheel alone, and the installed command signs as a build server does."""
    folder = tmp_path_factory.mktemp("wheel")
    python = install_wheel(folder)
    copy_images()
    with serve_tcp(board(1)) as port:
        for number, program in enumerate(programs(PAGE), 1):
            file = folder / f"program_{number}.py"
            file.write_text(program.source, "utf-8")
            done = run(workshop, python, "-I", str(file), port)
            assert program.prints(done), f"{program.source}\n{done}"
    Path("next.bin").write_bytes(Path("app-1.1.0.bin").read_bytes() + b"next")
    words = ("release", "publish", "next.bin", "--product", PRODUCT, "--version", "1.2.0", "-o", "1.2.0.json")
    run(workshop, python.with_name("blockota"), *words, "--sign", "dev:1")
    assert list(workshop.folder.glob("1.2.0.0x*.signature.json"))


def install_wheel(folder: Path) -> Path:
    """Build the wheel, install it with its pinned dependencies into an empty environment, and return its Python."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(folder), str(ROOT)], check=True, capture_output=True)
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    install = [*pip, "--python", str(python), "install"]
    subprocess.run([*install, "--require-hashes", "-r", str(ROOT / "requirements.lock")], check=True)
    subprocess.run([*install, "--no-deps", str(next(folder.glob("*.whl")))], check=True)
    return python


def run(workshop: Workshop, *words: str | Path) -> str:
    """Run a program in the workshop with nothing on PATH, and return its output."""
    environment = {"HOME": str(workshop.folder), "PATH": "/nonexistent", "USER": "ada"}
    done = subprocess.run(
        list(map(str, words)), cwd=workshop.folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
