"""Commands that sign with a keystore and its password, or with a hardware wallet through an Ape plugin."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from tests.conftest import IMAGES, ROOT
from tests.stories.conftest import PRODUCT, Outcome, Workshop, publish_first
from tests.stories.test_bad_input import REFUSED, USAGE, refused
from tests.support import descriptors, forks

PASSWORD = "correct horse"  # noqa: S105 - opens only the keystore that this file creates
OFFER = ("replica", "propose", "--product", PRODUCT, "--version", "1.0.0")
KEYSTORE = ("--key", "keystore:broker.json")
Descriptor = Callable[[str], str]


@pytest.fixture
def released(workshop: Workshop) -> Workshop:
    """Return a test workshop with release 1.0.0 and the broker's keystore."""
    workshop.after(publish_first)
    keystore = workshop.folder / "broker.json"
    keystore.write_text(json.dumps(Account.encrypt(workshop.cast.broker.key, PASSWORD, iterations=2)))
    keystore.chmod(0o600)
    return workshop


@pytest.fixture
def descriptor() -> Iterator[Descriptor]:
    """Return a function that makes a file descriptor from which a text can be read."""
    with ExitStack() as stack:
        yield lambda text: stack.enter_context(descriptors.descriptor(text))


def test_a_password_comes_by_descriptor(released: Workshop, descriptor: Descriptor) -> None:
    """A script signs with a keystore whose password comes from a file descriptor, without a terminal."""
    done = released.run(*OFFER, *KEYSTORE, "--password-fd", descriptor(f"{PASSWORD}\n"), "--json")
    assert (done.status, done.json["broker"]) == (0, released.cast.broker.address)
    assert PASSWORD not in done.out + done.err


def test_a_wrong_password_is_status_3(released: Workshop, descriptor: Descriptor) -> None:
    """A wrong password exits with status 3, and the password is not printed."""
    outcome = released.run(*OFFER, *KEYSTORE, "--password-fd", descriptor("battery staple"))
    refused(outcome, REFUSED, "wrong password for broker.json")
    assert "staple" not in outcome.err
    refused(released.run(*OFFER, *KEYSTORE, "--password-fd", descriptor("")), USAGE, "its first line is empty")
    refused(released.run(*OFFER, *KEYSTORE), USAGE, "without a terminal", "--password-fd")


def test_a_keystore_that_others_may_read_is_noted_on_stderr(released: Workshop, descriptor: Descriptor) -> None:
    """A keystore that other users may read causes a note on stderr, and the command succeeds."""
    (released.folder / "broker.json").chmod(0o644)
    done = released.run(*OFFER, *KEYSTORE, "--password-fd", descriptor(PASSWORD), "--json")
    assert done.json["status"] == "proposed"
    assert "chmod 600 broker.json" in done.err


def test_a_script_of_ape_takes_the_same_options(released: Workshop, descriptor: Descriptor) -> None:
    """``ape run propose_replication`` accepts a keystore and a password from a file descriptor."""
    number = int(descriptor(PASSWORD))
    deployed = json.loads(Path("deployments/1337.json").read_text())["replication"]
    words = ["propose_replication", "--network", f"ethereum:local:{released.chain.url}", "--contract", deployed]
    words += ["--key", f"keystore:{released.folder / 'broker.json'}", "--password-fd", "0"]
    with forks.started([forks.APE, "run", *words, *OFFER[2:]], folder=ROOT, streams={0: number}) as process:
        out, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "Proposed agreement 1" in out


@pytest.fixture
def plug_in(released: Workshop) -> Callable[[LocalAccount, str], None]:
    """Return a function that connects a simulated device with an account's key to Ape's alias ``pocket``."""

    def plug(account: LocalAccount, mood: str) -> None:
        device, file = released.folder / "usb", released.folder / ".ape" / "pocketsigner" / "pocket.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"address": account.address, "port": str(device)}))
        device.write_text(json.dumps({"mood": mood, "key": account.key.hex()}))

    return plug


def run_with_plugin(workshop: Workshop, *words: str) -> Outcome:
    """Run a command in a process with the plugin installed and the workshop's folder as home."""
    plugins = ROOT / "tests" / "plugins"
    environment = {"HOME": str(workshop.folder), "PYTHONPATH": f"{plugins}:{ROOT}"}
    done = forks.run(["-m", "blockota", *words], folder=workshop.folder, environment=environment)
    return Outcome(done.returncode, done.stdout, done.stderr)


def test_a_hardware_wallet_offers_a_replica(released: Workshop, plug_in: Callable[[LocalAccount, str], None]) -> None:
    """A hardware wallet signs the broker's offer, and a refusing or unplugged device is reported."""
    command = (*OFFER, "--key", "ape:pocket", "--json")
    plug_in(released.cast.broker, "refuses")
    refused(run_with_plugin(released, *command), REFUSED, "ape:pocket did not sign", "Connect and unlock the device")
    (released.folder / "usb").unlink()
    refused(run_with_plugin(released, *command), REFUSED, "Unable to open device path")
    plug_in(released.cast.broker, "willing")
    done = run_with_plugin(released, *command)
    assert done.status == 0, done.err
    assert (done.json["number"], done.json["broker"]) == (1, released.cast.broker.address)
    assert "approve on the device" in done.err


def test_an_owner_signs_a_release_on_a_hardware_wallet(
    released: Workshop, plug_in: Callable[[LocalAccount, str], None]
) -> None:
    """A hardware wallet signs a proposal as an owner of the Safe, and pays for the execution."""
    plug_in(released.cast.owner_a, "willing")
    image, file = str(IMAGES / "bluepill-1.1.0.bin"), "1.1.0.json"
    made = released.run("release", "publish", image, "--product", PRODUCT, "--version", "1.1.0", "-o", file)
    assert made.status == 0, made.err
    for key in ("ape:pocket", "dev:2"):
        signed = run_with_plugin(released, "proposal", "sign", file, "--key", key, "--yes")
        assert signed.status == 0, signed.err
    done = run_with_plugin(released, "proposal", "execute", file, "--key", "ape:pocket")
    assert done.status == 0, done.err
    shown = released.run("release", "show", "--product", PRODUCT, "--version", "1.1.0", "--json")
    assert shown.json["status"] == "active"
