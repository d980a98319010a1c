"""A PostgreSQL server with its synchronous standby, set up with the commands of docs/access.md."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from blockota.chain.local import free_port
from scripts.peers import find_program
from tests.support.namespaces import NamespaceHost
from tests.support.waiting import eventually

PASSWORD = "geheim@/x"  # noqa: S105 - a password with the separators of URLs
ENCODED = "geheim%40%2Fx"
USER, NAME = "blockota", "blockota"
SETTINGS = """
listen_addresses = '{address}'
port = {port}
unix_socket_directories = '{folder}'
wal_receiver_status_interval = 1s
wal_retrieve_retry_interval = 200ms
"""
ACCESS = f"""
host all {USER} samenet scram-sha-256
host replication {USER} samenet scram-sha-256
"""
"""Lines of pg_hba.conf: the user connects from the hosts of the server's network, also as a standby."""


@dataclass
class PostgresNode:
    """A server.

    Attributes:
        folder: the server's data folder.
        host: the host on which the server runs; None for this machine, where the server listens on 127.0.0.1.
        port: its port.
        process: the server's process; None while the server is stopped.
    """

    folder: Path
    host: NamespaceHost | None = None
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """The address at which the server listens."""
        return self.host.address if self.host else "127.0.0.1"

    def configure(self) -> None:
        """Write the address of the server into the settings."""
        text = SETTINGS.format(address=self.address, port=self.port, folder=self.folder.parent)
        run(["tee", "-a", str(self.folder / "postgresql.auto.conf")], text=text)

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        with (self.folder.parent / f"{self.folder.name}.log").open("ab") as log:
            command = [program("postgres"), "-D", str(self.folder)]
            user, group = server_ids()
            if self.host:  # only root may enter a namespace, so the user changes afterwards
                command = self.host.command(
                    "setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", *command
                )
                user = group = None
            self.process = subprocess.Popen(command, stdout=log, stderr=log, user=user, group=group)
        ready = [program("pg_isready"), "-q", "-h", self.address, "-p", str(self.port)]
        eventually(lambda: subprocess.run(ready, check=False).returncode == 0, what=f"the server in {self.folder}")

    def kill(self) -> None:
        """Kill all processes of the server, as a power cut does."""
        if self.process is None:
            return
        for number in [self.process.pid, *_children(self.process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def ask(self, statement: str) -> str:
        """Return the server's answer to an SQL statement."""
        words = [*self.login, "-d", NAME, "-At", "-c", statement]
        return run([program("psql"), *words]).strip()

    @property
    def login(self) -> list[str]:
        """The options with which PostgreSQL's programs connect to the server."""
        return ["-h", self.address, "-p", str(self.port), "-U", USER]


@dataclass
class PostgresPair:
    """A primary and its synchronous standby.

    Attributes:
        primary: the server that accepts writes.
        standby: the server that receives each row before the commit is acknowledged.
    """

    primary: PostgresNode
    standby: PostgresNode

    @property
    def url(self) -> str:
        """The URL of the database, with both servers."""
        hosts = ",".join(f"{one.address}:{one.port}" for one in (self.primary, self.standby))
        return f"postgresql://{USER}:{ENCODED}@{hosts}/{NAME}"

    def await_standby(self) -> None:
        """Wait until the standby is the synchronous standby of the primary."""
        asked = "SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')"
        eventually(lambda: self.primary.ask(asked) == "1", what="the synchronous standby")

    def promote(self) -> None:
        """Make the standby the primary."""
        run([program("pg_ctl"), "promote", "-w", "-D", str(self.standby.folder)])

    def wait_of_primary(self) -> str:
        """Return the id of the process whose commit waits for the standby; empty if no commit waits."""
        return self.primary.ask("SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'")


@contextmanager
def postgres_pair(hosts: Sequence[NamespaceHost | None] = (None, None)) -> Iterator[PostgresPair]:
    """Make and run a primary with its synchronous standby.

    Args:
        hosts: the hosts of primary and standby; None for this machine.
    """
    # The server does not run as root, and its user cannot enter the folders of pytest.
    folder = Path(tempfile.mkdtemp(prefix="blockota-postgresql-"))
    user, group = server_ids()
    os.chown(folder, -1 if user is None else user, -1 if group is None else group)
    pair = PostgresPair(PostgresNode(folder / "primary", hosts[0]), PostgresNode(folder / "standby", hosts[1]))
    try:
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        data = str(pair.primary.folder)
        run([program("initdb"), "-D", data, "-U", USER, "-A", "scram-sha-256", "--pwfile", str(secret), "-E", "UTF8"])
        run(["tee", "-a", str(pair.primary.folder / "pg_hba.conf")], text=ACCESS)
        pair.primary.configure()
        pair.primary.start()
        run([program("createdb"), *pair.primary.login, NAME])
        run(
            [
                program("pg_basebackup"),
                *pair.primary.login,
                "-D",
                str(pair.standby.folder),
                "-R",
                "-X",
                "stream",
                "-c",
                "fast",
            ]
        )
        pair.standby.configure()
        pair.standby.start()
        # From now on, each commit waits for the standby. The standby does not have this setting when it is promoted.
        pair.primary.ask("ALTER SYSTEM SET synchronous_standby_names = '*'")
        pair.primary.ask("SELECT pg_reload_conf()")
        pair.await_standby()
        yield pair
    finally:
        pair.standby.kill()
        pair.primary.kill()
        shutil.rmtree(folder, ignore_errors=True)


def program(name: str) -> str:
    """Return the path of a program of PostgreSQL."""
    return find_program(name)


def run(command: Sequence[str], *, text: str = "") -> str:
    """Run a program as the user of the server, and return its output."""
    user, group = server_ids()
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env=os.environ | {"PGPASSWORD": PASSWORD},
        user=user,
        group=group,
    )
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def server_ids() -> tuple[int | None, int | None]:
    """Return the user and group ids for the server; None means the ids of this process.

    The server refuses to run as root.
    """
    if os.geteuid():
        return None, None
    found = pwd.getpwnam("postgres")
    return found.pw_uid, found.pw_gid


def _children(parent: int) -> list[int]:
    """Return the processes that a process started."""
    found = list[int]()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found
