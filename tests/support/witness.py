"""A witness for tests (C2SP tlog-witness).

The witness signs a tree only if the tree continues the newest tree that the witness has seen.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from blockota.formats.notes import Checkpoint, Note, NoteAlgorithm, NoteSignature, NoteSigner, VerifierKey
from blockota.formats.tlog import EMPTY_TREE, TreeHead, is_consistent
from tests.support.logs import note_signer

SIGNER = note_signer("witness.example/w1", NoteAlgorithm.COSIGNATURE, seed=9)
TIME = 1_700_000_000


def cosign(text: str, signer: NoteSigner, *, time: int) -> NoteSignature:
    """Sign the text of a checkpoint as a witness, and return the signature (C2SP tlog-cosignature).

    Args:
        text: the text of the note.
        signer: the key of the witness.
        time: the time of the signature, in seconds since 1970.
    """
    signature = signer.sign(f"cosignature/v1\ntime {time}\n{text}".encode())
    return NoteSignature(signer.key.name, signer.key.key_id, time.to_bytes(8) + signature)


class WitnessServer(ThreadingHTTPServer):
    """A witness on a free port of this machine, configured with the keys of some logs.

    Attributes:
        seen: the newest tree of each log, by the log's origin.
        answer: status and body that replace all correct answers.
    """

    def __init__(self, *logs: VerifierKey) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.logs = {key.name: key for key in logs}
        self.seen: dict[str, TreeHead] = {}
        self.answer: tuple[int, str] | None = None

    @property
    def url(self) -> str:
        """The URL of the witness."""
        return f"http://127.0.0.1:{self.server_port}"

    def add_checkpoint(self, body: bytes) -> tuple[int, str]:
        """Return status and body of the response to a request."""
        lines, _, raw = body.partition(b"\n\n")
        old, *proof = lines.decode().split("\n")
        note, size = Note.parse(raw), int(old.removeprefix("old "))
        checkpoint = Checkpoint.parse(note.text)
        key = self.logs.get(checkpoint.origin)
        if key is None:
            return 404, "unknown log\n"
        if not note.is_signed_by(key):
            return 403, "unknown key\n"
        seen = self.seen.get(checkpoint.origin, EMPTY_TREE)
        if size != seen.size or (size == checkpoint.head.size and seen != checkpoint.head):
            return 409, f"{seen.size}\n"
        if not is_consistent(seen, checkpoint.head, [base64.b64decode(line) for line in proof]):
            return 422, "inconsistent\n"
        self.seen[checkpoint.origin] = checkpoint.head
        return 200, str(cosign(note.text, SIGNER, time=TIME))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WitnessServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, text = self.server.answer or self.server.add_checkpoint(body)
        self.send_response(status if self.path == "/add-checkpoint" else 404)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        """Print nothing."""


@contextmanager
def witness_server(*logs: VerifierKey) -> Iterator[WitnessServer]:
    """Run a witness that is configured with the keys of some logs."""
    with WitnessServer(*logs) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
