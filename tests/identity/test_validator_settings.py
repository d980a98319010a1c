"""``blockota validator init`` writes settings that load; wrong settings and rules are refused with a reason."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from blockota.errors import UsageError
from blockota.identity.sending import open_signer
from blockota.identity.validator_settings import load_rules, load_validator
from blockota.ledger.keys import open_log_key
from blockota.ledger.log_settings import load_log
from blockota.ledger.verify import keeper_in
from tests.support import forks

RULE = """
commands = ["fan"]

[[rule]]
name = "cool"
thing = 256
reading = "temperature"
comparison = ">"
limit = 30
for = "10s"
target = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
device = 512
command = "fan"
"""


def run(folder: Path, *words: str) -> tuple[int, str, str]:
    """Run a command in a folder, and return exit status, output and errors."""
    done = forks.run(["-m", "blockota", *words], folder=folder)
    return done.returncode, done.stdout, done.stderr


def init(folder: Path, *words: str) -> dict[str, Any]:
    """Set up a validator by the command, and return the command's report."""
    status, out, errors = run(folder, "validator", "init", "--json", *words)
    assert status == 0, errors
    found: dict[str, Any] = json.loads(out)
    return found


def test_a_new_validator_loads(tmp_path: Path) -> None:
    """The written settings name key files that can be read, with a certificate for the host.

    Private files are readable only for their owner.
    """
    made = init(tmp_path, "--domain", "berlin.example", "--requests", "10.64.0.1:8470", "--host", "10.64.0.1")
    config = tmp_path / "blockota.toml"
    settings, log = load_validator(config, environment={}), load_log(config, environment={})
    assert (str(settings.identity), settings.port.host, settings.port.port) == (made["identity"], "10.64.0.1", 8470)
    assert settings.port.certificate == tmp_path / "validator" / "server.pem"
    assert keeper_in(log.origin or "") == settings.identity
    assert open_signer(settings.identity, settings.identity_key, environment={}).algorithm == "ES256"
    open_log_key(*log.signing(), environment={})
    secret = [path for path in (tmp_path / "validator").iterdir() if b"PRIVATE KEY" in path.read_bytes()]
    assert len(secret) == 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in secret} == {0o600}

    before = (tmp_path / "blockota.toml").read_bytes()
    status, _, errors = run(tmp_path, "validator", "init")
    assert (status, "has the table [log] already" in errors or "has the table [validator] already" in errors) == (
        2,
        True,
    )
    assert (tmp_path / "blockota.toml").read_bytes() == before


def test_a_validator_that_never_ran_has_no_state(tmp_path: Path) -> None:
    """`validator status` proposes `validator init` without settings, and `validator run` if the validator never ran."""
    status, _, errors = run(tmp_path, "validator", "status")
    assert (status, "blockota validator init" in errors) == (2, True)
    init(tmp_path)
    status, _, errors = run(tmp_path, "validator", "status")
    assert (status, "blockota validator run" in errors) == (3, True)


def test_rules_are_read(tmp_path: Path) -> None:
    """A rule has the values of its settings table, and defaults for missing values."""
    path = tmp_path / "validator.toml"
    path.write_text(RULE)
    (rule,) = load_rules(path)
    assert (rule.thing, rule.device, rule.duration, rule.pause, rule.deadline) == ("256", "512", 10, 60, 60)
    assert rule.target == UUID("7c9e6679-7425-40de-944b-e07fc1f90ae7")
    path.write_text(f'{RULE}arguments = {{ on = true, level = 3 }}\npause = "5m"\ngateway = "{rule.target}"\n')
    assert load_rules(path) == (replace(rule, arguments={"on": True, "level": 3}, pause=300, gateway=rule.target),)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('">"', '"~"', "'~' is not one of > >= < <= == !="),
        ("limit = 30", 'limit = "30"', "'30' is not a number"),
        ("limit = 30", "limit = true", "True is not a number"),
        ("limit = 30", "limit = nan", "nan is not a number"),
        ("limit = 30", "", "None is not a number"),
        ('name = "cool"', "", "has no name"),
        ("7c9e6679-", "", "is not a UUID"),
        ("device = 512", "device = 256", "is a circle"),
        ('["fan"]', '["valve"]', "'fan' is not one of the listed commands: valve"),
        ('"10s"', '"soon"', "'soon' is not a duration"),
        ("device = 512", "device = 512\narguments = { a = [1] }", "not a table of numbers, texts, true and false"),
        ("device = 512", "device = 512\nwhen = 1", "unknown setting 'when'"),
        ("[[rule]]", "[rule]", "rules are written as tables"),
        ("[[rule]]", "[[rule", "it is not TOML"),
    ],
)
def test_a_wrong_rule_is_refused(tmp_path: Path, old: str, new: str, why: str) -> None:
    """The error names the fault."""
    assert old in RULE
    path = tmp_path / "validator.toml"
    path.write_text(RULE.replace(old, new, 1))
    with pytest.raises(UsageError) as caught:
        load_rules(path)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('identity = "one"', "'one' is not a UUID"),
        ('requests = "8470"', "is not an address"),
        ('certificate = "missing.pem"', "is not a PEM file"),
        ('max_age = "1"', "is not a duration"),
        ("accept_legacy = 1", "is not true or false"),
        ("anchor_minutes = 0", "is not a whole number from 1"),
        ("colour = 1", "unknown setting 'colour'"),
        ('rules = "none.toml"', "none.toml"),
        ('cloud = { identity = "one", url = "https://x" }', "'one' is not a UUID"),
        ("cloud = {}", "has no identity"),
        ('gateways = { one = "http://x" }', "'one' is not a UUID"),
        ('mqtt = { broker = "x" }', "is not an address"),
    ],
)
def test_a_wrong_setting_is_refused(tmp_path: Path, line: str, why: str) -> None:
    """The error for a wrong rule names the setting and the fault."""
    values = {"identity": '"0f8fad5b-d9cb-469f-a165-70867728950e"', "identity_key": '"file:key.pem"'}
    name, _, value = line.partition(" = ")
    text = "\n".join(f"{key} = {one}" for key, one in (values | {name: value}).items())
    config = tmp_path / "blockota.toml"
    config.write_text(f"[validator]\n{text}\n")
    with pytest.raises(UsageError) as caught:
        load_validator(config, environment={})
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("", "cannot listen on 192.0.2.1 port 8470"),
        ('[validator.mqtt]\nbroker = "127.0.0.1:1"\nname = "a"\npassword = "absent"\n', "absent"),
        ('[validator.mqtt]\nbroker = "127.0.0.1:1"\nauthority = "absent.pem"\n', "absent.pem"),
        (
            '[validator.gateways]\n7c9e6679-7425-40de-944b-e07fc1f90ae7 = "10.0.0.1:8471"\n',
            "'10.0.0.1:8471' is not the address of a receiver",
        ),
    ],
)
def test_a_wrong_setting_ends_the_command(tmp_path: Path, more: str, why: str) -> None:
    """The command exits with status 2 and a reason, without a traceback."""
    init(tmp_path)
    config, text = tmp_path / "blockota.toml", (tmp_path / "blockota.toml").read_text()
    registry = f'[networks.local]\nurl = "http://127.0.0.1:1"\nidentities = "0x{"5" * 40}"\n'
    config.write_text(
        f"{text.replace('127.0.0.1:8470', '127.0.0.1:0' if more else '192.0.2.1:8470')}\n{registry}{more}"
    )
    (tmp_path / "validator.toml").write_text(RULE)
    status, _, errors = run(tmp_path, "validator", "run")
    assert (status, why in errors, "Traceback" in errors) == (2, True, False), errors
