"""Set up a validator: its keys, its certificate, and its tables in the settings file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from blockota.certificates import make_certificates
from blockota.files import write_new
from blockota.identity.founding import FoundedService, NewService, ServiceFounding

_MORE = """
# [validator.cloud]                  # where readings are kept; see docs/access.md
# identity = "UUID"
# url = "https://10.64.0.200:8470"
# authority = "cloud-authority.pem"
"""


def found_validator(
    config: Path | None, new: NewService, *, places: tuple[str, str], hosts: Sequence[str] = ()
) -> tuple[FoundedService, Path | None]:
    """Make the keys of a validator, and add its tables to the settings file.

    Args:
        config: the settings file; None means ``blockota.toml`` in the current folder.
        new: the validator.
        places: where it receives requests, and where it shows its state.
        hosts: names and addresses for which a certificate is made; without them, it receives plain HTTP.

    Returns:
        The files, and the certificate of the authority for the gateways; None without a certificate.

    Raises:
        UsageError: the file already has a validator or a log, a key exists, or the origin or a key cannot be used.
    """
    founding = ServiceFounding(config, new)
    founding.make_keys()
    values = {"requests": places[0], "listen": places[1]}
    if hosts:
        made = make_certificates(f"BlockOTA validator {new.identity}", hosts, now=datetime.now(UTC))
        for name, content in made.items():
            write_new(founding.found.folder / name, content, mode=0o600)
        values |= {"certificate": "validator/server.pem", "private_key": "validator/server.key"}
    founding.write_settings(values, [_MORE])
    return founding.found, founding.found.folder / "authority.pem" if hosts else None
