"""The account of a service at a message broker, from the settings and the file with the password."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from blockota.errors import UsageError
from blockota.messaging.accounts import BrokerAccount, BrokerSettings
from blockota.settings_table import SettingsTable

PASSWORD_FILE = {"password": "secret"}


def read(folder: Path, values: Mapping[str, str]) -> BrokerSettings:
    """Read the settings of a broker from a table."""
    return BrokerSettings.read(SettingsTable("validator.mqtt", values, folder), address="broker")


def test_the_password_is_read_when_the_account_is_needed(tmp_path: Path) -> None:
    """A missing password file is reported by `account`. Spaces and line ends around the password are removed."""
    settings = read(tmp_path, {"broker": "broker.example:1883", "name": "validator", **PASSWORD_FILE})
    with pytest.raises(UsageError, match="secret"):
        settings.account()
    (tmp_path / "secret").write_text(" pässword\r\n")
    expected = BrokerAccount("broker.example", 1883, "validator", "pässword", is_persistent=True)
    assert settings.account(is_persistent=True) == expected
    assert read(tmp_path, {}).account() == BrokerAccount("localhost", 8883)


def test_a_password_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    """A password file in another encoding is reported with its path, and its content is not shown."""
    (tmp_path / "secret").write_bytes(b"p\xe4ssword")
    with pytest.raises(
        UsageError, match=r"secret cannot be read: it is not text in UTF-8\. Write the password"
    ) as caught:
        read(tmp_path, PASSWORD_FILE).account()
    assert "ssword'" not in str(caught.value)
    (tmp_path / "secret").write_bytes(b"x" * 5000)
    with pytest.raises(UsageError, match="secret"):
        read(tmp_path, PASSWORD_FILE).account()
