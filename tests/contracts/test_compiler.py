"""Tests of the compiler's installer, and of the launcher that runs npm's solc with the native command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CLONE = Path(__file__).resolve().parents[2]
NAME = "solc-v0.8.28"
SOURCE = 'pragma solidity 0.8.28; import "lib/B.sol"; contract A is B {}'


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the launcher of npm's solc, installed without network access."""
    folder = tmp_path_factory.mktemp("compilers")
    install(folder)
    return folder / NAME


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Return a folder with a contract that imports another contract."""
    (tmp_path / "sources" / "lib").mkdir(parents=True)
    (tmp_path / "sources" / "A.sol").write_text(SOURCE)
    (tmp_path / "sources" / "lib" / "B.sol").write_text("pragma solidity 0.8.28; contract B {}")
    return tmp_path / "sources"


def install(compilers: Path, *, clone: Path = CLONE) -> subprocess.CompletedProcess[str]:
    """Run the installer of the repository `clone` without network access; it installs the compiler into `compilers`."""
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment = os.environ | proxies | {"SOLCX_BINARY_PATH": str(compilers)}
    command = [sys.executable, "scripts/install_compiler.py"]
    return subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)


def standard_json(launcher: Path, *options: str | Path, folder: Path) -> dict[str, Any]:
    """Compile contract A through the standard JSON interface, as Ape and Foundry do."""
    selection = {"*": {"*": ["abi"]}}
    job = {
        "language": "Solidity",
        "sources": {"A.sol": {"content": SOURCE}},
        "settings": {"outputSelection": selection},
    }
    command = [launcher, *options, "--standard-json"]
    done = subprocess.run(command, cwd=folder, input=json.dumps(job), capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_what_does_not_work_should_be_replaced_by_the_launcher(tmp_path: Path) -> None:
    """A compiler file that does not run is replaced by the launcher, which prints its version like native solc."""
    (tmp_path / NAME).write_bytes(b"\x7fELF")
    (tmp_path / NAME).chmod(0o755)
    done = install(tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"Installed solc 0.8.28 as {tmp_path / NAME}.\n"
    answer = subprocess.run([tmp_path / NAME, "--version"], capture_output=True, text=True, check=True)
    assert "Version: 0.8.28+commit.7893614a" in answer.stdout
    assert list(tmp_path.iterdir()) == [tmp_path / NAME]


def test_what_works_should_be_kept(tmp_path: Path) -> None:
    """A compiler that works is not replaced, and the installer prints nothing."""
    native = "#!/bin/sh\necho 'Version: 0.8.28+commit.7893614a.Linux.g++'\n"
    (tmp_path / NAME).write_text(native)
    (tmp_path / NAME).chmod(0o755)
    done = install(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / NAME).read_text() == native


def test_where_npm_packages_are_missing_it_should_say_so(tmp_path: Path) -> None:
    """Without the npm packages, the installer prints the remedy, and leaves no partly installed compiler."""
    clone, compilers = tmp_path / "clone", tmp_path / "compilers"
    (clone / "scripts").mkdir(parents=True)
    compilers.mkdir()
    for name in ("scripts/install_compiler.py", "ape-config.yaml"):
        shutil.copy(CLONE / name, clone / name)
    done = install(compilers, clone=clone)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "Run `npm ci` first." in done.stderr
    assert list(compilers.iterdir()) == []


def test_imports_should_be_found_below_the_base_path(launcher: Path, sources: Path) -> None:
    """The launcher finds imports in the folder that `--base-path` names, and prints only JSON on stdout."""
    answer = standard_json(launcher, "--base-path", sources, folder=CLONE)
    assert all(error["severity"] != "error" for error in answer.get("errors", []))
    assert "lib/B.sol" in answer["contracts"]


def test_imports_should_be_found_on_an_include_path(launcher: Path, sources: Path, tmp_path: Path) -> None:
    """The launcher finds imports in the folder that `--include-path` names."""
    base = tmp_path / "elsewhere"
    base.mkdir()
    answer = standard_json(launcher, f"--base-path={base}", "--include-path", sources, folder=CLONE)
    assert "lib/B.sol" in answer["contracts"]


@pytest.mark.parametrize("allowed", [False, True])
def test_imports_outside_of_the_allowed_folders_should_be_refused(
    launcher: Path, sources: Path, tmp_path: Path, *, allowed: bool
) -> None:
    """An import through a symbolic link is compiled only if `--allow-paths` contains the link's target."""
    outside = tmp_path / "outside"
    (sources / "lib").rename(outside)
    (sources / "lib").symlink_to(outside)
    options = ["--allow-paths", str(outside)] if allowed else []
    answer = standard_json(launcher, "--base-path", sources, *options, folder=CLONE)
    refused = "File outside of allowed directories." in json.dumps(answer.get("errors", []))
    assert refused is not allowed


def test_it_should_serve_a_clone_that_did_not_install_it(launcher: Path, sources: Path, tmp_path: Path) -> None:
    """The launcher runs npm's solc from the working folder, even if the clone that installed it was deleted."""
    orphan = tmp_path / NAME
    orphan.write_text(launcher.read_text().replace(json.dumps(str(CLONE)), '"/gone"'))
    orphan.chmod(0o755)
    (sources / "node_modules").symlink_to(CLONE / "node_modules")
    assert "lib/B.sol" in standard_json(orphan, "--base-path", ".", folder=sources)["contracts"]


def test_where_no_clone_has_the_npm_packages_it_should_say_so(launcher: Path, tmp_path: Path) -> None:
    """If npm's solc is missing, the launcher prints an error on stderr and exits with status 1."""
    orphan = tmp_path / NAME
    orphan.write_text(launcher.read_text().replace(json.dumps(str(CLONE)), '"/gone"'))
    orphan.chmod(0o755)
    command = [str(orphan), "--standard-json"]
    done = subprocess.run(command, cwd=tmp_path, input="{}", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "npm's solc 0.8.28 is missing" in done.stderr


def test_combined_json_should_give_slither_what_it_reads(launcher: Path, sources: Path) -> None:
    """The launcher's combined JSON contains the bytecode, the syntax tree and the list of sources."""
    command = [str(launcher), "--combined-json", "abi,ast,bin,srcmap", "--base-path", ".", "A.sol"]
    done = subprocess.run(command, cwd=sources, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert set(answer["contracts"]["A.sol:A"]) == {"abi", "bin", "srcmap"}
    assert sorted(answer["sourceList"]) == ["A.sol", "lib/B.sol"]
    assert answer["sources"]["A.sol"]["AST"]["nodeType"] == "SourceUnit"


def test_an_unknown_option_should_fail(launcher: Path) -> None:
    """The launcher refuses an unknown option instead of ignoring it."""
    done = subprocess.run([launcher, "--gas"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Unknown option --gas" in done.stderr
