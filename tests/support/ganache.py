"""A fresh ganache chain."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from blockota.chain import Chain
from blockota.chain.local import free_port
from tests.conftest import ROOT, wait_for_chain

GANACHE = ROOT / "node_modules" / "ganache" / "dist" / "node" / "cli.js"


@contextmanager
def ganache() -> Iterator[Chain]:
    """Run a fresh ganache with the accounts of the test mnemonic, and yield its chain."""
    node = shutil.which("node")
    assert node, "Node runs ganache"
    port = free_port()
    words = ["--chain.chainId", "1337", "--server.port", str(port), "--logging.quiet"]
    words += ["--wallet.mnemonic", "test test test test test test test test test test test junk"]
    with subprocess.Popen(
        [node, str(GANACHE), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield wait_for_chain(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
