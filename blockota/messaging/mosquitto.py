"""The files of a mosquitto broker: settings, access rules, passwords and certificates.

The rules isolate the devices from each other. A device signs in with its number as the user name, and may send and
receive only its own messages. The gateway's probe signs in as device 0, and may use only the topics of device 0. The
gateway reads and writes the topics of all devices. A management system reads the log entries of the gateway and the
notices of the operations room.

==================  ==============================================================================
File                Content
==================  ==============================================================================
mosquitto.conf      the broker's settings: TLS, no anonymous clients, one session for each user
rules               the access rules; ``%u`` is the user name
passwords           hashes of the passwords (PBKDF2 with SHA-512), one line for each user
authority.pem       the certificate of the authority, which devices trust; ``authority.key`` is its private key
server.pem          the broker's certificate; ``server.key`` is its private key
gateway.secret      the password of the gateway
0.secret            the password of the gateway's probe
operations.secret   the password of the operations room
==================  ==============================================================================
"""

from __future__ import annotations

import getpass
import hashlib
import os
import secrets
import signal
from base64 import b64encode
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from blockota.certificates import make_certificates
from blockota.errors import UsageError
from blockota.files import write_durable

GATEWAY, PROBE, MANAGEMENT, OPERATIONS = "gateway", "0", "cms", "operations"
"""The user names of the gateway, of its probe, of management systems, and of the operations room."""
MAX_PACKET = 65536
"""The maximum size of a message in bytes. The broker closes the connection of a client that sends a larger message."""
_ITERATIONS, _SALT_SIZE, _PASSWORD_SIZE = 101, 12, 24
"""The iterations and salt size of mosquitto_passwd, and the size of a random password in bytes. A slower hash would not
make a random password safer."""
_SETTINGS = """\
# Written by BlockOTA. Start the broker with: mosquitto -c {folder}/mosquitto.conf
user {user}
pid_file {folder}/mosquitto.pid
listener {port}
certfile {folder}/server.pem
keyfile {folder}/server.key
tls_version tlsv1.2
allow_anonymous false
password_file {folder}/passwords
acl_file {folder}/rules
# A device cannot take over the session of another one.
use_username_as_clientid true
max_packet_size {packet}
set_tcp_nodelay true
# The gateway gets the requests of all devices in one session, also those from while it was away. It has at most this
# number of them at once: it confirms a reading when it has written it.
max_inflight_messages 2000
max_queued_messages 100000
persistence true
persistence_location {folder}/
autosave_interval 30
persistent_client_expiration 30d
"""
_RULES = """\
user {gateway}
topic readwrite $aws/things/#
topic readwrite blockota/v1/#

user {management}
topic read blockota/v1/cms/+/events
topic read blockota/v1/notices/#

user {operations}
topic write blockota/v1/notices/#

pattern write $aws/things/%u/jobs/start-next
pattern write $aws/things/%u/jobs/get
pattern write $aws/things/%u/jobs/+/get
pattern write $aws/things/%u/jobs/+/update
pattern write $aws/things/%u/shadow/update
pattern write $aws/things/%u/shadow/get
pattern write blockota/v1/things/%u/events
pattern write blockota/v1/things/%u/readings
pattern write blockota/v1/things/%u/commands/ack
pattern read $aws/things/%u/jobs/#
pattern read $aws/things/%u/shadow/#
pattern read blockota/v1/things/%u/events/ack
pattern read blockota/v1/things/%u/readings/rejected
pattern read blockota/v1/things/%u/commands
"""


def password_hash(password: str, *, salt: bytes) -> str:
    """Return the hash of a password in the format of mosquitto_passwd: PBKDF2 with HMAC-SHA-512, 101 iterations."""
    derived = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    return f"$7${_ITERATIONS}${b64encode(salt).decode()}${b64encode(derived).decode()}"


