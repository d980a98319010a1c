"""The cloud's database on a PostgreSQL server, or on a primary server with a synchronous standby."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from sqlalchemy import Connection, Engine, create_engine

from blockota.errors import BlockOTAError, StoreError, UsageError
from blockota.url_secrets import PrivateUrl

_URL = re.compile(
    r"postgresql://"
    r"(?:(?P<user>[^@/?#:\s]*)(?::(?P<password>[^@/?#:\s]*))?@)?"
    r"(?P<hosts>(?:\[[0-9A-Fa-f:.]+\]|[^@/?#:\s,\[\]]*)(?::\d+)?(?:,(?:\[[0-9A-Fa-f:.]+\]|[^@/?#:\s,\[\]]*)(?::\d+)?)*)"
    r"(?:/(?P<name>[^@/?#\s]*))?"
    r"(?:\?(?P<options>[^#\s]*))?"
)
"""A connection URI of libpq. Characters with a meaning in URIs are encoded in a password, so that no part of the
password can be taken for a host, and be shown."""
_SECRET_OPTIONS = frozenset({"password", "sslpassword"})
_DEFAULTS = {
    "application_name": "blockota",
    "connect_timeout": "2",
    # The server among several that is not a standby.
    "target_session_attrs": "read-write",
    # A server whose machine is gone is given up after 10 s, also while an answer is awaited.
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
"""Options of a connection that the URL can change."""
_OUT_OF_REACH = "check that the server runs and can be reached"
_NOT_CONNECTED = (
    "check that the server runs and can be reached, and the user, the password and the name of the database"
)
_TROUBLES = {
    "28": (
        "the server refused the user or the password",
        "correct the user, the password, or the server's pg_hba.conf",
    ),
    "3D": ("", "create the database on the server with createdb"),
    "42": ("", "give the user the right to create and to change tables"),
    "53": ("", "free some space or memory on the server"),
    "25": ("the server is a standby", "promote it, or name the primary"),
    "57": ("", _OUT_OF_REACH),
    "08": ("", _OUT_OF_REACH),
}
"""Reason and remedy by the first two characters of SQLSTATE; an empty reason stands for the server's own words. A
connection that fails has no SQLSTATE."""
_WARNING = "WARNING"
_DURABLE = frozenset({"on", "remote_apply"})
"""The values of ``synchronous_commit`` with which a commit waits until the synchronous standby has flushed it to disk.

With ``remote_write``, the standby has only passed the commit to its operating system (PostgreSQL 15, section 20.5.1).
"""


def opened(url: str, folder: Path) -> PostgresServer:
    """Return the database of a URL such as ``postgresql://blockota@db1,db2/blockota``.

    Raises:
        UsageError: the URL does not have this form, or psycopg is not installed.
    """
    del folder
    match = _URL.fullmatch(url)
    if match is None:
        raise UsageError(
            "the database cannot be used",
            why="its URL is not postgresql://USER:PASSWORD@HOST:PORT,HOST:PORT/NAME?OPTION=VALUE",
            remedy="encode special characters of the password, such as %40 for @ and %2F for /",
        )
    return PostgresServer(url, match)


class PostgresServer:
    """One PostgreSQL server, or several servers of which one is the primary.

    Args:
        url: the connection URI.
        match: its parts.
    """

    def __init__(self, url: str, match: re.Match[str]) -> None:
        options = dict(parse_qsl(match["options"] or ""))
        self._url = url
        self._options = {name: value for name, value in _DEFAULTS.items() if name not in options}
        self.place = f"postgresql://{match['hosts']}/{match['name'] or ''}"
        secrets = [match["password"] or "", *(options[name] for name in _SECRET_OPTIONS & options.keys())]
        self._committing: Any = None
        self._secrets = [PrivateUrl(f"postgresql://:{one}@host") for one in secrets if one]

    def create_engine(self) -> Engine:
        """Create an SQLAlchemy engine without a connection to the database."""
        return create_engine("postgresql+psycopg://", creator=self._connect, pool_pre_ping=True, hide_parameters=True)

    def begin(self, *, is_writing: bool) -> str:
        """Return an empty statement, because the driver begins transactions itself."""
        del is_writing
        return ""

    def create(self) -> None:
        """Do nothing, because the operator of the server creates the database."""

    def check_kind(self, connection: Connection) -> None:
        """Do nothing, because a PostgreSQL database may have tables of several programs."""
        del connection

    @contextmanager
    def committing(self, connection: Connection) -> Iterator[None]:
        """Check that the server sent no warning during the commit.

        When an administrator ends the server's wait for a standby, the server commits with a warning.

        Raises:
            StoreError: the server sent a warning.
        """
        warned = list[str]()

        def note(diagnostic: Any) -> None:
            if diagnostic.severity_nonlocalized == _WARNING:
                warned.append(diagnostic.message_primary or "")

        driver: Any = connection.connection.driver_connection
        driver.add_notice_handler(note)
        self._committing = driver
        try:
            yield
        finally:
            self._committing = None
            driver.remove_notice_handler(note)
        if warned:
            raise StoreError(
                f"the database {self.place} may not have all rows on its standby",
                why=self._shown(warned[0]),
                remedy="check the standby",
            )

    def interrupt(self) -> None:
        """Close the socket of a waiting commit. The server may still commit."""
        if driver := self._committing:
            with suppress(OSError), socket.socket(fileno=os.dup(driver.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)

    def translated(self, error: Exception) -> BlockOTAError:
        """Convert an error of psycopg or of the operating system into an error of BlockOTA."""
        diagnostic = getattr(error, "diag", None)
        words = getattr(diagnostic, "message_primary", None) or " ".join(str(error).split())
        state = getattr(error, "sqlstate", None)
        why, remedy = _TROUBLES.get(state[:2], ("", "read the server's log")) if state else ("", _NOT_CONNECTED)
        words = self._shown(words).removeprefix("connection failed: ").rstrip(".")
        return StoreError(f"the database {self.place} cannot be used", why=why or words, remedy=remedy)

    def _shown(self, words: str) -> str:
        for secret in self._secrets:
            words = secret.hide_in(words)
        return words

    def _connect(self) -> Any:
        import psycopg  # noqa: PLC0415 - takes 0.2 s to load, and SQLite does without it

        connection = psycopg.connect(self._url, **self._options)  # type: ignore[arg-type]
        row = connection.execute("SHOW synchronous_commit").fetchone()
        if row and row[0] not in _DURABLE:
            connection.execute("SET synchronous_commit = on")
        connection.commit()
        return connection
