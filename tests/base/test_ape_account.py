"""Accounts of Ape's plugins: a real plugin whose device is a file, on a real chain, with all its habits and moods."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
from tests.conftest import ROOT, rpc
from tests.plugins.ape_pocketsigner import PocketAccount
from tests.support.samples import proposal_with

OWNER, OTHER = dev_account(8), dev_account(9)
MESSAGE = SignableMessage(b"\x01", keccak(b"domain"), keccak(b"message"))
INITCODE = bytes.fromhex("600a600c600039600a6000f3602a60005260206000f3")
"""Creates a contract that answers 42."""
PLUGINS = str(ROOT / "tests" / "plugins")
Wallet = Callable[..., ApeAccount]


@pytest.fixture
def notes() -> list[str]:
    """What the person was told."""
    return []


@pytest.fixture
def wallet(tmp_path: Path, notes: list[str]) -> Wallet:
    """Makes an account with a device of that mood and those habits; None for the mood means that it is unplugged."""

    def make(mood: str | None = "willing", **habits: Any) -> ApeAccount:
        device, file = tmp_path / "usb", tmp_path / "pocket.json"
        file.write_text(json.dumps({"address": OWNER.address, "port": str(device)}))
        if mood:
            device.write_text(json.dumps({"mood": mood, "key": OWNER.key.hex()} | habits))
        return ApeAccount("pocket", OWNER.address, PocketAccount(account_file_path=file), notes.append)

    return make


@pytest.mark.parametrize("first", [0, 27, 35, 255], ids=str)
def test_a_message_is_signed_however_the_plugin_counts(first: int, wallet: Wallet, notes: list[str]) -> None:
    """The signature is the one that the key itself makes, and the person is told where to look."""
    signed = wallet(**{"counts from": first} if first != 255 else {}).sign_message(MESSAGE)
    assert signed == OWNER.sign_message(MESSAGE)
    assert Account.recover_message(MESSAGE, signature=signed.signature) == OWNER.address
    assert "approve on the device" in notes[0]


def test_numbers_with_leading_zeros_are_filled_up(wallet: Wallet) -> None:
    """Some plugins strip them; one signature in 128 has such a number."""
    texts = (encode_defunct(text=str(number)) for number in range(10_000))
    message = next(m for m in texts if OWNER.sign_message(m).r < 1 << 248)
    assert wallet(short=True).sign_message(message) == OWNER.sign_message(message)


def test_an_owner_signs_a_proposal(wallet: Wallet) -> None:
    """The signature file is the same as from a keystore."""
    proposal = proposal_with()
    assert sign(proposal, wallet()) == sign(proposal, OWNER)


@pytest.mark.parametrize("habits", [{}, {"counts from": 1}, {"short": True}], ids=["plain", "constant", "short"])
def test_the_chain_accepts_its_transactions(habits: dict[str, Any], wallet: Wallet, anvil: Chain) -> None:
    """It creates a contract and calls it; some plugins give back the same recovery id each time."""
    account = wallet(**habits)
    address = anvil.send(account, INITCODE).contract
    assert address is not None
    assert anvil.send(account, b"hello", to=address).gas_used > 21_000


@pytest.mark.parametrize("to", [None, OTHER.address], ids=["create", "call"])
def test_a_transaction_with_a_gas_price_is_accepted(to: str | None, wallet: Wallet, anvil: Chain) -> None:
    """Chains without EIP-1559 want one, signed with their chain id (EIP-155)."""
    nonce = int(rpc(anvil, "eth_getTransactionCount", OWNER.address, "pending"), 16)
    fields: dict[str, Any] = {
        "from": OWNER.address,
        "data": "0x00",
        "value": 1,
        "nonce": nonce,
        "chainId": anvil.chain_id,
    }
    fields |= {"gas": 100_000, "gasPrice": 5_000_000_000} | ({"to": to} if to else {})
    signed = wallet().sign_transaction(fields)
    sender = {name: value for name, value in fields.items() if name != "from"}
    assert signed.raw_transaction == OWNER.sign_transaction(sender).raw_transaction
    assert rpc(anvil, "eth_sendRawTransaction", "0x" + signed.raw_transaction.hex()) == "0x" + signed.hash.hex()


SAYINGS = {
    "refuses": "did not sign: it was refused on the device, or the device is locked or not connected. Connect and un",
    "loud": "did not sign: Action cancelled by user",
    "locked": "did not sign: UsbError. Connect and unlock the device",
    "old": "did not sign: Unsupported message-signing specification. Connect",
    "unplugged": "did not sign: Unable to open device path. Connect and unlock",
}


@pytest.mark.parametrize("mood", SAYINGS)
def test_what_was_not_signed_is_told(mood: str, wallet: Wallet) -> None:
    """Whatever a plugin does when nobody signed, one sentence says why and what to do."""
    with pytest.raises(RefusedError) as refused:
        wallet(None if mood == "unplugged" else mood).sign_message(MESSAGE)
    assert SAYINGS[mood] in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("mood", ["refuses", "loud", "locked", None])
def test_a_transaction_that_was_not_signed_is_not_sent(mood: str | None, wallet: Wallet, anvil: Chain) -> None:
    """The refusal comes out of the chain as it went in, and the account's count stays."""
    before = rpc(anvil, "eth_getTransactionCount", OWNER.address, "pending")
    with pytest.raises(RefusedError, match="ape:pocket did not sign"):
        anvil.send(wallet(mood), INITCODE)
    assert rpc(anvil, "eth_getTransactionCount", OWNER.address, "pending") == before


