"""The signatures of witnesses, refusals by witnesses, and invalid responses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from blockota.chain.local import free_port
from blockota.errors import RefusedError, UsageError
from blockota.formats.notes import Note
from blockota.formats.tlog import ReadNode
from blockota.ledger.log import TileLog
from blockota.ledger.witnesses import Witness, ask_witnesses
from tests.support.logs import entries_of, note_signer
from tests.support.witness import SIGNER, TIME, WitnessServer, witness_server

KEY = note_signer()


@pytest.fixture
def server() -> Iterator[WitnessServer]:
    """Run a witness that is configured for the log."""
    with witness_server(KEY.key) as running:
        yield running


def publish(folder: Path, size: int, *witnesses: Witness) -> tuple[Note, list[str]]:
    """Publish a log of some entries; return the checkpoint, and the reasons for which witnesses did not sign."""
    log, reasons = TileLog(folder), list[str]()
    log.append(entries_of(len(log), size))

    def ask(note: Note, read_node: ReadNode) -> Note:
        return ask_witnesses(witnesses, note, read_node, report=lambda _, why: reasons.append(why))

    return log.publish(KEY, cosign=ask), reasons


def test_a_witness_signs_a_growing_log(tmp_path: Path, server: WitnessServer) -> None:
    """A witness signs the first tree, each later tree, and the same tree again."""
    witness = Witness(SIGNER.key, server.url)
    for size in (1, 7, 7, 600):
        note, reasons = publish(tmp_path, size, witness)
        assert (note.cosigned_at(SIGNER.key), reasons) == (TIME, [])
        assert TileLog(tmp_path).published.note() == note
        assert server.seen[KEY.key.name] == TileLog(tmp_path).published.head()


@pytest.mark.parametrize("size", [3, 5, 8])
def test_a_fork_is_refused(tmp_path: Path, server: WitnessServer, size: int) -> None:
    """If a log has another history, of any size, the witness does not sign it and no checkpoint is published."""
    witness = Witness(SIGNER.key, server.url)
    publish(tmp_path / "log", 5, witness)
    fork = TileLog(tmp_path / "fork")
    fork.append([b"other"])
    with pytest.raises(RefusedError, match=r"witness.example/w1 has seen another history"):
        publish(tmp_path / "fork", size, witness)
    assert fork.published.note() is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((500, "sorry"), "status 500"),
        ((409, "many\n"), "size of its newest tree"),
        ((409, "9" * 5000), "size of its newest tree"),
        ((200, "— witness.example/w1 AAAAAAAA\n"), "valid signature"),
        ((200, str(SIGNER.key)), "valid signature"),
        ((200, "x" * 20_000), "20000 bytes"),
        ((307, ""), "status 307"),
    ],
)
def test_a_witness_that_fails_does_not_stop_the_log(
    tmp_path: Path, server: WitnessServer, answer: tuple[int, str], words: str
) -> None:
    """A witness response that is not a signature is reported, and the checkpoint is published without it."""
    server.answer = answer
    note, reasons = publish(tmp_path, 5, Witness(SIGNER.key, server.url))
    assert note.cosigned_at(SIGNER.key) is None
    assert note.is_signed_by(KEY.key)
    assert len(reasons) == 1
    assert words in reasons[0]


def test_a_witness_that_does_not_know_the_log_is_reported(tmp_path: Path) -> None:
    """The report gives the reason if a witness is unreachable, or does not know the log or its key."""
    with witness_server() as stranger, witness_server(note_signer(seed=5).key) as other:
        urls = (stranger.url, other.url, f"http://127.0.0.1:{free_port()}")
        note, reasons = publish(tmp_path, 5, *(Witness(SIGNER.key, url) for url in urls))
    assert note.is_signed_by(KEY.key)
    assert ["origin" in reasons[0], "another key" in reasons[1], "connection" in reasons[2]] == [True] * 3


@pytest.mark.parametrize("url", ["witness.example", "ftp://witness.example", "https://a.example/?x=1", ""])
def test_what_is_not_the_url_of_a_witness_is_refused(url: str) -> None:
    """The URL of a witness must be an http or https URL."""
    with pytest.raises(UsageError, match="URL of a witness"):
        Witness(SIGNER.key, url)
