"""The logs of the city: their warnings, their anchors on the ledger, and the proof of a warning."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from blockota.bindings.update_ledger import UpdateLedgerContract
from blockota.formats.notes import NoteAlgorithm, VerifierKey
from blockota.ledger.log import TileLog
from blockota.model.receipt import LogEntry
from blockota.model.warning import RequestWarning
from tests.peers.city.members import DOMAIN, Member
from tests.peers.city.world import World
from tests.support.waiting import eventually

_AT_ONCE = 10
"""The number of logs that are anchored at the same time. An anchor mostly waits for its block."""


@dataclass(frozen=True)
class LoggedWarning:
    """A warning in a log.

    Attributes:
        keeper: the keeper of the log.
        index: the index of the entry.
        warning: the warning.
    """

    keeper: Member
    index: int
    warning: RequestWarning


def log_of(member: Member) -> TileLog:
    """Return the log of a member."""
    return TileLog(folder_of(member))


def folder_of(member: Member) -> Path:
    """Return the folder of the log of a member."""
    return member.folder / str(member.kind) / "log"


def find_warning(keeper: Member, number: str) -> LoggedWarning | None:
    """Return the warning with an id in a log; None if there is none."""
    for index, raw in enumerate(log_of(keeper).entries()):
        warning = RequestWarning.parse(LogEntry.decode(raw).source or "")
        if warning and warning.id == number:
            return LoggedWarning(keeper, index, warning)
    return None


def anchor_warnings(world: World, warnings: Sequence[LoggedWarning]) -> int:
    """Anchor the logs of all keepers with ``blockota log anchor``, and check that the ledger has the warnings.

    The root in the contract must equal the root of the keeper's tiles, and its tree must include each warning.

    Returns:
        The number of anchored logs.
    """
    keepers = {one.keeper.number: one.keeper for one in warnings}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(_anchor, keepers.values()))

    city = world.ledger.city()
    ledger = UpdateLedgerContract(city.chain, city.deployment.registries["ledger"])
    records = {number: ledger.log(keeper.uuid) for number, keeper in keepers.items()}
    for number, record in records.items():
        assert record, f"{keepers[number].kind} {number} has no anchor"
        assert log_of(keepers[number]).published.head_at(record.size).root == record.root
        assert all(one.index < record.size for one in warnings if one.keeper.number == number)
    return len(keepers)


def prove_warning(world: World, found: LoggedWarning) -> None:
    """Check the proof of a warning as another party, with ``blockota log verify --chain`` and the enrolled key."""
    desk, keeper = world.ledger, found.keeper
    origin = f"{DOMAIN}/{keeper.kind}/{keeper.uuid.hex}"
    key = VerifierKey(origin, NoteAlgorithm.ED25519, keeper.enrolment.keys.log_key or b"")
    (desk.desk / "trust.toml").write_text(f"[trust]\nlogs = [{json.dumps(str(key))}]\n")
    folder = str(folder_of(keeper))
    desk.desk_command("log", "receipt", str(found.index), "--log", folder, "-o", "warning.json", "--chain")
    proven = json.loads(
        desk.desk_command("log", "verify", "warning.json", "--trust", "trust.toml", "--chain", "--json")
    )
    assert RequestWarning.parse(proven["entry"]["source"]) == found.warning
    assert proven["anchor"]["checked"]
    assert proven["anchor"]["keeper"]["uuid"] == str(keeper.uuid)


def _anchor(keeper: Member) -> None:
    """Anchor all entries that the log has now."""
    log = log_of(keeper)
    count = len(log)
    eventually(lambda: log.published.head().size >= count, what="the checkpoint of all entries")
    account = {"ACCOUNT": f"0x{bytes(keeper.account.key).hex()}"}
    with keeper.run("log", "anchor", "--all", "--key", "env:ACCOUNT", environment=account) as process:
        out, errors = process.communicate()
    assert process.returncode == 0, f"{out} {errors}"
