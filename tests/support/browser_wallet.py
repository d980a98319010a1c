"""A browser wallet (EIP-1193) with one test account.

Like MetaMask, the wallet returns addresses in lower case, and errors with a code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from eth_account.messages import encode_defunct
from eth_account.signers.base import BaseAccount

from blockota.chain import Chain

REJECTED, UNAUTHORIZED, UNSUPPORTED, UNKNOWN_CHAIN = 4001, 4100, 4200, 4902
"""Error codes of EIP-1193, and the code of EIP-3326 for a chain that the wallet does not know."""


class WalletRefusalError(Exception):
    """The wallet refuses a request."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclass
class BrowserWallet:
    """A wallet that signs a page's requests with a test key.

    Attributes:
        account: the account.
        chain: the only chain that the wallet supports.
        is_rejecting: whether the simulated person rejects each request for a signature.
        asked: the method and the displayed text of each request for a signature.
    """

    account: BaseAccount
    chain: Chain
    is_rejecting: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)

    def answer(self, method: str, params: list[Any]) -> dict[str, Any]:
        """Return the result of a request, or its error."""
        methods: dict[str, Callable[[], object]] = {
            "eth_requestAccounts": lambda: [self.account.address.lower()],
            "personal_sign": lambda: self._sign(*params),
            "wallet_switchEthereumChain": lambda: self._switch(params[0]),
            "eth_sendTransaction": lambda: self._send(params[0]),
        }
        if method not in methods:
            return {"error": {"code": UNSUPPORTED, "message": f"{method} is not supported"}}
        try:
            return {"result": methods[method]()}
        except WalletRefusalError as error:
            return {"error": {"code": error.code, "message": error.message}}

    def _sign(self, text: str, address: str) -> str:
        shown = bytes.fromhex(text.removeprefix("0x")).decode()
        self._show("personal_sign", shown, address)
        return f"0x{self.account.sign_message(encode_defunct(text=shown)).signature.hex()}"

    def _switch(self, wanted: dict[str, str]) -> None:
        if int(wanted["chainId"], 16) != self.chain.chain_id:
            raise WalletRefusalError(UNKNOWN_CHAIN, f"Unrecognized chain ID {wanted['chainId']}.")

    def _send(self, wanted: dict[str, str]) -> str:
        self._show("eth_sendTransaction", wanted["data"], wanted["from"])
        assert int(wanted["value"], 16) == 0
        receipt = self.chain.send(self.account, bytes.fromhex(wanted["data"][2:]), to=wanted["to"])
        return f"0x{receipt.transaction.hex()}"

    def _show(self, method: str, shown: str, address: str) -> None:
        """Show a request to the simulated person, who may reject it."""
        if address.lower() != self.account.address.lower():
            raise WalletRefusalError(UNAUTHORIZED, "The requested account has not been authorized by the user.")
        self.asked.append((method, shown))
        if self.is_rejecting:
            raise WalletRefusalError(REJECTED, "User rejected the request.")
