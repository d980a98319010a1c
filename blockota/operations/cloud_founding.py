"""Set up a cloud: its keys, its certificate, and its tables in the settings file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from blockota.certificates import make_certificates
from blockota.files import write_new
from blockota.identity.founding import FoundedService, NewService, ServiceFounding


def found_cloud(
    config: Path | None, new: NewService, values: Mapping[str, str], *, hosts: Sequence[str], now: datetime
) -> tuple[FoundedService, Path | None]:
    """Make the keys of a cloud, and add its tables to the settings file.

    Args:
        config: the settings file; None means ``blockota.toml`` in the current folder.
        new: the cloud.
        values: settings of the table ``[cloud]``, in addition to those of its keys.
        hosts: names and addresses for which a certificate is made; without them, it receives plain HTTP.
        now: the time from which the certificate is valid.

    Returns:
        The files, and the certificate of the authority for the validators; None without a certificate.

    Raises:
        UsageError: the file already has a cloud or a log, a key exists, or the origin or a key cannot be used.
    """
    founding = ServiceFounding(config, new)
    founding.make_keys()
    folder = founding.found.folder
    if not hosts:
        founding.write_settings(values)
        return founding.found, None
    for name, content in make_certificates(f"BlockOTA cloud {new.identity}", hosts, now=now).items():
        write_new(folder / name, content, mode=0o600)
    certificate = {"certificate": f"{new.kind}/server.pem", "private_key": f"{new.kind}/server.key"}
    founding.write_settings({**values, **certificate})
    return founding.found, folder / "authority.pem"
