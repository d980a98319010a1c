"""The DDI face's data on disk: the actions that devices began and ended, and which devices report their image.

The images that devices run are in the core's state. Without the file, a restarted gateway could not cancel an action
that a device began before the restart, and would not recognise a repeated message. A commit does not wait for the disk:
no data are lost by SIGKILL, but the data of the last seconds may be lost by a power failure.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path

from blockota.errors import StoreError
from blockota.gateway.faces.ddi_documents import Feedback

STATE_NAME = "ddi.sqlite"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS device (
    number INTEGER PRIMARY KEY, begun INTEGER, ended INTEGER, execution TEXT, finished TEXT, details TEXT,
    names_image INTEGER NOT NULL
);
"""


@dataclass(frozen=True)
class DdiDevice:
    """The data that the DDI face stores about a device.

    Attributes:
        begun: the action that the device has begun and not ended; None if no such action exists.
        ended: the action that ended last; None if no action has ended.
        feedback: the device's last message about the ended action; None if the action was cancelled.
        names_image: whether the device has reported the SHA-256 of its running image. From a device
            that reports the SHA-256, a success alone is not evidence of the running image.
    """

    begun: int | None = None
    ended: int | None = None
    feedback: Feedback | None = None
    names_image: bool = False


_UNKNOWN = DdiDevice()


class ActionStore:
    """The actions of all devices, in memory and in an SQLite file.

    Args:
        path: the SQLite file, which is created if necessary.

    Raises:
        StoreError: the file cannot be opened, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._devices: dict[int, DdiDevice] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Like the core, the face uses the database in one thread, which is not the thread that opened it.
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" + _SCHEMA)
            for number, begun, ended, *words, names_image in self._database.execute("SELECT * FROM device"):
                feedback = Feedback(*words) if words[0] is not None else None
                self._devices[number] = DdiDevice(begun, ended, feedback, bool(names_image))
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(error) from error

    def device(self, number: int) -> DdiDevice:
        """Return the stored data of a device."""
        return self._devices.get(number, _UNKNOWN)

    def begin(self, number: int, action: int) -> None:
        """Record that a device opened an action."""
        self._put(number, replace(self.device(number), begun=action))

    def end(self, number: int, action: int, feedback: Feedback | None) -> None:
        """Record the end of an action. `feedback` is None if the action was cancelled."""
        known = self.device(number)
        begun = None if known.begun == action else known.begun
        self._put(number, replace(known, begun=begun, ended=action, feedback=feedback))

    def note_image(self, number: int) -> None:
        """Record that a device reports the SHA-256 of its running image."""
        self._put(number, replace(self.device(number), names_image=True))

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _put(self, number: int, device: DdiDevice) -> None:
        """Store the data of a device if the data have changed.

        Raises:
            StoreError: the file cannot be written. The new data are still stored in memory.
        """
        if device == self.device(number):
            return
        self._devices[number] = device
        said = device.feedback
        words = (said.execution, said.finished, said.details) if said else (None, None, None)
        values = (number, device.begun, device.ended, *words, device.names_image)
        try:
            self._database.execute("INSERT OR REPLACE INTO device VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> StoreError:
        return StoreError(
            f"the state of the DDI face in {self._path} cannot be used",
            why=str(error),
            remedy="check the disk; without the file, the gateway cannot cancel updates that it has withdrawn",
        )
