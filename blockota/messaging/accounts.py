"""The address of a message broker, and the account with which a service connects to it. Imports no MQTT library."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from blockota.errors import UsageError
from blockota.files import read_input
from blockota.settings_table import SettingsTable

BROKER = "localhost:8883"
"""The default address of the broker."""
_MAX_PASSWORD_FILE = 1 << 12


@dataclass(frozen=True)
class BrokerAccount:
    """The address of a broker, and the account with which the client signs in.

    Attributes:
        host: host name or address of the broker.
        port: port of the broker.
        name: the user name, which is also the client identifier; empty for no user name.
        password: the password.
        authority: PEM file of the broker's certificate authority; None to connect without TLS.
        is_persistent: whether the broker stores messages for the client while the client is not connected.
    """

    host: str
    port: int
    name: str = ""
    password: str = field(default="", repr=False)
    authority: Path | None = None
    is_persistent: bool = False

    def __str__(self) -> str:
        """The address of the broker, as shown in errors."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class BrokerSettings:
    """The message broker that the settings of a service name.

    Attributes:
        host: host name or address of the broker.
        port: port of the broker.
        name: the user name; empty for no user name.
        password: the file with the password; None for no password.
        authority: PEM file of the broker's certificate authority; None to connect without TLS.
    """

    host: str
    port: int
    name: str = ""
    password: Path | None = None
    authority: Path | None = None

    @classmethod
    def read(cls, table: SettingsTable, *, address: str) -> Self:
        """Read the settings of a broker from a table.

        Args:
            table: the table.
            address: the setting that contains the broker's address.

        Raises:
            UsageError: a setting is unknown or not valid.
        """
        table.known(address, "name", "password", "authority")
        place = table.address(address, BROKER)
        return cls(*place, table.text("name") or "", table.path("password"), table.path("authority"))

    def account(self, *, is_persistent: bool = False) -> BrokerAccount:
        """Read the password, and return the account.

        Raises:
            UsageError: the file with the password cannot be read, or is not text.
        """
        try:
            password = read_input(self.password, limit=_MAX_PASSWORD_FILE).decode().strip() if self.password else ""
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{self.password} cannot be read",
                why="it is not text in UTF-8",
                remedy="write the password at the message broker into the file",
            ) from error
        return BrokerAccount(self.host, self.port, self.name, password, self.authority, is_persistent)
