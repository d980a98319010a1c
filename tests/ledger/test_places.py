"""A published log that several threads of a service read at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blockota.formats.notes import NoteAlgorithm, NoteSigner, VerifierKey
from blockota.ledger.log import TileLog
from blockota.ledger.places import published_log

ENTRIES, READERS = 600, 12


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the library
        """Print nothing."""


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """The URL of a log."""
    key, log = Ed25519PrivateKey.generate(), TileLog(tmp_path / "log")
    name = VerifierKey("city.example/log", NoteAlgorithm.ED25519, key.public_key().public_bytes_raw())
    log.append([b"entry %d" % number for number in range(ENTRIES)])
    log.publish(NoteSigner(name, key.sign))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(tmp_path / "log"))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_several_threads_read_one_log(url: str) -> None:
    """Several threads can request entries and proofs from one reader, and each gets its own entries."""
    reader = published_log(url)

    def entry(number: int) -> bytes:
        return reader.prove_inclusion(number).entry

    with ThreadPoolExecutor(READERS) as threads:
        assert list(threads.map(entry, range(0, ENTRIES, 3))) == [b"entry %d" % one for one in range(0, ENTRIES, 3)]
