"""An Ape plugin for a simulated hardware wallet; a JSON file is the device, and its ``mood`` selects the behaviour.

The JSON file exists while the simulated device is plugged in. Like ape-ledger and ape-trezor, the package registers an
account type and a container. The package stores ⟨address, derivation path⟩ of each account in its data folder. The
plugin prints prompts on stdout. If nothing was signed, the plugin returns None or raises. The plugin also reproduces
known defects of such plugins.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ape import plugins
from ape.api.accounts import AccountAPI, AccountContainerAPI
from ape.api.transactions import TransactionAPI
from ape.exceptions import AccountsError
from ape.plugins.account import AccountPlugin
from ape.types import AddressType, MessageSignature, TransactionSignature
from eth_account import Account
from eth_account.messages import SignableMessage
from hexbytes import HexBytes


class UsbError(Exception):
    """An exception from a library that the plugin uses; Ape does not translate this exception."""


class SigningError(AccountsError):
    """An exception that the plugin raises itself."""


class PocketAccount(AccountAPI):
    """An account on the simulated device."""

    account_file_path: Path

    @property
    def alias(self) -> str:
        """The account's name."""
        return self.account_file_path.stem

    @property
    def address(self) -> AddressType:
        """The account's address, as read when the account was added."""
        return AddressType(json.loads(self.account_file_path.read_text())["address"])

    def sign_message(self, msg: Any, **signer_options: Any) -> MessageSignature | None:
        """Sign a message on the device; for EIP-712 data the device receives only the two hashes."""
        del signer_options
        device = self._device()
        if not isinstance(msg, SignableMessage) or device["mood"] == "old":
            raise SigningError("Unsupported message-signing specification.")
        if device["mood"] == "refuses":
            return None
        signed = Account.sign_message(msg, device["key"])
        v = signed.v - 27 + device.get("counts from", 27)
        return MessageSignature(v=v, r=_number(signed.r, device), s=_number(signed.s, device))

    def sign_transaction(self, txn: TransactionAPI, **signer_options: Any) -> TransactionAPI | None:
        """Sign a transaction on the device."""
        del signer_options
        print(txn)  # noqa: T201 - as in ape-ledger; Ape may request data from a node for the text
        device = self._device()
        if device["mood"] == "refuses":
            return None
        txn.chain_id = device.get("chain", txn.chain_id)
        fields = txn.model_dump(mode="json", by_alias=True, exclude={"sender"})
        signed = Account.sign_transaction({k: v for k, v in fields.items() if v is not None}, device["key"])
        v = device.get("counts from", signed.v)
        txn.signature = TransactionSignature(v=v, r=_number(signed.r, device), s=_number(signed.s, device))
        return txn

    def _device(self) -> dict[str, Any]:
        """Print the prompts and read the device's file; raise if the device is missing or locked."""
        print("Please follow the prompts\non your device.")  # noqa: T201 - as real plugins do
        try:
            device: dict[str, Any] = json.loads(
                Path(json.loads(self.account_file_path.read_text())["port"]).read_text()
            )
        except FileNotFoundError:
            raise UsbError("Unable to open\n  device path.") from None
        if device["mood"] == "locked":
            raise UsbError
        if device["mood"] == "loud":
            raise SigningError("Action cancelled by user \x1b[31m(0x6985).")
        return device


class PocketContainer(AccountContainerAPI):
    """The accounts that were added."""

    @property
    def aliases(self) -> Iterator[str]:
        """The names of the accounts."""
        return (path.stem for path in self._files)

    @property
    def accounts(self) -> Iterator[AccountAPI]:
        """All accounts that were added."""
        return (PocketAccount(account_file_path=path) for path in self._files)

    def __len__(self) -> int:
        """The number of accounts."""
        return len(list(self._files))

    @property
    def _files(self) -> Iterator[Path]:
        return iter(sorted(Path(self.data_folder).glob("*.json")))


@plugins.register(AccountPlugin)
def account_types() -> tuple[type[AccountContainerAPI], type[AccountAPI]]:
    """Return the container and the account type that the plugin registers with Ape."""
    return PocketContainer, PocketAccount


def _number(number: int, device: dict[str, Any]) -> bytes:
    """Return a number of a signature as bytes; some real plugins strip the leading zeros."""
    return bytes(HexBytes(number)) if device.get("short") else number.to_bytes(32, "big")
