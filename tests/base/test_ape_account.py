"""Accounts of Ape plugins, tested with a simulated device that has the quirks of real plugins."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import SignableMessage, encode_defunct
from eth_typing import Hash32
from eth_utils.crypto import keccak

from blockota.ape_account import ApeAccount, open_ape_account
from blockota.approval.signature import sign
from blockota.chain import Chain
from blockota.errors import RefusedError, UsageError
from blockota.keys import dev_account
from tests.conftest import ROOT
from tests.plugins.ape_pocketsigner import PocketAccount
from tests.support import forks
from tests.support.networks import rpc
from tests.support.samples import proposal_with
from tests.support.sampling import sampled

OWNER, OTHER = dev_account(8), dev_account(9)
MESSAGE = SignableMessage(b"\x01", keccak(b"domain"), keccak(b"message"))
INITCODE = bytes.fromhex("600a600c600039600a6000f3602a60005260206000f3")
"""Creation code of a contract that returns 42."""
PLUGINS = str(ROOT / "tests" / "plugins")
Wallet = Callable[..., ApeAccount]


@pytest.fixture
def notes() -> list[str]:
    """Return the list of notes printed for the user."""
    return []


@pytest.fixture
def wallet(tmp_path: Path, notes: list[str]) -> Wallet:
    """Return a factory of accounts with a simulated device, which is unplugged if `mood` is None."""

    def make(mood: str | None = "willing", **habits: Any) -> ApeAccount:
        device, file = tmp_path / "usb", tmp_path / "pocket.json"
        file.write_text(json.dumps({"address": OWNER.address, "port": str(device)}))
        if mood:
            device.write_text(json.dumps({"mood": mood, "key": OWNER.key.hex()} | habits))
        return ApeAccount("pocket", OWNER.address, PocketAccount(account_file_path=file), notes.append)

    return make


@pytest.mark.parametrize("first", [0, 27, 35, 255], ids=str)
def test_a_message_is_signed_with_any_recovery_id_convention(first: int, wallet: Wallet, notes: list[str]) -> None:
    """A message is signed correctly for every recovery id convention that a plugin may use."""
    signed = wallet(**{"counts from": first} if first != 255 else {}).sign_message(MESSAGE)
    assert signed == OWNER.sign_message(MESSAGE)
    assert Account.recover_message(MESSAGE, signature=signed.signature) == OWNER.address
    assert "approve on the device" in notes[0]


def test_short_signature_values_are_padded(wallet: Wallet) -> None:
    """Signature values that a plugin returns without leading zeros are padded to 32 bytes."""
    texts = (encode_defunct(text=str(number)) for number in range(10_000))
    message = next(m for m in texts if OWNER.sign_message(m).r < 1 << 248)
    assert wallet(short=True).sign_message(message) == OWNER.sign_message(message)


def test_an_owner_signs_a_proposal(wallet: Wallet) -> None:
    """A plugin account signs a proposal exactly as a plain account with the same key does."""
    proposal = proposal_with()
    assert sign(proposal, wallet()) == sign(proposal, OWNER)


@pytest.mark.parametrize("habits", [{}, {"counts from": 1}, {"short": True}], ids=["plain", "constant", "short"])
def test_the_chain_accepts_its_transactions(habits: dict[str, Any], wallet: Wallet, anvil: Chain) -> None:
    """If a plugin always returns the same recovery id, the chain still accepts a contract creation and a call."""
    account = wallet(**habits)
    address = anvil.send(account, INITCODE).contract
    assert address is not None
    assert anvil.send(account, b"hello", to=address).gas_used > 21_000


@pytest.mark.parametrize("to", [None, OTHER.address], ids=["create", "call"])
def test_a_transaction_with_a_gas_price_is_accepted(to: str | None, wallet: Wallet, anvil: Chain) -> None:
    """A legacy transaction with a gas price is signed with its chain id (EIP-155), and the node accepts it."""
    nonce = int(rpc(anvil, "eth_getTransactionCount", OWNER.address, "pending"), 16)
    fields: dict[str, Any] = {
        "from": OWNER.address,
        "data": "0x00",
        "value": 1,
        "nonce": nonce,
        "chainId": anvil.chain_id,
    }
    # Other tests share this node, and a higher gas price would raise the tip that the node suggests to them.
    fields |= {"gas": 100_000, "gasPrice": 2_000_000_000} | ({"to": to} if to else {})
    signed = wallet().sign_transaction(fields)
    sender = {name: value for name, value in fields.items() if name != "from"}
    assert signed.raw_transaction == OWNER.sign_transaction(sender).raw_transaction
    assert rpc(anvil, "eth_sendRawTransaction", "0x" + signed.raw_transaction.hex()) == "0x" + signed.hash.hex()


SAYINGS = {
    "refuses": "did not sign: the request was refused on the device, or the device is locked or not connected. Conne",
    "loud": "did not sign: Action cancelled by user",
    "locked": "did not sign: UsbError. Connect and unlock the device",
    "old": "did not sign: Unsupported message-signing specification. Connect",
    "unplugged": "did not sign: Unable to open device path. Connect and unlock",
}


@pytest.mark.parametrize("mood", SAYINGS)
def test_a_missing_signature_is_reported(mood: str, wallet: Wallet) -> None:
    """Every failure of a plugin to sign becomes one error with a reason and a remedy."""
    with pytest.raises(RefusedError) as refused:
        wallet(None if mood == "unplugged" else mood).sign_message(MESSAGE)
    assert SAYINGS[mood] in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("mood", ["refuses", "loud", "locked", None])
def test_a_transaction_that_was_not_signed_is_not_sent(mood: str | None, wallet: Wallet, anvil: Chain) -> None:
    """If the plugin does not sign, its refusal is raised and no transaction is sent."""
    before = rpc(anvil, "eth_getTransactionCount", OWNER.address, "pending")
    with pytest.raises(RefusedError, match="ape:pocket did not sign"):
        anvil.send(wallet(mood), INITCODE)
    assert rpc(anvil, "eth_getTransactionCount", OWNER.address, "pending") == before


def test_a_device_with_another_account_is_refused(wallet: Wallet, anvil: Chain) -> None:
    """A signature is refused if the device has another account than expected."""
    account = wallet(key=OTHER.key.hex())
    with pytest.raises(RefusedError, match=f"cannot be used: {OWNER.address} did not sign the requested data"):
        account.sign_message(MESSAGE)
    with pytest.raises(RefusedError, match="may have another account"):
        anvil.send(account, INITCODE)


def test_a_transaction_signed_for_another_chain_is_refused(wallet: Wallet, anvil: Chain) -> None:
    """A transaction that a plugin signed for another chain id is refused."""
    with pytest.raises(RefusedError, match="may have signed for another chain"):
        anvil.send(wallet(chain=1), INITCODE)


def test_a_bare_hash_is_never_signed(wallet: Wallet) -> None:
    """A plugin account refuses to sign a bare hash, because the device cannot display its meaning."""
    with pytest.raises(RefusedError, match="does not sign a bare hash"):
        wallet().unsafe_sign_hash(Hash32(keccak(b"anything")))


def test_output_of_a_plugin_is_not_on_stdout(wallet: Wallet, capsys: pytest.CaptureFixture[str]) -> None:
    """Output that a plugin prints goes to stderr, because stdout is reserved for the command's result."""
    wallet().sign_message(MESSAGE)
    printed = capsys.readouterr()
    assert (printed.out, "on your device" in printed.err) == ("", True)


