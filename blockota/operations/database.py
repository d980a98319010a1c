"""The cloud's database: an SQLite file or a PostgreSQL server.

If the ``with`` block of `CloudDatabase.writing` ends without an error, its transaction is durable. The conditions for a
durable commit depend on the kind of database:

SQLite       The write-ahead log is flushed at each commit (``synchronous = FULL``). After a commit, the open file must
             still be at its path: a commit to a deleted or replaced file succeeds, but its changes are lost.
PostgreSQL   If the server's setting ``synchronous_commit`` is ``off``, ``local`` or ``remote_write``, the connection
             sets it to ``on``, so that a commit waits until the standby has flushed it to disk. A server that stops
             waiting for its standby commits with a warning, so `CloudDatabase.writing` raises an error after such a
             warning. The URL can name several servers; the server that is not a standby is used.

Alembic's table stores the version of the tables.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol, Self

from sqlalchemy import Connection, Engine, event, inspect, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from blockota.errors import Action, BlockOTAError, RefusedError, StoreError, UsageError
from blockota.operations import postgresql, sqlite
from blockota.operations.schema import METADATA, VERSION

_MIGRATIONS = Path(__file__).with_name("migrations")
_VERSION_TABLE = "alembic_version"
_WRITES = "blockota_writes"
"""The execution option of a connection that changes rows."""


class Server(Protocol):
    """The database server or library that stores the tables.

    Attributes:
        place: the database's file or URL, without passwords.
    """

    place: str

    def create_engine(self) -> Engine:
        """Create an SQLAlchemy engine without a connection to the database."""

    def begin(self, *, is_writing: bool) -> str:
        """Return the statement that begins a transaction; empty if the driver begins transactions itself."""

    def create(self) -> None:
        """Create a missing SQLite file. Do nothing for PostgreSQL, whose operator creates the database.

        Raises:
            StoreError: the database cannot be created.
        """

    def check_kind(self, connection: Connection) -> None:
        """Check that the database does not belong to another program.

        Raises:
            RefusedError: the database belongs to another program.
        """

    def committing(self, connection: Connection) -> AbstractContextManager[None]:
        """Check that the commit in the ``with`` block is durable.

        Raises:
            StoreError: the commit may not be durable.
        """

    def interrupt(self) -> None:
        """Interrupt a waiting commit, which then raises an error. Any thread may call this."""

    def translated(self, error: Exception) -> BlockOTAError:
        """Convert an error of the driver into an error of BlockOTA."""


class CloudDatabase:
    """The database. Several threads may share it.

    Args:
        server: the database server or library.
    """

    def __init__(self, server: Server) -> None:
        self._server, self.place = server, server.place
        self._engine = server.create_engine()

        @event.listens_for(self._engine, "begin")
        def begin(connection: Connection) -> None:
            is_writing = connection.get_execution_options().get(_WRITES, False)
            if statement := server.begin(is_writing=is_writing):
                connection.exec_driver_sql(statement)

    @classmethod
    def at(cls, url: str, *, folder: Path) -> Self:
        """Return the database at a URL, without a connection to it.

        Args:
            url: ``sqlite:///PATH`` or ``postgresql://USER:PASSWORD@HOST,HOST/NAME?OPTION=VALUE``.
            folder: the folder to which a path is relative.

        Raises:
            UsageError: the URL does not have one of these forms.
        """
        for scheme, opened in (("sqlite:///", sqlite.opened), ("postgresql://", postgresql.opened)):
            if url.startswith(scheme):
                return cls(opened(url, folder))
        raise UsageError(
            "the database cannot be used",
            why="its URL does not begin with sqlite:/// or postgresql://",
            remedy="write sqlite:///PATH or postgresql://USER@HOST/NAME",
        )

    def __enter__(self) -> Self:
        """Return the database."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections."""
        self._engine.dispose()

    def interrupt(self) -> None:
        """Interrupt a commit that waits, for example for a standby. Any thread may call this."""
        self._server.interrupt()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection that reads from one consistent snapshot of the database.

        Raises:
            StoreError: the database cannot be read.
        """
        with self._translated(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield a connection whose changes are all committed together, or all rolled back.

        The changes may have been committed even if an error is raised, because the answer to a commit can be lost.

        Raises:
            StoreError: the changes cannot be written, or may not be durable.
        """
        with self._translated(), self._engine.connect() as opened:
            connection = opened.execution_options(**{_WRITES: True})
            yield connection
            try:
                with self._server.committing(connection):
                    connection.commit()
            except StoreError:
                self._engine.dispose()  # the next transaction opens the database anew
                raise

    def migrate(self) -> bool:
        """Create the tables, or migrate them to the newest version.

        Returns:
            Whether tables were created or migrated.

        Raises:
            RefusedError: the database belongs to another program, or a newer version of BlockOTA wrote its tables.
            StoreError: the database cannot be used.
        """
        with self._translated():
            self._server.create()
        with self.writing() as connection:
            self._server.check_kind(connection)
            found = _version(connection)
            if found != VERSION:
                self._check_version(connection, found, is_migrating=True)
                _upgrade(connection)
        return found != VERSION

    def check(self) -> None:
        """Check that the database has the tables of this version.

        Raises:
            RefusedError: the database belongs to another program, or another version of BlockOTA wrote its tables.
            StoreError: the database cannot be used.
        """
        with self.reading() as connection:
            self._server.check_kind(connection)
            self._check_version(connection, _version(connection), is_migrating=False)

    def _check_version(self, connection: Connection, found: str, *, is_migrating: bool) -> None:
        if found > VERSION:
            raise RefusedError(
                f"the database {self.place} cannot be used",
                why=f"a newer version of BlockOTA wrote it: its tables are {found}, and this version knows {VERSION}",
                remedy="update BlockOTA, or use another database",
            )

        if is_migrating and not found and set(inspect(connection).get_table_names()) & set(METADATA.tables):
            raise RefusedError(
                f"the database {self.place} cannot be used",
                why="another program created tables with the same names in it",
                remedy="use another database",
            )

        if not is_migrating and found != VERSION:
            raise RefusedError(
                f"the database {self.place} cannot be used",
                why=f"its tables are version {found}, and not {VERSION}" if found else "it has no tables of the cloud",
                remedy="run the cloud, which creates and updates its tables",
                action=Action.RUN_CLOUD,
            )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, sqlite3.Error, OSError) as error:
            cause = error.orig if isinstance(error, DBAPIError) and isinstance(error.orig, Exception) else error
            # The text of SQLAlchemy's error has the statement with its values, so it is not kept as the cause.
            raise self._server.translated(cause) from None
        except SQLAlchemyError as error:  # such as a connection that is not free in time
            raise StoreError(f"the database {self.place} cannot be used", why=str(error).partition("\n")[0]) from None


def _version(connection: Connection) -> str:
    """Return the version of the tables; empty if the database has no tables of the cloud."""
    if not inspect(connection).has_table(_VERSION_TABLE):
        return ""
    found: Any = connection.execute(text(f"SELECT version_num FROM {_VERSION_TABLE}")).scalar()  # noqa: S608 - fixed
    return str(found or "")


def _upgrade(connection: Connection) -> None:
    """Run the migrations within the transaction of the connection."""
    from alembic import command  # noqa: PLC0415 - takes 0.5 s to load, and is used once in the life of a database
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    command.upgrade(config, "head")
