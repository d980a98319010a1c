"""The files of a mosquitto broker. The tests in `tests/peers/mqtt` start mosquitto with these files."""

from __future__ import annotations

import ssl
import stat
from base64 import b64decode
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from blockota.errors import UsageError
from blockota.messaging.mosquitto import BrokerFiles, password_hash, write_broker_files

NOW = datetime(2027, 1, 1, tzinfo=UTC)


def test_a_password_has_the_hash_of_mosquitto_passwd() -> None:
    """The password hash equals the output of mosquitto_passwd 2.0.11 for the same password and salt."""
    salt = "/rZy7bTuWu3cJYYy"
    derived = "klooVjCt2YS8FNbLmMvCczK1zGsUoW3r4O0w/V1uMXe12RFpIZHTOvoGiSNsJuxLNKoMAm3DkPn8n9wIZ1rMnw=="
    assert password_hash("secret", salt=b64decode(salt)) == f"$7$101${salt}${derived}"


def test_files_are_written_once_and_devices_are_added(tmp_path: Path) -> None:
    """If the files are written again, authority and passwords stay the same, and new devices get passwords."""
    first = write_broker_files(tmp_path, [256], hosts=["gateway.example", "192.0.2.1"], now=NOW)
    files = BrokerFiles(tmp_path)
    authority, secret, rules = files.authority.read_bytes(), files.secret("gateway"), (tmp_path / "rules").read_text()
    second = write_broker_files(tmp_path, [256, 257], hosts=["gateway.example"], now=NOW)
    assert (set(first), set(second)) == ({"256", "cms"}, {"257"})
    assert (files.authority.read_bytes(), files.secret("gateway")) == (authority, secret)
    assert not any(password in (tmp_path / "passwords").read_text() for password in (*first.values(), secret))
    assert [path for path in tmp_path.iterdir() if stat.S_IMODE(path.stat().st_mode) != 0o600] == []
    assert "pattern write $aws/things/%u/jobs/start-next" in rules


def test_the_certificate_is_for_the_hosts(tmp_path: Path) -> None:
    """Clients that trust the authority accept the broker's certificate, which contains the broker's host names."""
    write_broker_files(tmp_path, [], hosts=["gateway.example", "192.0.2.1"], now=NOW)
    server = x509.load_pem_x509_certificate((tmp_path / "server.pem").read_bytes())
    authority = x509.load_pem_x509_certificate((tmp_path / "authority.pem").read_bytes())
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["gateway.example"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.1"]
    ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))


def test_a_password_is_removed(tmp_path: Path) -> None:
    """A banned device loses its password, and the other devices keep their passwords."""
    write_broker_files(tmp_path, [256, 257], hosts=["localhost"], now=NOW)
    files = BrokerFiles(tmp_path)
    files.forget(256)
    files.forget(999)
    names = [line.split(":")[0] for line in (tmp_path / "passwords").read_text().splitlines()]
    assert names == ["gateway", "0", "operations", "257", "cms"]
    with pytest.raises(UsageError, match="cannot be read"):
        files.secret("missing")
