"""Ask witnesses to sign a checkpoint (C2SP tlog-witness).

A witness remembers the newest tree of each log, and signs a checkpoint only if its tree extends the remembered tree. If
a log publishes two different histories, a witness therefore signs only one of them.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

from blockota.errors import RefusedError, StoreError, UsageError
from blockota.formats.notes import Checkpoint, Note, NoteSignature, NoteSigner, VerifierKey
from blockota.formats.tlog import ReadNode, prove_consistency
from blockota.ledger.log import TileLog
from blockota.stores.http import HttpClient
from blockota.stores.source import Limits, Source, split_url
from blockota.url_secrets import shown_url

_LIMITS = Limits(connect=5.0, silence=10.0, total=30.0)
_MAX_ANSWER = 1 << 14
_SIZE = re.compile(r"\d{1,19}", re.ASCII)
_REASONS: Mapping[int, str] = {
    HTTPStatus.NOT_FOUND: "it does not know a log with this origin",
    HTTPStatus.FORBIDDEN: "it does not know the log, or knows it with another key",
}
"""The answers of a witness whose operator must add the log, or the log's new key."""


@dataclass(frozen=True)
class Witness:
    """A witness.

    Attributes:
        key: its public key.
        url: the URL under which the witness serves ``add-checkpoint``.
    """

    key: VerifierKey
    url: str

    def __post_init__(self) -> None:
        """Check the URL.

        Raises:
            UsageError: the text is not a URL.
        """
        if split_url(self.url) is None or "?" in self.url or "#" in self.url:
            raise UsageError(
                f"{shown_url(self.url)!r} is not the URL of a witness",
                remedy="write a URL like https://witness.example",
            )


def ask_witnesses(
    witnesses: Iterable[Witness], note: Note, read_node: ReadNode, *, report: Callable[[Witness, str], None]
) -> Note:
    """Return a checkpoint with the signatures of the witnesses that answer.

    Witnesses that have already signed the checkpoint are not asked again.

    Args:
        witnesses: the witnesses.
        note: the checkpoint, signed by the log.
        read_node: reads the tree of the checkpoint.
        report: called with a witness and the reason, for each witness that did not sign.

    Raises:
        RefusedError: a witness has seen another history of the log.
    """
    for witness in witnesses:
        if has_signed(witness, note):
            continue
        try:
            note = note.with_signatures(_ask(witness, note, read_node))
        except StoreError as error:
            report(witness, error.why or error.what)
    return note


def publish_witnessed(
    log: TileLog, signer: NoteSigner, witnesses: Iterable[Witness]
) -> tuple[Note, dict[Witness, str]]:
    """Publish a log with the signatures of the witnesses that answer.

    Returns:
        The published checkpoint, and the reason of each witness that did not sign.

    Raises:
        RefusedError: a witness has seen another history of the log, or the log has another origin.
        ContentError: the log is damaged; nothing was signed.
        StoreError: the folder of the log cannot be written, or another process writes.
    """
    silent: dict[Witness, str] = {}
    cosign = partial(ask_witnesses, witnesses, report=silent.__setitem__)
    return log.publish(signer, cosign=cosign), silent


def has_signed(witness: Witness, note: Note) -> bool:
    """Whether a checkpoint has a valid signature of a witness."""
    try:
        return note.cosigned_at(witness.key) is not None
    except ValueError:
        return False


def _ask(witness: Witness, note: Note, read_node: ReadNode) -> NoteSignature:
    """Ask one witness.

    Raises:
        RefusedError: the witness has seen another history of the log.
        StoreError: the witness cannot be reached, or refuses to sign for another reason.
    """
    size = Checkpoint.parse(note.text).head.size
    client = HttpClient(Source(witness.url), _LIMITS)
    try:
        # The size that the witness has seen is not known here: it answers a wrong one with the right one.
        status, answer = _post(client, note, 0, [])
        if status == HTTPStatus.CONFLICT:
            seen = _size_in(witness, answer)
            if seen > size:
                raise _contradiction(witness, f"it has seen the size {seen}, and this log has the size {size}")
            status, answer = _post(client, note, seen, prove_consistency(read_node, seen, size))
            if status in (HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY):
                raise _contradiction(
                    witness, f"it has seen another tree of size {seen}, which this log does not continue"
                )
    finally:
        client.close()

    if status != HTTPStatus.OK:
        why = _REASONS.get(status, f"it answers with the status {status}")
        raise StoreError(f"{witness.key.name} does not sign", why=why)
    return _signature_in(witness, note, answer)


def _post(client: HttpClient, note: Note, seen: int, proof: list[bytes]) -> tuple[int, bytes]:
    lines = [f"old {seen}", *(base64.b64encode(node).decode() for node in proof), "", ""]
    return client.post("/add-checkpoint", "\n".join(lines).encode() + note.encode(), limit=_MAX_ANSWER)


def _size_in(witness: Witness, answer: bytes) -> int:
    text = answer.decode("ascii", "replace").removesuffix("\n")
    if not _SIZE.fullmatch(text):
        raise StoreError(
            f"{witness.key.name} does not sign", why="its answer does not contain the size of its newest tree"
        )
    return int(text)


def _signature_in(witness: Witness, note: Note, answer: bytes) -> NoteSignature:
    """Return the valid signature of the witness.

    Signatures of other keys are ignored.
    """
    try:
        signatures = Note.parse(b"\n\n" + answer).signatures
        found = next(one for one in signatures if one.is_of(witness.key))
        Note(note.text, (found,)).cosigned_at(witness.key)
    except (ValueError, StopIteration) as error:
        raise StoreError(
            f"{witness.key.name} does not sign", why="its answer has no valid signature of the witness's key"
        ) from error
    return found


def _contradiction(witness: Witness, why: str) -> RefusedError:
    return RefusedError(
        f"the witness {witness.key.name} has seen another history of the log; nothing was published",
        why=why,
        remedy="restore the newest copy of the log's folder; if no copy exists, retire the log, and begin a new log",
    )
