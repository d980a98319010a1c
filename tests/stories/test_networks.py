"""Commands on realistic networks: slow blocks, lost connections and killed processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest

from tests.conftest import Cast
from tests.stories.conftest import Workshop, furnish
from tests.support import forks
from tests.support.networks import Line, fresh_anvil, line_to, rpc
from tests.support.waiting import DEADLINE, eventually

EXECUTE = ("proposal", "execute", "pair.json", "--key", "dev:0")


@pytest.fixture
def field(
    tmp_path: Path, cast: Cast, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[tuple[Workshop, Line]]:
    """Yield a test workshop behind a connection that can be cut, with a signed proposal to execute."""
    monkeypatch.chdir(tmp_path)
    with fresh_anvil() as chain, line_to(chain) as line:
        furnish(tmp_path, chain, cast=cast)
        (tmp_path / "blockota.toml").write_text(f'[networks.local]\nurl = "{line.url}"\nconfirmations = 1\n')
        workshop = Workshop(tmp_path, chain, cast, capsys)
        pair = ("acme-gate", "--oem", "acme", "--chip", "0x410", "--region", "0x08000000:64K")
        for words in (
            ("product", "pair", *pair, "-o", "pair.json"),
            ("proposal", "sign", "pair.json", "--key", "dev:1", "--yes"),
            ("proposal", "sign", "pair.json", "--key", "dev:2", "--yes"),
        ):
            outcome = workshop.run(*words)
            assert outcome.status == 0, outcome.err
        yield workshop, line


def used(workshop: Workshop) -> int:
    """Return the number of the payer's transactions that are in blocks."""
    return workshop.chain.count(workshop.cast.payer.address)


@contextmanager
def mining_when_waited_for(workshop: Workshop, line: Line) -> Iterator[None]:
    """Mine blocks while a command waits for its transaction."""
    line.requests.clear()
    ended = Event()

    def mine() -> None:
        while not ended.wait(0.05):
            if "eth_getTransactionReceipt" in line.requests:
                rpc(workshop.chain, "evm_mine")

    with ThreadPoolExecutor() as pool:
        mined = pool.submit(mine)
        try:
            yield
        finally:
            ended.set()
        mined.result(DEADLINE)


def test_a_line_that_breaks_while_executing(field: tuple[Workshop, Line]) -> None:
    """If the connection breaks during `execute`, the command exits with status 5.

    ``transaction resume`` later completes the same transaction.
    """
    workshop, line = field
    before = used(workshop)
    line.cut_after = "eth_sendRawTransaction"
    broken = workshop.run(*EXECUTE, "--json")
    assert broken.status == 5
    name = broken.json["error"]["what"].split()[2]
    assert f"`blockota transaction resume {name}`" in broken.err
    assert workshop.run("transaction", "list").status == 5
    line.mend()
    (listed,) = workshop.run("transaction", "list", "--json").json["transactions"]
    assert (listed["transaction"], listed["state"]) == (name, "confirming")
    assert listed["command"] == "blockota proposal execute pair.json"
    assert name in workshop.run("transaction", "list").out
    rpc(workshop.chain, "evm_mine")
    resumed = workshop.run("transaction", "resume", name, "--json")
    assert resumed.json["transaction"] == name
    assert workshop.run("transaction", "list").out.strip() == "No transaction is unsettled."
    assert used(workshop) == before + 1
    assert line.requests.count("eth_sendRawTransaction") == 1


def test_the_same_command_goes_on_with_what_a_block_has(field: tuple[Workshop, Line]) -> None:
    """If the connection broke, repeating the command continues the same transaction and sends no second one."""
    workshop, line = field
    before = used(workshop)
    line.cut_after = "eth_sendRawTransaction"
    assert workshop.run(*EXECUTE).status == 5
    line.mend()
    with mining_when_waited_for(workshop, line):
        executed = workshop.run(*EXECUTE)
    assert executed.status == 0, executed.err
    assert used(workshop) == before + 1


def test_a_line_that_breaks_before_sending(field: tuple[Workshop, Line]) -> None:
    """A transaction that the node never received is sent again unchanged when the command is repeated."""
    workshop, line = field
    before = used(workshop)
    line.cut_before = "eth_sendRawTransaction"
    assert workshop.run(*EXECUTE).status == 5
    line.mend()
    (listed,) = workshop.run("transaction", "list", "--json").json["transactions"]
    assert listed["state"] == "lost"
    kept = workshop.run("transaction", "forget", listed["transaction"])
    assert (kept.status, "forgetting it does not cancel it" in kept.err) == (3, True)
    with mining_when_waited_for(workshop, line):
        executed = workshop.run(*EXECUTE, "--json")
    assert executed.status == 0, executed.err
    assert executed.json["transaction"] == listed["transaction"]
    assert used(workshop) == before + 1


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_a_command_that_is_ended_while_it_waits(field: tuple[Workshop, Line], ending: signal.Signals) -> None:
    """A transaction of a killed or interrupted command is completed by repeating the command."""
    workshop, line = field
    before = used(workshop)
    rpc(workshop.chain, "evm_setAutomine", False)  # noqa: FBT003 - the node's own parameter
    with forks.started(["-m", "blockota", *EXECUTE]) as process:
        eventually(lambda: workshop.chain.count(workshop.cast.payer.address, with_pending=True) > before)
        process.send_signal(ending)
        _, errors = process.communicate(timeout=DEADLINE)
    (listed,) = workshop.run("transaction", "list", "--json").json["transactions"]
    assert listed["state"] == "waiting"
    if ending is signal.SIGINT:
        assert process.returncode == 130
        assert f"`blockota transaction resume {listed['transaction']}`" in " ".join(errors.split())
    with mining_when_waited_for(workshop, line):
        executed = workshop.run(*EXECUTE, "--json")
    assert (executed.status, executed.json["transaction"]) == (0, listed["transaction"])
    assert used(workshop) == before + 1


def test_a_ceiling_is_kept(field: tuple[Workshop, Line], monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction above the fee limit is refused with exit status 3 and not recorded."""
    workshop, _ = field
    monkeypatch.setenv("BLOCKOTA_MAX_FEE_GWEI", "0.000000001")
    refused = workshop.run(*EXECUTE)
    assert (refused.status, "the gas price exceeds your limit" in refused.err) == (3, True)
    assert workshop.run("transaction", "list", "--json").json == {"transactions": []}


def test_a_reorganisation_after_executing(field: tuple[Workshop, Line]) -> None:
    """A transaction that a reorganisation removes before its confirmation is included in another block."""
    workshop, _ = field
    before = used(workshop)
    with forks.started(["-m", "blockota", *EXECUTE]) as process:
        eventually(lambda: used(workshop) > before)
        rpc(workshop.chain, "anvil_reorg", 1, [])
        eventually(lambda: used(workshop) > before)
        assert process.poll() is None
        rpc(workshop.chain, "evm_mine")
        process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    assert used(workshop) == before + 1
    assert any(product.name == "acme-gate" for product in workshop.contract.products())
