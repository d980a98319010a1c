"""The local development chain, and the deployment by Ape."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from blockota.chain.local import LocalChain, free_port
from blockota.cli.main import run
from blockota.deployment import LOCAL_CHAIN_ID, Deployment
from blockota.settings import load_settings
from tests.conftest import IMAGES, ROOT
from tests.support import forks
from tests.support.terminal import Terminal
from tests.support.waiting import eventually

IMAGE = str(IMAGES / "bluepill-1.0.0.bin")


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield a free port in an empty working folder; the chain started there is stopped afterwards."""
    monkeypatch.chdir(tmp_path)
    free = free_port()
    yield str(free)
    LocalChain(Path(".blockota"), free).stop()


def test_up_prepares_everything_and_down_keeps_it(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A chain started by ``dev up`` accepts a release, and keeps the release across ``dev down`` and ``dev up``."""
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
    """A second ``dev up`` finds the running chain and the contracts, and changes nothing."""
    assert run(["dev", "up", "--port", port, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert run(["dev", "up", "--port", port, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == first


def test_status_reports_what_runs(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    """``dev status`` reports whether the local chain is running."""
    assert run(["dev", "status", "--port", port, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"running": False}
    assert run(["dev", "up", "--port", port]) == 0
    capsys.readouterr()
    assert run(["dev", "status", "--port", port, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["running"] is True


def test_a_port_in_use_is_reported(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    """``dev up`` fails if another program listens on the port."""
    with socket.create_server(("127.0.0.1", int(port))):
        assert run(["dev", "up", "--port", port]) == 5
    assert f"port {port} is in use" in capsys.readouterr().err


def test_a_chain_is_stopped_if_it_cannot_be_set_up(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    """If a deployment cannot be read, ``dev up`` stops the chain that it started."""
    file = Deployment.path(Path(), LOCAL_CHAIN_ID)
    file.parent.mkdir()
    file.write_text("{")
    assert run(["dev", "up", "--port", port]) != 0
    assert str(file) in capsys.readouterr().err
    assert LocalChain(Path(".blockota"), int(port)).pid is None


def test_settings_for_this_chain_are_kept_without_a_word(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    """``dev up`` does not change settings that select its chain.

    If the settings name a contract of another chain, ``dev up`` prints a warning.
    """
    mine = f'[networks.local]\nurl = "http://localhost:{port}/"\n'
    Path("blockota.toml").write_text(mine)
    assert run(["dev", "up", "--port", port]) == 0
    assert Path("blockota.toml").read_text() == mine
    assert "blockota.toml" not in capsys.readouterr().err

    Path("blockota.toml").write_text(f'{mine}contract = "0x{"11" * 20}"\n')
    assert run(["dev", "up"]) == 0
    printed = capsys.readouterr().err
    assert "names another contract than this chain has" in printed
    assert printed.count("names another") == 1


def test_settings_for_another_chain_are_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    """If the settings name another chain, ``dev up`` starts nothing.

    The error hides the secret in the node's URL.
    """
    Path("blockota.toml").write_text(
        'network = "main"\n[networks.main]\nurl = "https://node.example/v3/secretkey"\nchain_id = 1\n'
    )
    assert run(["dev", "up", "--port", port]) == 3
    printed = capsys.readouterr().err
    assert "the URL https://node.example/… and the chain id 1" in printed
    assert "in an empty folder." in printed
    assert "secretkey" not in printed

    Path("blockota.toml").write_text('[networks.local]\nurl = "http://localhost:99999"\n')
    assert run(["dev", "up", "--port", port]) == 3
    assert "on the port that the file names (--port NUMBER)" in capsys.readouterr().err
    assert not Path(".blockota").exists()


def test_the_local_chain_is_offered_only_where_it_was_started(
    port: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If there are no settings, the error asks for the vendor's settings file.

    If the local chain was not started in this folder, the error suggests checking the connection. Otherwise, the error
    suggests ``dev up``.
    """
    assert run(["release", "list"]) == 2
    printed = capsys.readouterr().err
    assert "there is no blockota.toml in this folder" in printed
    assert "Copy the vendor's blockota.toml to this folder, or name its path (--config FILE)" in printed
    monkeypatch.setenv("BLOCKOTA_URL", f"http://127.0.0.1:{port}")
    assert run(["release", "list"]) == 2
    assert "Copy the vendor's blockota.toml" in capsys.readouterr().err
    monkeypatch.setenv("BLOCKOTA_CONTRACT", f"0x{'11' * 20}")
    assert run(["release", "list"]) == 5
    assert "Check the connection to this host" in capsys.readouterr().err
    monkeypatch.delenv("BLOCKOTA_CONTRACT")
    monkeypatch.delenv("BLOCKOTA_URL")

    Path(".blockota").mkdir()
    Path(".blockota", "anvil.port").write_text(port)
    settings = f'[networks.local]\nurl = "http://127.0.0.1:{port}"\ncontract = "0x{"11" * 20}"\n'
    Path("blockota.toml").write_text(settings)
    assert run(["release", "list"]) == 5
    assert f"Start the local chain in {Path.cwd()} (`blockota dev up`)" in capsys.readouterr().err

    Path("blockota.toml").write_text(settings.replace(port, str(free_port())))
    assert run(["release", "list"]) == 5
    printed = capsys.readouterr().err
    assert "does not answer" in printed
    assert "Check the connection to this host" in printed
    assert "dev up" not in printed


def test_a_killed_chain_comes_back_with_what_it_had_saved(port: str) -> None:
    """After the local chain was killed, ``dev up`` restores its last saved state."""
    assert run(["dev", "up", "--port", port]) == 0
    chain = LocalChain(Path(".blockota"), int(port))
    state = chain.folder / "chain.json"
    state.unlink(missing_ok=True)  # this state may be older than the deployment; anvil writes a new one
    eventually(lambda: is_json(state), what="a saved state")
    pid = chain.pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert run(["dev", "up", "--port", port]) == 0
    assert run(["product", "show", "acme-thermo2"]) == 0


def is_json(path: Path) -> bool:
    """Return whether a file exists and contains complete JSON."""
    try:
        json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return True


def test_ape_deploys_what_the_commands_use(port: str) -> None:
    """After ``ape run deploy``, the commands find the contract through the settings that it wrote."""
    chain = LocalChain(Path(".blockota"), int(port))
    chain.start()
    words = ["run", "deploy", "--network", f"ethereum:local:{chain.url}", "--folder", str(Path.cwd())]
    done = forks.run([forks.APE, *words], folder=ROOT)
    assert done.returncode == 0, done.stderr
    deployed = json.loads(Path("deployments/1337.json").read_text())
    settings = load_settings(None, network=None, environment={})
    assert (settings.url, settings.contract, settings.safe) == (chain.url, deployed["contract"], deployed["safe"])
    assert run(["product", "list"]) == 0


def test_the_demonstration_succeeds(tmp_path: Path) -> None:
    """``blockota demo`` ends with status 0 after at most 60 lines, shows two refusals, and leaves no file behind."""
    shown = Terminal(ROOT, environment={"TERM": "xterm-256color", "TMPDIR": str(tmp_path)}).run("demo")
    assert shown.status == 0, shown.text
    assert shown.text.count("\n$ blockota") == 13
    assert shown.text.count("(exit status 3)") == 2
    assert len(shown.text.splitlines()) <= 60
    assert list(tmp_path.iterdir()) == []
