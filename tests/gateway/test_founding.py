"""``gateway init`` makes keys and settings that the other commands accept, and overwrites nothing."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from blockota.errors import UsageError
from blockota.gateway.founding import NewGateway, add_broker, found_gateway
from blockota.gateway.settings import load_gateway
from blockota.ledger.keys import open_log_key
from blockota.ledger.log_settings import load_log
from blockota.ledger.verify import keeper_in
from blockota.vendor.enrolment import KeyNames

IDENTITY = UUID("8f14e45f-ceea-467f-a8a0-c2d5b1e7d301")
NEW = NewGateway(IDENTITY, "berlin.example", key="env:KEY")


def test_a_new_gateway_can_be_enrolled_and_loaded(tmp_path: Path) -> None:
    """The new settings name the key files, and the public keys can be enrolled.

    Other users cannot read the private keys.
    """
    config = tmp_path / "blockota.toml"
    config.write_text('network = "local"\n')
    found = found_gateway(config, NEW)
    settings, log = load_gateway(config, environment={}), load_log(config, environment={})
    assert config.read_text().startswith('network = "local"\n')
    assert (settings.identity, settings.folder, settings.key) == (IDENTITY, tmp_path / "gateway", "env:KEY")
    assert settings.identity_key == f"file:{tmp_path}/gateway/identity.pem"
    uri, origin = log.signing()
    assert keeper_in(origin) == IDENTITY
    keys = KeyNames(found.public_key, log_key=str(found.log_public_key)).read()
    assert keys.log_key == open_log_key(uri, origin, environment={}).key.key
    modes = {stat.S_IMODE((tmp_path / "gateway" / name).stat().st_mode) for name in ("identity.pem", "log.pem")}
    assert modes == {0o600}

    with pytest.raises(UsageError, match=r"has the table \[(gateway|log)\] already"):
        found_gateway(config, NEW)
    config.write_text("")
    with pytest.raises(UsageError, match="already exists"):
        found_gateway(config, NEW)


def test_existing_keys_are_named_and_not_copied(tmp_path: Path) -> None:
    """For an already enrolled identity, only the settings and the public keys are written."""
    made = found_gateway(tmp_path / "a" / "blockota.toml", NEW)
    keys = NewGateway(IDENTITY, "x", identity_key=made.folder / "identity.pem", log_key=made.folder / "log.pem")
    found = found_gateway(tmp_path / "blockota.toml", keys)
    assert sorted(path.name for path in found.folder.iterdir()) == ["identity.pub", "log.pub"]
    assert load_gateway(found.settings, environment={}).identity_key == f"file:{tmp_path}/a/gateway/identity.pem"
    assert found.public_key.read_bytes() == made.public_key.read_bytes()


def test_a_message_broker_gets_its_files(tmp_path: Path) -> None:
    """With the option for a broker, the broker's files and the settings table of the MQTT face are written.

    The new passwords of the broker are returned once.
    """
    found = found_gateway(tmp_path / "blockota.toml", replace(NEW, mqtt="broker.example"))
    assert found.broker
    assert found.broker.read_text().count("8883")
    assert list(found.passwords) == ["cms"]
    table = load_gateway(found.settings, environment={}).faces["mqtt"]
    assert table.text("images") == "https://broker.example:8443/images/"


def test_a_gateway_gets_a_message_broker_later(tmp_path: Path) -> None:
    """The broker's files and its settings table can be added once to an existing gateway.

    Adding a broker changes no other file and no other setting.
    """
    config = tmp_path / "blockota.toml"
    found_gateway(config, NEW)
    before = config.read_text()
    broker, passwords = add_broker(config, load_gateway(config, environment={}), "broker.example")
    assert config.read_text().startswith(before.rstrip())
    assert broker.read_text().count("8883")
    assert list(passwords) == ["cms"]
    settings = load_gateway(config, environment={})
    assert settings.faces["mqtt"].text("images") == "https://broker.example:8443/images/"
    assert settings.identity == IDENTITY
    with pytest.raises(UsageError, match=r"has the table \[gateway.mqtt\] already"):
        add_broker(config, settings, "broker.example")


def test_what_cannot_be_used_leaves_no_trace(tmp_path: Path) -> None:
    """A wrong domain, a broken settings file and a file that is not a key are refused before a key is made."""
    config = tmp_path / "blockota.toml"
    with pytest.raises(UsageError, match="cannot be the domain"):
        found_gateway(config, NewGateway(IDENTITY, "two words"))
    (tmp_path / "wrong.pem").write_text("no key")
    config.write_text("[gate")
    with pytest.raises(UsageError, match="it is not TOML"):
        found_gateway(config, NEW)
    config.write_text("")
    for changed in (
        replace(NEW, identity_key=tmp_path / "wrong.pem"),
        replace(NEW, log_key=tmp_path / "none.pem"),
        replace(NEW, key=f"keystore:{tmp_path / 'none.json'}"),
        replace(NEW, key=f"keystore:{tmp_path / 'wrong.pem'}"),
        replace(NEW, key="gateway.json"),
    ):
        with pytest.raises(UsageError):
            found_gateway(config, changed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blockota.toml", "wrong.pem"]
    assert not config.read_text()