@dataclass(frozen=True)
class BrokerFiles:
    """The files of a broker in a folder.

    Attributes:
        folder: the folder.
    """

    folder: Path

    @property
    def authority(self) -> Path:
        """The path of the authority's certificate, which clients trust."""
        return self.folder / "authority.pem"

    def secret(self, name: str) -> str:
        """Return the password of the gateway, of its probe or of the operations room.

        Raises:
            UsageError: the file cannot be read.
        """
        path = self.folder / f"{name}.secret"
        try:
            return path.read_text().strip()
        except OSError as error:
            raise UsageError(
                f"the password of {name} at the message broker cannot be read",
                why=f"{path}: {error.strerror}",
                remedy="create the broker's files, or correct the folder in the settings",
            ) from error

    def issue(self, names: Iterable[object]) -> dict[str, str]:
        """Make new passwords for users, and write their hashes.

        Returns:
            The passwords by user name. The files contain only the hashes of the passwords.

        Raises:
            UsageError: the file cannot be written.
        """
        issued = {str(name): secrets.token_urlsafe(_PASSWORD_SIZE) for name in names}
        hashes = {
            name: password_hash(password, salt=secrets.token_bytes(_SALT_SIZE)) for name, password in issued.items()
        }
        self._write_passwords(self._passwords() | hashes)
        return issued

    def forget(self, name: object) -> None:
        """Remove the password of a user, so that the broker closes the user's connection.

        Raises:
            UsageError: the file cannot be written.
        """
        passwords = self._passwords()
        if passwords.pop(str(name), None) is not None:
            self._write_passwords(passwords)

    def _passwords(self) -> dict[str, str]:
        path = self.folder / "passwords"
        lines = path.read_text().splitlines() if path.exists() else []
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def _write_passwords(self, passwords: Mapping[str, str]) -> None:
        self.write("passwords", "".join(f"{name}:{one}\n" for name, one in passwords.items()))
        # A running broker reads the file again. One that was killed left its number, which another process may have.
        with suppress(OSError, ValueError):
            number = int((self.folder / "mosquitto.pid").read_text())
            if Path(f"/proc/{number}/comm").read_text().strip() == "mosquitto":
                os.kill(number, signal.SIGHUP)

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file that only its owner can read.

        Raises:
            UsageError: the file cannot be written.
        """
        path = self.folder / name
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_durable(path, content.encode() if isinstance(content, str) else content, mode=0o600)
        except OSError as error:
            raise UsageError(f"{path} cannot be written", why=error.strerror or str(error)) from error


def write_broker_files(
    folder: Path, devices: Iterable[int], *, hosts: Iterable[str], port: int = 8883, now: datetime | None = None
) -> dict[str, str]:
    """Write the files of a broker. Existing certificates and passwords are not changed.

    Args:
        folder: the folder of the files, which is created if necessary.
        devices: the numbers of the devices.
        hosts: names and addresses at which devices reach the broker.
        port: the port of the broker.
        now: the time from which the certificates are valid; the current time by default.

    Returns:
        The passwords that were generated for devices and management systems without a password, by user name. The files
        contain only the hashes of these passwords.

    Raises:
        UsageError: a file cannot be written.
    """
    files = BrokerFiles(folder.absolute())
    values = {"folder": files.folder, "port": port, "packet": MAX_PACKET, "user": getpass.getuser()}
    files.write("mosquitto.conf", _SETTINGS.format(**values))
    files.write("rules", _RULES.format(gateway=GATEWAY, management=MANAGEMENT, operations=OPERATIONS))
    _write_certificates(files, list(hosts), now or datetime.now(UTC))
    for name in (GATEWAY, PROBE, OPERATIONS):
        if not (files.folder / f"{name}.secret").exists():
            files.write(f"{name}.secret", files.issue([name])[name] + "\n")
    known = {line.split(":")[0] for line in (files.folder / "passwords").read_text().splitlines()}
    return files.issue([name for name in (*map(str, devices), MANAGEMENT) if name not in known])


def _write_certificates(files: BrokerFiles, hosts: list[str], now: datetime) -> None:
    """Write the authority's certificate if it does not exist, and the broker's certificate for the given hosts."""
    known = None
    if (files.folder / "authority.key").exists():
        known = (files.folder / "authority.key").read_bytes(), files.authority.read_bytes()
    try:
        made = make_certificates("BlockOTA gateway devices", hosts, now=now, authority=known)
    except ValueError as error:
        raise UsageError(f"{files.folder / 'authority.key'} cannot be used", why=str(error)) from error
    for name, content in made.items():
        files.write(name, content)