def test_an_unknown_alias_is_reported() -> None:
    """The error for an unknown alias names the searched folder and the command that creates an alias."""
    with pytest.raises(UsageError, match=r"no account no-such-alias: Ape searched .*accounts.*ape ledger add"):
        open_ape_account("no-such-alias", note=print)


def opened_elsewhere(home: Path, uri: str, *, before: str = "") -> str:
    """Open an account in a new process with the plugin installed.

    Returns what the process printed: the address or the error, and whether Ape was imported.
    """
    code = f"""
import sys
{before}
from blockota.errors import BlockOTAError
from blockota.keys import account_of
try:
    print(account_of({uri!r}, is_local_chain=False, ask_password=lambda _: "x").address, "ape" in sys.modules)
except BlockOTAError as error:
    print(error, "ape" in sys.modules)
"""
    environment = {"HOME": str(home), "PYTHONPATH": f"{PLUGINS}:{ROOT}"}
    done = forks.run(["-c", code], folder=home, environment=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a home folder with a plugin account and an Ape keystore."""
    for plugin in ("pocketsigner", "accounts"):
        (tmp_path / ".ape" / plugin).mkdir(parents=True)
    (tmp_path / ".ape" / "pocketsigner" / "pocket.json").write_text(json.dumps({"address": OWNER.address.lower()}))
    keystore = Account.encrypt(OTHER.key, "x", iterations=2)
    (tmp_path / ".ape" / "accounts" / "desk.json").write_text(json.dumps(keystore))
    return tmp_path


def test_an_alias_opens_through_the_plugin_that_is_installed(home: Path) -> None:
    """An alias of an installed plugin is opened through Ape without contacting the device."""
    assert opened_elsewhere(home, "ape:pocket") == f"{OWNER.address} True\n"


def test_a_keystore_of_ape_opens_without_ape(home: Path) -> None:
    """An Ape keystore is opened without importing Ape."""
    assert opened_elsewhere(home, "ape:desk") == f"{OTHER.address} False\n"


def test_a_missing_ape_is_reported(home: Path) -> None:
    """The error for a missing Ape package states that Ape is missing, and asks for its installation."""
    output = opened_elsewhere(home, "ape:pocket", before="sys.modules['ape'] = None")
    assert "ape:pocket cannot be opened: " in output
    assert "does not exist, and Ape" in output
    assert "after Ape itself if it is missing" in output


@pytest.mark.sampled
@pytest.mark.parametrize("content", sampled(["", "{}", '{"address": 5}', '{"address": "0x12"}'], one_in=2))
def test_a_damaged_account_file_is_reported(content: str, home: Path) -> None:
    """A damaged account file of a plugin is reported as one error."""
    (home / ".ape" / "pocketsigner" / "pocket.json").write_text(content)
    assert opened_elsewhere(home, "ape:pocket").startswith("Ape's accounts cannot be read: ")