def test_a_device_with_another_account_is_refused(wallet: Wallet, anvil: Chain) -> None:
    """A colleague's device in the port signs what nobody may take for this owner's word."""
    account = wallet(key=OTHER.key.hex())
    with pytest.raises(RefusedError, match=f"cannot be used: it is not a signature by {OWNER.address}"):
        account.sign_message(MESSAGE)
    with pytest.raises(RefusedError, match="may have another account"):
        anvil.send(account, INITCODE)


def test_a_transaction_signed_for_another_chain_is_refused(wallet: Wallet, anvil: Chain) -> None:
    """A version of a plugin signed everything for chain 1, whatever it was given."""
    with pytest.raises(RefusedError, match="may have signed for another chain"):
        anvil.send(wallet(chain=1), INITCODE)


def test_a_bare_hash_is_never_signed(wallet: Wallet) -> None:
    """Nobody could read on the device what it stands for."""
    with pytest.raises(RefusedError, match="does not sign a bare hash"):
        wallet().unsafe_sign_hash(Hash32(keccak(b"anything")))


def test_what_a_plugin_prints_stays_off_the_result(wallet: Wallet, capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output belongs to the one JSON object of the command."""
    wallet().sign_message(MESSAGE)
    printed = capsys.readouterr()
    assert (printed.out, "on your device" in printed.err) == ("", True)


def test_an_alias_that_ape_does_not_know_is_told() -> None:
    """The sentence names where it looked, and how an alias comes to be."""
    with pytest.raises(UsageError, match=r"no account nobody-has-this: it searched .*accounts.*ape ledger add"):
        open_ape_account("nobody-has-this", note=print)


def opened_elsewhere(home: Path, uri: str, *, before: str = "") -> str:
    """The address or the sentence of a fresh interpreter where the plugin is installed; and whether it loaded Ape."""
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
    environment = os.environ | {"HOME": str(home), "PYTHONPATH": f"{PLUGINS}:{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=home, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder with an account of the plugin and one of Ape's own."""
    for plugin in ("pocketsigner", "accounts"):
        (tmp_path / ".ape" / plugin).mkdir(parents=True)
    (tmp_path / ".ape" / "pocketsigner" / "pocket.json").write_text(json.dumps({"address": OWNER.address.lower()}))
    keystore = Account.encrypt(OTHER.key, "x", iterations=2)
    (tmp_path / ".ape" / "accounts" / "desk.json").write_text(json.dumps(keystore))
    return tmp_path


def test_an_alias_opens_through_the_plugin_that_is_installed(home: Path) -> None:
    """Ape finds the plugin by its package, and the plugin its account; no device is asked yet."""
    assert opened_elsewhere(home, "ape:pocket") == f"{OWNER.address} True\n"


def test_a_keystore_of_ape_opens_without_ape(home: Path) -> None:
    """Loading Ape takes a second, and a technician need not have it."""
    assert opened_elsewhere(home, "ape:desk") == f"{OTHER.address} False\n"


def test_where_ape_is_not_installed_the_remedy_is_told(home: Path) -> None:
    """The runtime dependencies do not hold Ape."""
    said = opened_elsewhere(home, "ape:pocket", before="sys.modules['ape'] = None")
    assert "ape:pocket cannot be opened: " in said
    assert "does not exist" in said
    assert "`pip install eth-ape`" in said


@pytest.mark.parametrize("content", ["", "{}", '{"address": 5}', '{"address": "0x12"}'], ids=range(4))
def test_a_damaged_account_file_is_told(content: str, home: Path) -> None:
    """The plugin's own complaint becomes a sentence."""
    (home / ".ape" / "pocketsigner" / "pocket.json").write_text(content)
    assert opened_elsewhere(home, "ape:pocket").startswith("Ape's accounts cannot be read: ")
