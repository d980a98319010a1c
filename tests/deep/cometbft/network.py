"""A real network with finality: four validators of CometBFT that run the EVM (cosmos/evm), on loopback.

More than two thirds of the validators must run; a block is final when it is made.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blockota.chain.local import free_port
from blockota.keys import dev_account
from tests.support.consortium import Node
from tests.support.waiting import eventually

CHAIN = "cosmos_262144-1"
CHAIN_ID = 262144
"""The EIP-155 number in the chain's name."""
VALIDATORS = 4
COIN = "atest"
STAKE, FUNDS = 10**21, 10**24
GAS_LIMIT = 30_000_000
FIRST_BLOCKS = 2
KEYRING = ("--keyring-backend", "test")


class Validator(Node):
    """One node; its API answers after the first block."""

    @property
    def genesis(self) -> Path:
        """Its genesis file."""
        return self.folder / "config" / "genesis.json"

    def run(self, *words: str) -> str:
        """Run a command in its home; returns the last line that it prints."""
        command = [str(self.program), *words, "--home", str(self.folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().rpartition("\n")[2]

    def prepare(self) -> None:
        """Make its home and its key."""
        self.run("config", "set", "client", "chain-id", CHAIN)  # before `init`, which otherwise uses another coin
        self.run("keys", "add", "val", "--algo", "eth_secp256k1", *KEYRING)
        self.run("init", self.folder.name, "--chain-id", CHAIN)

    def configure(self, peers: list[str]) -> None:
        """Write the settings of a network on one machine, with a block a second."""
        path = self.folder / "config" / "config.toml"
        text = path.read_text()
        changes = {
            "persistent_peers": f'"{",".join(peers)}"',
            "addr_book_strict": "false",
            "allow_duplicate_ip": "true",
            "pex": "false",
            "pprof_laddr": '""',
            "timeout_commit": '"1s"',
        }
        for name, value in changes.items():
            text, count = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value}", text)
            assert count == 1, name
        path.write_text(text)

    def start(self) -> None:
        """Start the node."""
        self.launch(
            *("start", "--home", self.folder, "--chain-id", CHAIN),
            *("--p2p.laddr", f"tcp://127.0.0.1:{self.p2p_port}", "--rpc.laddr", f"tcp://127.0.0.1:{free_port()}"),
            *("--grpc.address", f"127.0.0.1:{free_port()}", "--minimum-gas-prices", f"0{COIN}"),
            *("--json-rpc.enable", "--json-rpc.api", "eth,net,web3,txpool"),
            *("--json-rpc.address", f"127.0.0.1:{self.rpc_port}"),
            *("--json-rpc.ws-address", f"127.0.0.1:{free_port()}"),
        )


@contextmanager
def cometbft_network(program: Path, folder: Path) -> Iterator[tuple[Validator, ...]]:
    """Run a fresh network in which the first account of the test mnemonic has coins."""
    validators = tuple(Validator(program, folder / f"validator-{number}") for number in range(VALIDATORS))
    folder.mkdir()
    try:
        prepare(validators)
        for validator in validators:
            validator.start()
        for validator in validators:
            eventually(validator.answers, what=f"an answer of {validator.url}")
        eventually(lambda: validators[0].head >= FIRST_BLOCKS, what="the first blocks")
        yield validators
    finally:
        for validator in validators:
            validator.stop()


def prepare(validators: tuple[Validator, ...]) -> None:
    """Make the homes, and one genesis file in which each validator has the same stake."""
    first = validators[0]
    for validator in validators:
        validator.prepare()
    genesis = json.loads(first.genesis.read_text())
    set_parameters(genesis)
    first.genesis.write_text(json.dumps(genesis))

    # (1) Coins for the validators and for the account that pays.
    payer = dev_account(0).address
    described = subprocess.run([first.program, "debug", "addr", payer[2:]], capture_output=True, text=True, check=True)
    found = re.search(r"cosmos1[0-9a-z]+", described.stdout + described.stderr)
    assert found, described
    owners = [validator.run("keys", "show", "val", "--address", *KEYRING) for validator in validators]
    for owner in (found[0], *owners):
        first.run("genesis", "add-genesis-account", owner, f"{FUNDS}{COIN}", *KEYRING)

    # (2) Each validator signs its stake.
    for validator in validators:
        if validator is not first:
            shutil.copy(first.genesis, validator.genesis)
        validator.run("genesis", "gentx", "val", f"{STAKE}{COIN}", "--chain-id", CHAIN, *KEYRING)
        if validator is not first:
            for signed in (validator.folder / "config" / "gentx").iterdir():
                shutil.copy(signed, first.folder / "config" / "gentx")
    first.run("genesis", "collect-gentxs")

    # (3) All have the same genesis file, and know each other.
    peers = {one.folder: f"{one.run('comet', 'show-node-id')}@127.0.0.1:{one.p2p_port}" for one in validators}
    for validator in validators:
        if validator is not first:
            shutil.copy(first.genesis, validator.genesis)
        validator.configure([peer for folder, peer in peers.items() if folder != validator.folder])


def set_parameters(genesis: dict[str, Any]) -> None:
    """Use one coin for stakes, deposits and gas, and blocks of the usual size."""
    state = genesis["app_state"]
    state["staking"]["params"]["bond_denom"] = COIN
    state["evm"]["params"]["evm_denom"] = COIN
    state["mint"]["params"]["mint_denom"] = COIN
    for deposit in ("min_deposit", "expedited_min_deposit"):
        state["gov"]["params"][deposit][0]["denom"] = COIN
    state["bank"]["denom_metadata"] = [
        {
            "description": "The coin of the test network.",
            "denom_units": [
                {"denom": COIN, "exponent": 0, "aliases": []},
                {"denom": "test", "exponent": 18, "aliases": []},
            ],
            "base": COIN,
            "display": "test",
            "name": "Test",
            "symbol": "TEST",
            "uri": "",
            "uri_hash": "",
        }
    ]
    genesis["consensus"]["params"]["block"]["max_gas"] = str(GAS_LIMIT)
