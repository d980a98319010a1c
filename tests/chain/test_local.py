"""Tests of the local chain: start, stop, saved state, and errors."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from blockota.chain import Chain
from blockota.chain.local import LocalChain, find_anvil, free_port, project_folders
from blockota.deployment import LOCAL_CHAIN_ID
from blockota.errors import ChainError, UsageError
from tests.conftest import ROOT, Cast
from tests.support.networks import rpc
from tests.support.samples import SAFE
from tests.support.waiting import eventually


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalChain]:
    """Return a local chain that was not started yet; after the test, the chain is stopped."""
    chain = LocalChain(tmp_path / "deep" / "folder", free_port())
    yield chain
    chain.stop()


def balance(chain: Chain, address: str) -> int:
    """Return an account's balance in wei."""
    return int(rpc(chain, "eth_getBalance", address, "latest"), 16)


def test_a_chain_keeps_its_state(local: LocalChain, cast: Cast) -> None:
    """After a restart the chain continues with the same block and balances."""
    chain = local.start()
    rpc(chain, "anvil_setBalance", SAFE, hex(12345))
    block = chain.send(cast.payer, b"", to=SAFE).block_number
    assert local.stop()
    assert local.pid is None
    again = local.start()
    assert (again.chain_id, again.head().number, balance(again, SAFE)) == (LOCAL_CHAIN_ID, block, 12345)


def test_an_idle_chain_makes_a_block_when_it_is_started(local: LocalChain, monkeypatch: pytest.MonkeyPatch) -> None:
    """`start` mines a block if the newest block is old, so that a new chain view does not count as outdated."""
    before = local.start().head()
    assert local.start().head() == before
    monkeypatch.setattr("blockota.chain.local._IDLE", -1)
    assert local.start().head().number == before.number + 1


def test_starting_and_stopping_twice_does_nothing(local: LocalChain) -> None:
    """Starting a running chain, and stopping a stopped chain, have no effect."""
    assert not local.stop()
    local.start()
    process = local.pid
    local.start()
    assert local.pid == process is not None
    assert local.stop()
    assert not local.stop()


def test_a_port_in_use_is_reported(local: LocalChain) -> None:
    """If another program uses the port, an error is raised and the chain's folder is not created."""
    with socket.create_server(("127.0.0.1", local.port)):
        with pytest.raises(ChainError, match=rf"port {local.port} is in use: .*choose another port"):
            local.start()
        assert not local.folder.exists()


def test_a_port_that_anvil_cannot_bind_is_reported(local: LocalChain) -> None:
    """If anvil cannot bind the port, the error contains anvil's message."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", local.port))
        with pytest.raises(ChainError, match=r"anvil did not start: .*(in use|os error 98)"):
            local.start()
    assert local.pid is None


def test_a_damaged_state_is_reported_and_the_previous_one_restored(local: LocalChain) -> None:
    """The error for a damaged state names the file with the previous state, and this file restores the chain."""
    chain = local.start()
    rpc(chain, "anvil_setBalance", SAFE, hex(7))
    local.stop()
    local.start()
    local.stop()
    (local.folder / "chain.json").write_text('{"block": ')
    with pytest.raises(ChainError, match=r"anvil did not start: .*chain\.previous\.json"):
        local.start()
    (local.folder / "chain.json").write_bytes((local.folder / "chain.previous.json").read_bytes())
    assert balance(local.start(), SAFE) == 7


def test_a_killed_chain_is_started_again(local: LocalChain) -> None:
    """A killed chain starts again, although the file with its process id still exists."""
    local.start()
    process = local.pid
    assert process is not None
    os.kill(process, signal.SIGKILL)
    eventually(lambda: local.pid is None, what="the end of the process")
    local.start()
    assert local.pid not in (None, process)


@pytest.mark.parametrize(
    "text",
    ["", "no number", "0", "-5", str(2**40), str(os.getpid())],
    ids=["empty", "word", "zero", "negative", "huge", "ours"],
)
def test_a_process_number_of_something_else_is_not_believed(local: LocalChain, text: str) -> None:
    """If anvil.pid contains an invalid process id, or the id of another program, the chain counts as not running."""
    local.folder.mkdir(parents=True)
    (local.folder / "anvil.pid").write_text(text)
    assert local.pid is None
    assert not local.stop()


def test_a_folder_that_cannot_be_made_is_reported() -> None:
    """If the chain's folder cannot be created, the error contains the folder's path."""
    with pytest.raises(UsageError, match="/proc/blockota cannot be used"):
        LocalChain(Path("/proc/blockota"), free_port()).start()


def test_the_real_binary_is_found() -> None:
    """`find_anvil` returns the program of npm's platform package instead of the wrapper script."""
    assert find_anvil().is_relative_to(ROOT / "node_modules" / "@foundry-rs")
    assert ROOT in project_folders()


def test_a_free_port_is_free() -> None:
    """A server can listen on the port that `free_port` returns."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        pass
    assert port < 32_000, "an operating system may assign it to another program"
