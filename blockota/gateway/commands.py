"""Stores accepted commands from validators, passes them to the faces, and reports their outcomes.

=============  ==============================================================================================
``waiting``    the command is on the disk, and was not sent to the device yet
``sent``       recorded before the command is sent, so that a gateway that was killed does not send it again
an outcome     the device's answer, or *no answer* after the deadline; it is put into the outbox as a reading
=============  ==============================================================================================

A command is therefore sent at most once. If the gateway is killed after recording ``sent`` but before sending, the
command is lost. The outcome of a lost command is *no answer*. If a request has the id of an earlier command, the answer
is the state of the earlier command. The deadline of the earlier command does not change. If the sender, the name or the
arguments differ from the earlier command, the request is refused.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from blockota.errors import RefusedError, UnreachableError
from blockota.gateway.facts import SiteFacts
from blockota.gateway.readings import ReadingDesk
from blockota.identity.receiving import Outcome
from blockota.model.command import CommandAnswer, CommandState, DeviceCommand
from blockota.model.request import SignedRequest
from blockota.sqlite_file import FileMark, SqliteFile

LONGEST = 86_400
"""The largest number of seconds until the deadline of a command."""
MOST_OPEN = 16
"""The largest number of commands to one device without an outcome."""
_REMEMBERED = 30 * 86_400
"""Seconds after its deadline until a command is deleted; a repeated id is recognised until the deletion."""
_MARK = FileMark(0x424F5443, 1, "the commands of a gateway")
"""The application id in the file's header (the letters BOTC), and the version of the tables."""
_TABLES = """
CREATE TABLE IF NOT EXISTS command (
    thing INTEGER NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, arguments TEXT NOT NULL, deadline INTEGER NOT NULL,
    sender BLOB NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (thing, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS open_commands ON command (state, thing) WHERE state IN ('waiting', 'sent');
"""
_COLUMNS = "thing, id, name, arguments, deadline"
_OPEN = f"state IN ('{CommandState.WAITING}', '{CommandState.SENT}')"


