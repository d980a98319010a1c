"""The DDI face's data on disk: the actions that devices began and ended, and which devices report their image.

The images that devices run are in the core's state. Without the file, a restarted gateway would not recognise repeated
messages, and could not cancel actions from before the restart. A commit does not wait for the disk. SIGKILL loses no
data, but a power failure can lose the data of the last seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from blockota.gateway.faces.ddi_documents import Feedback
from blockota.sqlite_file import FileMark, SqliteFile

STATE_NAME = "ddi.sqlite"
_MARK = FileMark(
    0x424F5444,
    1,
    "the state of a DDI face",
    remedy="move the file away; without it, the gateway cannot cancel updates that it has withdrawn",
    old_table="device",
    is_flushed=False,
)
_TABLES = """
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
        names_image: whether the device has reported the SHA-256 of its running image. After this report, a stated
            success without the SHA-256 is not evidence of the running image.
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
        RefusedError: another program, or a newer version of BlockOTA, wrote the file.
        StoreError: the file is damaged, or cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, _MARK, _TABLES, is_owner=False)
        self._devices: dict[int, DdiDevice] = {}
        for number, begun, ended, *words, names_image in self._file.execute("SELECT * FROM device"):
            feedback = Feedback(*words) if words[0] is not None else None
            self._devices[number] = DdiDevice(begun, ended, feedback, bool(names_image))

    def device(self, number: int) -> DdiDevice:
        """Return the stored data of a device."""
        return self._devices.get(number, _UNKNOWN)

    def start(self, number: int, action: int) -> None:
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
        self._file.close()

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
        self._file.execute("INSERT OR REPLACE INTO device VALUES (?, ?, ?, ?, ?, ?, ?)", values)
