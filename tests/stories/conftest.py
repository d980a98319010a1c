"""Test workshops: a folder with settings, a local chain with a Safe and the contracts, and simulated boards."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from blockota.approval.proposal import Proposal
from blockota.approval.signature import sign
from blockota.bindings.block_ota import BlockOTAContract
from blockota.bindings.safe import deploy_safe, execute
from blockota.chain import Chain
from blockota.chain.local import LocalChain, free_port
from blockota.cli.main import run
from blockota.model.release import Product, Region
from blockota.vendor.deploy import deploy
from blockota.vendor.propose import Reason, propose
from blockota.vendor.publish import propose_pairing
from firmware_host.simulator import SimulatedBoard, serve_tcp
from tests.conftest import IMAGES, Cast
from tests.support.once import once

PRODUCT = "acme-thermo2"


@dataclass(frozen=True)
class Outcome:
    """The exit status and the output of a command."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The JSON object that the command printed on stdout."""
        fields: dict[str, Any] = json.loads(self.out)
        return fields


@dataclass(frozen=True)
class Workshop:
    """A test workshop: a folder with settings, a chain, and accounts.

    The commands of a workshop run in the process of the test, in the workshop's folder.

    Attributes:
        folder: the working folder.
        chain: the chain of the settings.
        cast: the accounts.
        capture: reads the output of commands.
        templates: a folder with workshops that `after` prepared, shared by all test processes; None disables their
            reuse.
    """

    folder: Path
    chain: Chain
    cast: Cast
    capture: pytest.CaptureFixture[str]
    templates: Path | None = None

    def after(self, prepare: Callable[[Workshop], object]) -> Workshop:
        """Prepare this workshop with a function. The function runs once in a test run; later calls copy its result."""
        if self.templates is None:
            prepare(self)
            return self

        local = LocalChain(self.folder / ".blockota", int(self.chain.url.rpartition(":")[2]))

        def make(template: Path) -> None:
            prepare(self)
            local.stop()  # stopping anvil writes the chain's state
            shutil.copytree(self.folder, template)

        template = once(self.templates / f"{prepare.__module__}.{prepare.__qualname__}", make)
        local.stop()
        shutil.copytree(template, self.folder, dirs_exist_ok=True)
        use_chain(self.folder, self.chain)
        local.start()
        return self

    def run(self, *words: str) -> Outcome:
        """Run one ``blockota`` command, and return its status and output."""
        self.capture.readouterr()
        status = run(list(words))
        printed = self.capture.readouterr()
        return Outcome(status, printed.out, printed.err)

    def publish(self, version: str, image: Path) -> None:
        """Publish a release with the vendor's commands: propose, sign twice, execute."""
        file = f"{version}.json"
        words = ("--product", PRODUCT, "--version", version, "-o", file)
        for command in (
            ("release", "publish", str(image), *words),
            ("proposal", "sign", file, "--key", "dev:1", "--yes"),
            ("proposal", "sign", file, "--key", "dev:2", "--yes"),
            ("proposal", "execute", file, "--key", "dev:0"),
        ):
            outcome = self.run(*command)
            assert outcome.status == 0, outcome.err

    def flash(self, port: str, *options: str) -> Outcome:
        """Run ``blockota flash`` for the test product on a port."""
        return self.run("flash", "--product", PRODUCT, "--port", port, *options)

    @property
    def contract(self) -> BlockOTAContract:
        """The deployed contract."""
        deployed = json.loads((self.folder / "deployments" / "1337.json").read_text())
        return BlockOTAContract(self.chain, deployed["contract"])

    def decide(self, call: bytes) -> None:
        """Sign and execute a call of the Safe directly, without ``blockota`` commands."""
        now = int(time.time())
        execute_signed(propose(self.contract, call, reason=Reason("a story", now, 3600)), self.chain, cast=self.cast)


def publish_first(workshop: Workshop) -> None:
    """Publish release 1.0.0 of the test product."""
    workshop.publish("1.0.0", IMAGES / "bluepill-1.0.0.bin")


def execute_signed(proposal: Proposal, chain: Chain, *, cast: Cast) -> None:
    """Sign a proposal as two owners, and execute it."""
    signatures = [sign(proposal, cast.owner_a), sign(proposal, cast.owner_b)]
    execute(chain, proposal, signatures=signatures, account=cast.payer, now=proposal.created)


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Return the folder of prepared workshops, which all test workers share."""
    folder = tmp_path_factory.getbasetemp()
    return (folder if worker_id == "master" else folder.parent) / "workshops"


@pytest.fixture
def workshop(
    tmp_path: Path, cast: Cast, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], templates: Path
) -> Iterator[Workshop]:
    """Yield a test workshop on its own anvil chain, with one paired product."""
    monkeypatch.chdir(tmp_path)
    with furnished(tmp_path, templates, cast=cast) as chain:
        yield Workshop(tmp_path, chain, cast, capsys, templates)


@contextmanager
def furnished(folder: Path, templates: Path, *, cast: Cast) -> Iterator[Chain]:
    """Make a test workshop in a folder, and yield its anvil chain, which has one paired product."""

    def make(template: Path) -> None:
        template.mkdir()
        made = LocalChain(template / ".blockota", free_port())
        try:
            furnish(template, made.start(), cast=cast)
        finally:
            made.stop()

    shutil.copytree(once(templates / "furnished", make), folder, dirs_exist_ok=True)
    local = LocalChain(folder / ".blockota", free_port())
    try:
        chain = local.start()
        use_chain(folder, chain)
        yield chain
    finally:
        local.stop()


@pytest.fixture
def board_url() -> Iterator[str]:
    """Serve a blank simulated board on a TCP port, and yield its URL."""
    with serve_tcp(SimulatedBoard()) as url:
        yield url


def furnish(folder: Path, chain: Chain, *, cast: Cast) -> None:
    """Deploy a 2-of-3 Safe and the contract, pair the product, and write the settings."""
    owners = [cast.owner_a.address, cast.owner_b.address, cast.owner_c.address]
    safe = deploy_safe(chain, cast.payer, owners=owners, threshold=2)
    deployment = deploy(chain, cast.payer, safe=safe)
    deployment.write(folder)
    use_chain(folder, chain)
    product = Product(PRODUCT, "acme", 0x410, Region(0x08000000, 1 << 16), minimum_version=None, paired=True)
    reason = Reason("a story begins", int(time.time()), 3600)
    contract = BlockOTAContract(chain, deployment.contract)
    execute_signed(propose_pairing(contract, product, reason=reason), chain, cast=cast)


def use_chain(folder: Path, chain: Chain) -> None:
    """Write settings that select this chain."""
    (folder / "blockota.toml").write_text(f'[networks.local]\nurl = "{chain.url}"\n')