class CommandDesk:
    """The commands to all devices of a site. Several threads may call its methods, which block during disk access.

    Args:
        path: the SQLite file, which is created if it does not exist.
        allowed: the names of the commands that may be sent to the devices of a model, by the model's name.
        readings: receives the outcomes of commands as readings.
        clock: returns Unix time.

    Raises:
        RefusedError: another process uses the file, or the file does not contain a gateway's commands.
        StoreError: the file cannot be used.
    """

    def __init__(
        self,
        path: Path,
        allowed: Mapping[str, Iterable[str]],
        *,
        readings: ReadingDesk,
        clock: Callable[[], int],
    ) -> None:
        self._file = SqliteFile(path, _MARK, _TABLES)
        self._allowed = {model: frozenset(names) for model, names in allowed.items()}
        self._readings, self._clock = readings, clock
        self._facts = SiteFacts()
        self._wake: list[Callable[[], object]] = []
        self._faces: dict[int, str] = {}

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def learn(self, facts: SiteFacts) -> None:
        """Replace the chain facts by the facts of the newest reading."""
        self._facts = facts

    def add_listener(self, wake: Callable[[], object]) -> Callable[[], None]:
        """Call `wake` after commands were stored or a device's face was set. Returns a function that removes `wake`.

        `wake` can be called in any thread.
        """
        self._wake.append(wake)
        return lambda: self._wake.remove(wake)

    def set_face(self, thing: int, face: str | None) -> None:
        """Record the face to which a device is connected now. If `face` is None, any face may reach the device."""
        if face is None:
            self._faces.pop(thing, None)
        else:
            self._faces[thing] = face
        for wake in list(self._wake):
            wake()

    def face_of(self, thing: int) -> str | None:
        """Return the face through which a device is reached now; None means any face."""
        return self._faces.get(thing)

    def keep(self, requests: Sequence[SignedRequest]) -> list[Outcome]:
        """Store the commands of accepted requests on the disk.

        Returns:
            For each request, in order: the state of its command, or the reason why the command was refused.

        Raises:
            UnreachableError: the gateway has not read its devices yet, or the file cannot be written. No command was
                stored, and the validator sends its requests again.
        """
        if not self._facts.block:
            raise UnreachableError("the gateway has not read its devices yet", why="it has just started")
        with self._file.transaction() as database:
            outcomes = [self._take(database, one) for one in requests]
        for wake in list(self._wake):
            wake()
        return outcomes

    def waiting(self) -> list[DeviceCommand]:
        """Return the commands that were not sent and whose deadlines have not passed."""
        now = self._clock()
        statement = f"SELECT {_COLUMNS} FROM command WHERE state = ? AND deadline >= ?"  # noqa: S608 - a constant
        return [_command(row) for row in self._file.execute(statement, (CommandState.WAITING, now))]

    def claim(self, command: DeviceCommand) -> bool:
        """Record that a command is sent now. Returns False if the command must not be sent.

        Raises:
            StoreError: the file cannot be written. The command must not be sent.
        """
        if self._refusal(command) is not None:  # the device may have been banned since
            return False
        statement = "UPDATE command SET state = ? WHERE thing = ? AND id = ? AND state = ?"
        with self._file.transaction() as database:
            values = (CommandState.SENT, command.thing, command.id, CommandState.WAITING)
            return database.execute(statement, values).rowcount == 1

    def answered(self, thing: int, answer: CommandAnswer) -> None:
        """Record the answer of a device. A repeated answer changes nothing.

        Raises:
            RefusedError: no command with this id was sent to the device, or the device gave another answer before.
            StoreError: a file cannot be written. The answer was not recorded.
        """
        statement = f"SELECT {_COLUMNS}, state FROM command WHERE thing = ? AND id = ?"  # noqa: S608 - a constant
        row = next(iter(self._file.execute(statement, (thing, answer.id))), None)
        if row is None or row[5] == CommandState.WAITING:
            raise RefusedError("the answer is refused", why=f"the device got no command {answer.id!r}")

        state = CommandState(row[5])
        if state == answer.state:
            return
        if state.is_answer:
            why = f"the device answered the command {answer.id!r} before: {state}"
            raise RefusedError("the answer is refused", why=why)
        self._finish(_command(row[:5]), answer.state, answer.reason)

    def expire(self) -> None:
        """Report *no answer* for open commands after their deadlines, and delete commands 30 days later.

        Raises:
            StoreError: a file cannot be written. The next call tries again.
        """
        now = self._clock()
        statement = f"SELECT {_COLUMNS} FROM command WHERE {_OPEN} AND deadline < ?"  # noqa: S608 - a constant
        for command in [_command(row) for row in self._file.execute(statement, (now,))]:
            self._finish(command, CommandState.NO_ANSWER, "")
        self._file.execute("DELETE FROM command WHERE deadline < ?", (now - _REMEMBERED,))

    def count_open(self) -> int:
        """Return the number of commands without an outcome."""
        return int(self._file.execute(f"SELECT count(*) FROM command WHERE {_OPEN}")[0][0])  # noqa: S608

    def _take(self, database: sqlite3.Connection, request: SignedRequest) -> Outcome:
        try:
            command = DeviceCommand.of_data(request.data)
        except ValueError as error:
            return RefusedError("the command cannot be read", why=str(error))
        statement = f"SELECT {_COLUMNS}, sender, state, reason FROM command WHERE thing = ? AND id = ?"  # noqa: S608
        if row := database.execute(statement, (command.thing, command.id)).fetchone():
            known = _command(row[:5])
            # A rule that fires again for the same reading gives the same id and another deadline.
            if (replace(known, deadline=command.deadline), UUID(bytes=row[5])) != (command, request.sender):
                return RefusedError("the command is refused", why=f"the id {command.id!r} names another command")
            return {"id": command.id, "state": row[6]} | ({"reason": row[7]} if row[7] else {})

        if refusal := self._refusal(command):
            return refusal
        count = f"SELECT count(*) FROM command WHERE thing = ? AND {_OPEN}"  # noqa: S608 - a constant
        if database.execute(count, (command.thing,)).fetchone()[0] >= MOST_OPEN:
            return RefusedError("the command is refused", why=f"the device has {MOST_OPEN} commands without an outcome")
        arguments = json.dumps(command.arguments)
        values = command.thing, command.id, command.name, arguments, command.deadline, request.sender.bytes
        database.execute("INSERT INTO command VALUES (?, ?, ?, ?, ?, ?, ?, '')", (*values, CommandState.WAITING))
        return {"id": command.id, "state": str(CommandState.WAITING)}

    def _refusal(self, command: DeviceCommand) -> RefusedError | None:
        """Return why a command must not be sent to its device; None if it may be sent."""
        facts, now = self._facts, self._clock()
        device = facts.devices.get(command.thing)
        spec = facts.specs.get(device.spec_hash) if device else None
        model = spec.name if spec else ""

        # The first reason that applies is given.
        why = ""
        if facts.is_banned:
            why = "the gateway is banned"
        elif device is None:
            why = f"device {command.thing} is not of this site"
        elif device.is_banned:
            why = f"device {command.thing} is banned"
        elif command.name not in self._allowed.get(model, ()):
            why = f"the gateway's settings do not list {command.name!r} for the model {model!r}"
        elif command.deadline < now:
            why = f"its deadline passed {now - command.deadline} seconds ago"
        elif command.deadline > now + LONGEST:
            why = f"its deadline is more than {LONGEST // 3600} hours away"
        return RefusedError("the command is refused", why=why) if why else None

    def _finish(self, command: DeviceCommand, state: CommandState, reason: str) -> None:
        # The outcome is reported before it is recorded: a gateway that is killed in between reports it twice, and never
        # loses it.
        self._readings.put([command.outcome(state, self._clock())])
        statement = "UPDATE command SET state = ?, reason = ? WHERE thing = ? AND id = ?"
        self._file.execute(statement, (state, reason, command.thing, command.id))


def _command(row: Sequence[Any]) -> DeviceCommand:
    thing, name, command, arguments, deadline = row
    return DeviceCommand(thing, name, command, json.loads(arguments), deadline)
