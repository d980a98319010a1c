"""Fixtures that all tests share: test accounts, and real local chains."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount
from hypothesis import settings

from blockota.approval.signature import sign
from blockota.bindings.block_ota import BlockOTAContract
from blockota.bindings.safe import deploy_safe, execute
from blockota.chain import Chain, Receipt
from blockota.chain.local import find_anvil, free_port
from blockota.deployment import LOCAL_CHAIN_ID
from blockota.errors import ChainError
from blockota.keys import dev_account
from blockota.model.release import Product
from blockota.vendor.deploy import deploy
from blockota.vendor.propose import Reason, propose
from blockota.vendor.publish import propose_pairing
from tests.support import forks
from tests.support.samples import NOW, PRODUCT
from tests.support.sampling import SEED
from tests.support.waiting import eventually

settings.register_profile("patient", deadline=None)  # tests run in parallel, so the duration of one varies
settings.load_profile("patient")
# Garbage collection would take half of the time of importing and collecting thousands of tests.
gc.disable()
COMPILED = ("detools", "DTLSSocket")
"""Packages that only `make peers` installs, because they are compiled."""
ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "examples" / "bluepill" / "images"
WAITING = ("stories", "repository", "stores", "operations", "gateway", "identity", "cli")
"""Folders whose tests mostly wait for other processes, the longest files first."""
COMPUTING = ("contracts", "firmware_host")
"""Folders with long files whose tests mostly compute."""
LONG = (*WAITING, *COMPUTING)
SHARE_OF_WAITING = 0.8
"""The part of a test run in which files with waiting tests start; the longest takes a tenth of the run."""


def pytest_configure(config: pytest.Config) -> None:
    """Run the server that forks the programs of the tests; all test workers share the server."""
    if "tests/peers" in (config.getoption("ignore") or ()):
        for name in COMPILED:  # a test that needs them must fail here as in a fresh clone
            sys.modules[name] = None  # type: ignore[assignment]
    # `nohup make test` ignores SIGHUP, a job in a shell's background ignores SIGINT, and programs inherit that.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        stack = ExitStack()
        stack.enter_context(forks.server())
        config.add_cleanup(stack.close)


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Print the random seed with which a test run can be repeated; with ``-q``, pytest prints no header."""
    if reporter := session.config.pluginmanager.get_plugin("terminalreporter"):
        reporter.write_line(f"BLOCKOTA_SEED={SEED}")


@dataclass(frozen=True)
class Cast:
    """Accounts of the test mnemonic, each with one role."""

    payer: LocalAccount
    owner_a: LocalAccount
    owner_b: LocalAccount
    owner_c: LocalAccount
    broker: LocalAccount
    technician: LocalAccount
    mallory: LocalAccount


@pytest.fixture(scope="session")
def cast() -> Cast:
    """The test accounts; the accounts of the three owners also own the Safe of `blockota dev up`."""
    return Cast(*(dev_account(number) for number in range(7)))


@pytest.fixture(scope="session")
def anvil() -> Iterator[Chain]:
    """A real anvil chain for each test worker; the tests of a worker share this chain, and use separate products."""
    with running_anvil() as chain:
        yield chain


@contextmanager
def running_anvil(*options: str) -> Iterator[Chain]:
    """Run anvil with further options, and yield its chain."""
    port = free_port()
    command = [str(find_anvil()), "--chain-id", str(LOCAL_CHAIN_ID), "--prune-history", "256", "--port", str(port)]
    with subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL) as process:
        try:
            yield wait_for_chain(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()


def wait_for_chain(url: str) -> Chain:
    """Wait until a node that was just started responds, and return its chain."""

    def connect() -> Chain | None:
        try:
            return Chain(url, chain_id=LOCAL_CHAIN_ID)
        except ChainError:
            return None

    chain = eventually(connect, what=f"an answer of {url}")
    assert chain
    return chain


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files so that waiting and computing tests alternate, and group the tests for ``--dist loadgroup``.

    The workers outnumber the cores: while some workers wait, others compute. The waiting files end before the computing
    files, because a worker that waits at the end leaves its core unused. Folders with long files come first. The tests
    of a file run in one worker, and so do all contract tests, because Ape takes seconds to start.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    groups: dict[str, list[pytest.Item]] = {}
    folders: dict[str, str] = {}
    for path, tests in files.items():
        folder, *rest = path.relative_to(ROOT / "tests").parts
        group = folder if folder == "contracts" else "/".join((folder, *rest))
        mark = pytest.mark.xdist_group(group)
        for test in tests:
            test.add_marker(mark)
        groups.setdefault(group, []).extend(tests)
        folders[group] = folder if folder in LONG else ""

    waiting = sorted((one for one in groups if folders[one] in WAITING), key=lambda one: WAITING.index(folders[one]))
    computing = [one for name in (*COMPUTING, "") for one in groups if folders[one] == name]
    places = {group: SHARE_OF_WAITING * place / len(waiting) for place, group in enumerate(waiting)}
    places |= {group: place / len(computing) for place, group in enumerate(computing)}
    items[:] = [item for group in sorted(places, key=places.__getitem__) for item in groups[group]]


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Enable garbage collection after the tests were collected, and exclude the existing objects from collection."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Turn skips into failures if BLOCKOTA_NOTHING_SKIPPED is set, as ``.ci/run`` does."""
    report = yield
    if report.skipped and os.environ.get("BLOCKOTA_NOTHING_SKIPPED"):  # type: ignore[attr-defined]
        report.outcome = "failed"  # type: ignore[attr-defined]
        report.longrepr = f"skipped despite BLOCKOTA_NOTHING_SKIPPED: {item.nodeid}"  # type: ignore[attr-defined]
    return report


REASON = Reason("a test", NOW, 3600)


@dataclass(frozen=True)
class Vendor:
    """A vendor's Safe and its BlockOTA contract.

    Attributes:
        contract: the BlockOTA contract.
        safe: the address of the Safe that owns the contract.
        cast: the test accounts; the owners A and B sign.
    """

    contract: BlockOTAContract
    safe: str
    cast: Cast

    @property
    def chain(self) -> Chain:
        """The chain of the contract and the Safe."""
        return self.contract.chain

    def decide(self, call: bytes) -> Receipt:
        """Propose a call, sign the proposal as two owners, and let the Safe execute it."""
        proposal = propose(self.contract, call, reason=REASON)
        signatures = [sign(proposal, self.cast.owner_a), sign(proposal, self.cast.owner_b)]
        return execute(self.chain, proposal, signatures=signatures, account=self.cast.payer, now=NOW)


@pytest.fixture(scope="module")
def vendor(anvil: Chain, cast: Cast) -> Vendor:
    """A vendor with a new Safe and new contracts, for each test file."""
    owners = [cast.owner_a.address, cast.owner_b.address, cast.owner_c.address]
    safe = deploy_safe(anvil, cast.payer, owners=owners, threshold=2)
    deployment = deploy(anvil, cast.payer, safe=safe)
    return Vendor(BlockOTAContract(anvil, deployment.contract), safe, cast)


@pytest.fixture
def product(vendor: Vendor, product_numbers: Iterator[int]) -> Product:
    """A paired product that no other test uses."""
    wanted = replace(PRODUCT, name=f"product-{next(product_numbers)}")
    vendor.decide(propose_pairing(vendor.contract, wanted, reason=REASON).data)
    return wanted


@pytest.fixture(scope="session")
def product_numbers() -> Iterator[int]:
    """A counter that makes the product names of the tests unique."""
    return itertools.count(1)
