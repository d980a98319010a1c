"""The local development chain, and the deployment by Ape."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from blockota.chain.local import LocalChain, free_port
from blockota.cli.main import run
from tests.conftest import IMAGES, ROOT
from tests.support.waiting import eventually

IMAGE = str(IMAGES / "bluepill-1.0.0.bin")


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty working folder and a free port; a chain started there is stopped afterwards."""
    monkeypatch.chdir(tmp_path)
    free = free_port()
    yield str(free)
    LocalChain(Path(".blockota"), free).stop()


def test_up_prepares_everything_and_down_keeps_it(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    """After up, a release can be proposed and executed; after down and up it is still there."""
    assert run(["dev", "up", "--port", port]) == 0
    words = ["--product", "acme-thermo2", "--version", "1.0.0", "-o", "r.json"]
    assert run(["release", "publish", IMAGE, *words]) == 0
    for owner in ("dev:1", "dev:2"):
        assert run(["proposal", "sign", "r.json", "--key", owner, "--yes"]) == 0
    assert run(["proposal", "execute", "r.json", "--key", "dev:0"]) == 0
    assert run(["dev", "down", "--port", port]) == 0
    assert run(["release", "list"]) == 5
    assert run(["dev", "up", "--port", port]) == 0
    capsys.readouterr()
    assert run(["release", "list", "--json"]) == 0
    releases = json.loads(capsys.readouterr().out)["releases"]
    assert [release["version"] for release in releases] == ["1.0.0"]


def test_up_twice_changes_nothing(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A second up finds the chain and the contract."""
    assert run(["dev", "up", "--port", port, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert run(["dev", "up", "--port", port, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == first


def test_status_reports_what_runs(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Status reports whether the chain is running."""
    assert run(["dev", "status", "--port", port, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"running": False}
    assert run(["dev", "up", "--port", port]) == 0
    capsys.readouterr()
    assert run(["dev", "status", "--port", port, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["running"] is True


def test_a_port_in_use_is_reported(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    """If another program listens on the port, up fails and starts nothing."""
    with socket.create_server(("127.0.0.1", int(port))):
        assert run(["dev", "up", "--port", port]) == 5
    assert f"port {port} is in use" in capsys.readouterr().err


def test_existing_settings_are_not_overwritten(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An existing blockota.toml is not changed, and a note reports this."""
    Path("blockota.toml").write_text("# mine\n")
    assert run(["dev", "up", "--port", port]) == 0
    assert Path("blockota.toml").read_text() == "# mine\n"
    assert "was not changed" in capsys.readouterr().err


def test_a_killed_chain_comes_back_with_what_it_had_saved(port: str) -> None:
    """After SIGKILL, up restores the last state saved, at most a few seconds old."""
    assert run(["dev", "up", "--port", port]) == 0
    chain = LocalChain(Path(".blockota"), int(port))
    state = chain.folder / "chain.json"
    state.unlink(missing_ok=True)  # it may be from before the deployment; anvil writes the next one
    eventually(lambda: is_json(state), what="a saved state")
    pid = chain.pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert run(["dev", "up", "--port", port]) == 0
    assert run(["product", "show", "acme-thermo2"]) == 0


def is_json(path: Path) -> bool:
    """Whether a file exists and is complete JSON."""
    try:
        json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return True


def test_ape_deploys_what_the_commands_use(port: str) -> None:
    """After ``ape run deploy``, the commands need only the deployment file."""
    chain = LocalChain(Path(".blockota"), int(port))
    chain.start()
    ape = Path(sys.executable).with_name("ape")
    words = ["run", "deploy", "--network", f"ethereum:local:{chain.url}", "--folder", str(Path.cwd())]
    done = subprocess.run([str(ape), *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(Path("deployments/1337.json").read_text())["threshold"] == 2
    Path("blockota.toml").write_text(f'[networks.local]\nurl = "{chain.url}"\n')
    assert run(["product", "list"]) == 0


def test_the_demonstration_succeeds(tmp_path: Path) -> None:
    """``blockota demo`` ends with status 0, shows both refusals, and leaves no file behind."""
    command = [sys.executable, "-m", "blockota", "demo", "--json"]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    statuses = [step["exitStatus"] for step in json.loads(done.stdout)["steps"]]
    assert statuses == [0] * 6 + [0] * 4 + [3, 0, 3]
    assert list(tmp_path.iterdir()) == []
