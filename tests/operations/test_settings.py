"""The settings of the operations room, and the command that writes the settings."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from blockota.errors import UsageError
from blockota.formats.public_key import KeyKind
from blockota.identity.founding import NewService
from blockota.ledger.keys import open_log_key
from blockota.ledger.log_settings import load_log
from blockota.model.identity import identity_key
from blockota.operations.founding import KIND, found_room
from blockota.operations.settings import load_operations

ROOM = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")


def test_a_new_room_has_the_settings_that_were_chosen(tmp_path: Path) -> None:
    """The room reads the settings that `init` wrote, and follows its own log.

    A second `init` overwrites nothing.
    """
    file = tmp_path / "blockota.toml"
    new = NewService(KIND, ROOM, "operations.example", "dev:7")
    found = found_room(file, new, listen="127.0.0.1:9001", url="https://operations.example")
    assert found.public_key.exists()
    settings = load_operations(file, environment={})
    assert (settings.identity, settings.key, settings.listen) == (ROOM, "dev:7", ("127.0.0.1", 9001))
    assert (settings.domain, settings.is_secure) == ("operations.example", True)
    assert settings.logs == {ROOM: str(tmp_path / "operations/log")}
    with pytest.raises(UsageError, match="already"):
        found_room(file, new, listen="127.0.0.1:9001", url=None)


def test_without_a_table_the_room_can_be_read_only(tmp_path: Path) -> None:
    """Without [operations], the page listens on 127.0.0.1, and the room has no identity."""
    file = tmp_path / "blockota.toml"
    file.write_text("")
    settings = load_operations(file, environment={})
    assert (settings.url, settings.identity) == ("http://127.0.0.1:8480", None)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('url = "https://operations.example/path"', "not a URL"),
        ('url = "ftp://operations.example"', "not a URL"),
        ('listen = "8480"', "listen"),
        ('identity = "room"', "not a UUID"),
        ('lisen = "127.0.0.1:1"', "unknown setting"),
        ('[operations.logs]\nroom = "log"', "not a UUID"),
        (f'[operations.logs]\n{ROOM} = ""', "empty"),
        ('[operations.broker]\nname = "x"', "address"),
        ('[operations.broker]\naddress = "localhost:1883"\nuser = "x"', "unknown setting"),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, line: str, words: str) -> None:
    """A setting that cannot be used is reported with its name or reason."""
    file = tmp_path / "blockota.toml"
    file.write_text(f"[operations]\n{line}\n")
    with pytest.raises(UsageError) as caught:
        load_operations(file, environment={})
    assert words in str(caught.value)


def test_a_new_room_has_only_the_keys_that_it_uses(tmp_path: Path) -> None:
    """The room discards the private key of its identity, and signs with the key of its log."""
    new = NewService(KIND, UUID(int=7, version=4), "city.example")
    found = found_room(tmp_path / "blockota.toml", new, listen="127.0.0.1:8480", url=None)
    assert identity_key(found.public_key.read_text()).kind is KeyKind.P256
    assert {path.name for path in found.folder.iterdir()} == {"identity.pub", "log.pem", "log.pub"}
    settings = load_operations(found.settings, environment={})
    assert (settings.identity, settings.folder) == (new.identity, found.folder)
    log = load_log(found.settings, environment={})
    assert open_log_key(*log.signing(), environment={}).key.name == new.origin
    assert "identity_key" not in found.settings.read_text()
