"""Start a real network with finality on loopback: four CometBFT validators that run the EVM (cosmos/evm).

The network makes blocks while more than two thirds of the validators run; every block is final.
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
"""The EIP-155 chain id, a part of the chain's name."""
VALIDATORS = 4
COIN = "atest"
STAKE, FUNDS = 10**21, 10**24
GAS_LIMIT = 30_000_000
FIRST_BLOCKS = 2
KEYRING = ("--keyring-backend", "test")


class Validator(Node):
    """A validator node, whose JSON-RPC API responds after the first block."""

    @property
    def genesis(self) -> Path:
        """The validator's genesis file."""
        return self.folder / "config" / "genesis.json"

    def run(self, *words: str) -> str:
        """Run an evmd command in the validator's home folder; return the last line of its output."""
        command = [str(self.program), *words, "--home", str(self.folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().rpartition("\n")[2]

    def prepare(self) -> None:
        """Create the validator's home folder and key."""
        self.run("config", "set", "client", "chain-id", CHAIN)  # before `init`, which otherwise uses another coin
        self.run("keys", "add", "val", "--algo", "eth_secp256k1", *KEYRING)
        self.run("init", self.folder.name, "--chain-id", CHAIN)

    def configure(self, peers: list[str]) -> None:
        """Write the settings for a network that runs on one machine and makes one block per second."""
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
    """Run a new network in which the first account of the test mnemonic has coins; yield its validators."""
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
    """Create the validators' home folders, and one genesis file with the same stake for each validator."""
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

    # (2) Each validator signs a transaction that stakes its coins.
    for validator in validators:
        if validator is not first:
            shutil.copy(first.genesis, validator.genesis)
        validator.run("genesis", "gentx", "val", f"{STAKE}{COIN}", "--chain-id", CHAIN, *KEYRING)
        if validator is not first:
            for signed in (validator.folder / "config" / "gentx").iterdir():
                shutil.copy(signed, first.folder / "config" / "gentx")
    first.run("genesis", "collect-gentxs")

    # (3) All validators get the same genesis file and the addresses of the others.
    peers = {one.folder: f"{one.run('comet', 'show-node-id')}@127.0.0.1:{one.p2p_port}" for one in validators}
    for validator in validators:
        if validator is not first:
            shutil.copy(first.genesis, validator.genesis)
        validator.configure([peer for folder, peer in peers.items() if folder != validator.folder])


def set_parameters(genesis: dict[str, Any]) -> None:
    """Set one coin for stakes, deposits and gas, and a gas limit of 30 million for each block."""
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
