"""A service refuses inconsistent settings before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import forks

SERVICES = ("gateway", "validator", "cloud", "operations")
ADDRESS = "0x" + "5" * 40
NETWORK = f"""
[networks.local]
url = "http://127.0.0.1:1"
chain_id = 1337
contract = "{ADDRESS}"
identities = "{ADDRESS}"
devices = "{ADDRESS}"
orders = "{ADDRESS}"
ledger = "{ADDRESS}"
"""


def run(folder: Path, *words: str) -> tuple[int, str]:
    """Run a command in a folder, and return its exit status and its error output."""
    done = forks.run(["-m", "blockota", *words], folder=folder)
    return done.returncode, done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_with_the_log_of_another_is_refused(tmp_path: Path, service: str) -> None:
    """The origin of a service's log must end with the service's UUID; a log of another identity is not continued."""
    assert run(tmp_path, service, "init")[0] == 0
    config = tmp_path / "blockota.toml"
    lines = config.read_text().splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("origin = ")]
    lines[at] = f'{lines[at].rpartition("/")[0]}/{"0" * 32}"'
    config.write_text("\n".join(lines) + NETWORK)
    status, errors = run(tmp_path, service, "run")
    assert (status, "does not belong to the identity in" in errors, f"identity in [{service}]" in errors) == (
        2,
        True,
        True,
    ), errors


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_without_the_registry_is_refused(tmp_path: Path, service: str) -> None:
    """A missing contract address ends the command at its start with status 2."""
    assert run(tmp_path, service, "init")[0] == 0
    config = tmp_path / "blockota.toml"
    config.write_text(config.read_text() + "\n".join(NETWORK.splitlines()[:5]) + "\n")
    status, errors = run(tmp_path, service, "run")
    assert (status, "identities" in errors) == (2, True), errors
