"""``blockota log``: keep the append-only log of a gateway, validator or bench, and check logs and their entries."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blockota.cli.keys import key_option, open_key
from blockota.cli.listening import listening_options, metrics_option
from blockota.cli.log_verify import counted_entries, receipt, verify
from blockota.cli.session import Session, VerbGroup, with_session
from blockota.errors import RefusedError, UsageError
from blockota.files import read_input
from blockota.formats.notes import Checkpoint
from blockota.ledger.keys import create_log_key, open_log_key
from blockota.ledger.trust import load_trust
from blockota.ledger.verify import keeper_in
from blockota.model.receipt import MAX_ENTRY_SIZE, EntryKind, LogEntry

if TYPE_CHECKING:
    from blockota.ledger.log import TileLog
    from blockota.ledger.log_settings import LogSettings
    from blockota.repository.server import Listening

_FILE = click.Path(path_type=Path)
_PLACE = click.argument("place", metavar="[FOLDER|URL]", required=False)


@click.group(cls=VerbGroup)
def log() -> None:
    """Keep a log of installations, prove its entries, and check proofs.

    A log is an append-only list of entries. An entry that states that a device runs a release is called a receipt. The
    table [log] of the settings names the folder, the origin and the key of this machine's log.
    """


@log.command()
@click.option("--new", "is_new", is_flag=True, help="Make the key, in the file that the settings name.")
@with_session
def key(session: Session, /, *, is_new: bool) -> None:
    """Print the public key of the log.

    Readers and witnesses verify the log with this key. With --new, the command first makes the key.

    \b
    Example:  blockota log key --new
    """
    uri, origin = _settings(session).signing()
    if is_new:
        kind, _, place = uri.partition(":")
        if kind != "file":
            raise UsageError(
                f"--new cannot make a key in {kind}:",
                why="the command makes keys only in files",
                remedy="make the key with the tools of its store, or name a file in [log]",
            )
        create_log_key(Path(place))

    public = open_log_key(uri, origin, environment=os.environ).key
    fields = {"origin": public.name, "key": str(public), "logKey": public.key.hex()}
    rows = {"key": fields["key"], "log key": f"{fields['logKey']}, for the enrolment of its keeper"}
    session.result(fields, lambda: session.fields(rows))


@log.command()
@click.argument("files", metavar="[FILE…]", type=_FILE, nargs=-1)
@click.option("--event", "events", metavar="TEXT", multiple=True, help="Append an entry of kind event with this text.")
@with_session
def append(session: Session, /, files: tuple[Path, ...], events: tuple[str, ...]) -> None:
    """Append entries from files, or events, to the log.

    An entry that equals one of the newest entries is not appended again, so that a stopped command can be repeated.

    \b
    Example:  blockota log append receipt-17.cbor
              blockota log append --event "the door of the cabinet was opened"
    """
    if not files and not events:
        raise UsageError("there is nothing to append", remedy="name files with entries, or give the text of an event")

    settings = _settings(session)
    keeper, now = keeper_in(settings.origin or ""), int(time.time())

    # All entries are checked before the first is appended.
    entries = []
    for file in files:
        try:
            entries.append(LogEntry.decode(read_input(file, limit=MAX_ENTRY_SIZE)))
        except RefusedError as error:
            raise UsageError(f"{file} is not a log entry", why=error.why) from error

    for text in events:
        try:
            entries.append(LogEntry(EntryKind.EVENT, time=now, gateway=keeper, source=text))
        except RefusedError as error:
            raise UsageError(f"{text!r:.60} cannot be the text of an event", why=error.why) from error

    stranger = next((one for one in entries if keeper and one.gateway != keeper), None)
    if stranger:
        raise UsageError(
            f"an entry of {stranger.gateway or 'a log that is not enrolled'} does not belong in this log",
            why=f"the log {settings.origin} belongs to {keeper}",
            remedy="append it to the log of its gateway",
        )

    indices = _log_of(settings).append(entry.encode() for entry in entries)
    sentence = f"the log has the entr{'y' if len(indices) == 1 else 'ies'} {', '.join(map(str, indices))}"
    session.result(
        {"indices": indices}, lambda: session.done(sentence), then="Next: publish, `blockota log checkpoint`"
    )


@log.command()
@with_session
def checkpoint(session: Session, /) -> None:
    """Publish the appended entries by a signed checkpoint.

    The command asks the witnesses in [log.witnesses] to cosign the checkpoint. A witness that does not answer is
    reported. A witness that has seen another history of the log prevents the publication.

    \b
    Example:  blockota log checkpoint
    """
    from blockota.ledger.witnesses import has_signed, publish_witnessed

    settings = _settings(session)
    uri, origin = settings.signing()
    signer = open_log_key(uri, origin, environment=os.environ)

    note, silent = publish_witnessed(_log_of(settings), signer, settings.witnesses)
    head = Checkpoint.parse(note.text).head
    witnesses: list[dict[str, Any]] = [
        {"name": one.key.name, "signed": has_signed(one, note), "why": silent.get(one, "")}
        for one in settings.witnesses
    ]

    count = sum(one["signed"] for one in witnesses)
    cosigned = f", signed by {count} of {len(witnesses)} witnesses" if witnesses else ""

    def show() -> None:
        for witness, why in silent.items():
            session.warn(f"{witness.key.name} did not sign: {why}")
        session.done(f"the checkpoint has {counted_entries(head.size)}{cosigned}")

    fields: dict[str, Any] = {"origin": origin, "key": str(signer.key), "size": head.size, "root": head.root.hex()}
    session.result(fields | {"witnesses": witnesses}, show)


@log.command()
@click.option("--all", "is_whole", is_flag=True, help="Anchor all published entries, not a multiple of 256.")
@key_option("The account of the log's keeper")
@with_session
def anchor(session: Session, /, key: str, password_fd: int | None, *, is_whole: bool) -> None:
    """Anchor the published log on the gateway chain.

    By default, the number of anchored entries is rounded down to a multiple of 256, to save gas. The contract refuses a
    log that does not continue the anchored log.

    \b
    Example:  blockota log anchor --key keystore:gateway.json
    """
    from blockota.bindings.identities import IdentitiesContract
    from blockota.bindings.update_ledger import UpdateLedgerContract
    from blockota.ledger.anchoring import EVERY, plan_anchor

    gateway = session.gateway
    ledger, identities = gateway.open(UpdateLedgerContract), gateway.open(IdentitiesContract)
    account = open_key(gateway.settings.chain_id, key, password_fd)
    reader = _log_of(_settings(session)).published
    planned = plan_anchor(reader, account.address, ledger, identities, every=1 if is_whole else EVERY)

    growth, size, published = planned.growth, planned.anchored.size, reader.head().size
    fields: dict[str, Any] = {"uuid": str(planned.keeper), "anchoredBefore": size, "size": size, "block": None}
    sentence = f"nothing to anchor: the log has {counted_entries(published)}, and {size:,} of them are anchored"
    if size < published:
        sentence += f"; the next anchor is due at {size - size % EVERY + EVERY:,}"

    if growth:
        sent = ledger.anchor(account, growth)
        fields |= {"size": growth.size, "root": growth.root.hex(), "block": sent.block_number}
        where = f"block {sent.block_number:,} of chain {ledger.chain.chain_id}"
        sentence = f"the log is anchored with {counted_entries(growth.size)} in {where}"
    session.result(fields, lambda: session.done(sentence))


@log.command()
@click.argument(
    "folder", metavar="[FOLDER]", type=click.Path(path_type=Path, exists=True, file_okay=False), required=False
)
@click.option("--access-log", type=_FILE, metavar="FILE", help="Log file, one JSON line per request; else stderr.")
@metrics_option
@listening_options
@with_session
def serve(
    session: Session,
    /,
    folder: Path | None,
    access_log: Path | None,
    metrics: tuple[str, int] | None,
    listening: Listening,
) -> None:
    """Serve the published log over HTTP, until SIGTERM or Ctrl-C.

    The default FOLDER is the log's folder in the settings. Readers and witnesses find the checkpoint at /checkpoint,
    and the tiles at /tile/ (C2SP tlog-tiles). Unpublished entries are not served.

    \b
    Example:  blockota log serve --listen 0.0.0.0:8090
    """
    from blockota.cli.services import shown_state
    from blockota.ledger.log import TileLog
    from blockota.repository.access_log import open_log
    from blockota.repository.log_site import LogSite
    from blockota.repository.server import serve as serve_site
    from blockota.repository.serving_status import ServedCounts, ServedLogStatus

    served = TileLog(folder) if folder else _log_of(_settings(session))
    size = served.published.head().size

    def show(url: str) -> None:
        fields = {"url": url, "entries": size} | ({"metrics": state_url} if state_url else {})
        session.result(fields, lambda: session.done(f"serving a log of {counted_entries(size)} at {url}"))

    log, counts = open_log(access_log), ServedCounts()
    status = ServedLogStatus(served, counts)
    with shown_state(session, metrics, "log", lambda: status) as state_url:
        serve_site(LogSite(served), listening, log=log, on_ready=show, count=counts.count)


@log.command()
@_PLACE
@click.option("--trust", type=_FILE, metavar="FILE", help="File with [trust], in place of the settings.")
@with_session
def fsck(session: Session, /, place: str | None, trust: Path | None) -> None:
    """Check all files of a log against its checkpoint.

    Without FOLDER or URL, the log of the settings is checked with its own key. The checkpoint of another log must be
    signed by a key in [trust].

    \b
    Example:  blockota log fsck
              blockota log fsck https://gateway.example/log --trust trust.toml
    """
    from blockota.ledger.fsck import check_log
    from blockota.ledger.places import published_log

    if place is None and trust is None:
        settings = _settings(session)
        reader, keys = _log_of(settings).published, [open_log_key(*settings.signing(), environment=os.environ).key]
    else:
        reader = published_log(place) if place else _log_of(_settings(session)).published
        keys = list(load_trust(trust or session.config, environment=os.environ).logs)

    checked = check_log(reader, keys)
    fields = {
        "origin": checked.origin,
        "size": checked.head.size,
        "root": checked.head.root.hex(),
        "tiles": checked.tiles,
        "key": str(checked.signer),
    }

    sentence = f"all files of {checked.origin} belong to its checkpoint of {counted_entries(checked.head.size)}"
    session.result(fields, lambda: session.done(sentence))


log.add_command(receipt)
log.add_command(verify)


def _settings(session: Session) -> LogSettings:
    from blockota.ledger.log_settings import load_log

    return load_log(session.config, environment=os.environ)


def _log_of(settings: LogSettings) -> TileLog:
    from blockota.ledger.log import TileLog

    return TileLog(settings.folder)
