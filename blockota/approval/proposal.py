"""A proposal is a file with one transaction of a Safe, which the owners sign independently. Pure.

The file contains the Safe transaction, a reason, the proposer's name and an expiry time. The description that owners
see is always decoded from the calldata. The field ``intent`` of the file repeats the description for people who open
the file. A file whose ``intent`` differs from the calldata is refused.

A Safe verifies only the transaction, which does not contain reason, proposer and expiry. Owners therefore sign a second
EIP-712 message, the text message, with the type `TEXT_TYPE`. The text message has the domain
``EIP712Domain(string name,uint256 chainId,address verifyingContract)`` with `TEXT_DOMAIN_NAME`, the chain id, and the
address of the Safe.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from blockota.approval.intent import KnownCall, describe, one_line, read_call
from blockota.approval.safe_transaction import CALL, DELEGATECALL, SafeTransaction, signable
from blockota.errors import ProposalError
from blockota.ethereum import keccak
from blockota.formats.abi import encode
from blockota.model.release import show_time
from blockota.strict_json import address, decimal, dump, fault, hexadecimal, integer, load

if TYPE_CHECKING:
    from eth_account.messages import SignableMessage

_FORMAT = "blockota-proposal-1"
TEXT_DOMAIN_NAME = "BlockOTA proposal"
TEXT_TYPE = "ProposalText(bytes32 safeTxHash,string reason,string proposer,uint256 expiresAt,bytes32 fileDigest)"
"""Type of the text message (``encodeType`` in EIP-712). With this message, owners sign reason, proposer and expiry."""
_HEADLINE = ("product", "version", "owner", "oldOwner", "newOwner", "called", "name", "kind", "uuid", "site", "number")
"""The labels of an action whose values are in the headline of its proposal."""
_TEXT_DOMAIN = keccak(text="EIP712Domain(string name,uint256 chainId,address verifyingContract)")


@dataclass(frozen=True, kw_only=True)
class Proposal(SafeTransaction):
    """An unsigned transaction of a Safe, with a reason, a proposer and an expiry for the owners.

    Attributes:
        reason: why the transaction is proposed, one line for the other owners.
        proposer: name or role that the proposer entered, one line; not authenticated.
        created: creation time of the proposal, in Unix seconds.
        expires: time, in Unix seconds, from which the proposal must not be signed or executed.

    Examples:
        >>> proposal, _ = load_proposal("1.1.0.json")
        >>> proposal.reason, proposal.intent[0]["version"], proposal == Proposal.from_json(proposal.to_json())
        ('fixes the watchdog', '1.1.0', True)
    """

    reason: str
    created: int
    expires: int
    proposer: str = ""

    @cached_property
    def call(self) -> KnownCall | None:
        """The decoded calldata; None for a call that a proposal must not contain. The calldata is decoded once."""
        return read_call(self)

    @cached_property
    def intent(self) -> list[dict[str, str]]:
        """The transaction in words, as one dict of labels and values for each action."""
        return describe(self, self.call)

    @property
    def headline(self) -> str:
        """The effect of the transaction in a few words."""
        first, *others = self.intent
        action = re.split("[:,]", first["action"])[0]
        about = " ".join(first[label] for label in _HEADLINE if label in first)
        more = f" and {len(others)} more" if others else ""
        return f"{action}: {about}{more}" if about else f"{action}{more}"

    @property
    def is_known(self) -> bool:
        """Whether the transaction's effect is known: its call can be decoded, or it is a rejection."""
        return self.is_rejection or self.call is not None

    @property
    def releases(self) -> list[dict[str, Any]]:
        """The releases that the proposal publishes, as arguments of ``publish``; empty for other proposals."""
        return list(self.call.arguments["releases"]) if self.call and self.call.name == "publish" else []

    @property
    def digest(self) -> str:
        """Keccak-256 of the whole proposal file in hex, including the fields outside the Safe transaction."""
        return keccak(self.to_json()).hex()

    @property
    def text_domain_hash(self) -> bytes:
        """EIP-712 domain separator of the text message."""
        name = keccak(text=TEXT_DOMAIN_NAME)
        return keccak(
            encode(["bytes32", "bytes32", "uint256", "address"], [_TEXT_DOMAIN, name, self.chain_id, self.safe])
        )

    @property
    def text_message_hash(self) -> bytes:
        """EIP-712 struct hash of the text message. The message contains the digest of the whole file."""
        reason, proposer = keccak(text=self.reason), keccak(text=self.proposer)
        values = [keccak(text=TEXT_TYPE), self.safe_tx_hash, reason, proposer, self.expires, bytes.fromhex(self.digest)]
        return keccak(encode(["bytes32", "bytes32", "bytes32", "bytes32", "uint256", "bytes32"], values))

    @property
    def text_signable(self) -> SignableMessage:
        """The text message in the form that accounts sign."""
        return signable(self.text_domain_hash, self.text_message_hash)

    def to_json(self) -> bytes:
        """Return the bytes of the proposal file. Equal proposals give equal bytes."""
        return dump(
            {
                "format": _FORMAT,
                "chainId": self.chain_id,
                "safe": self.safe,
                "nonce": self.nonce,
                "to": self.to,
                "value": str(self.value),
                "data": "0x" + self.data.hex(),
                "operation": self.operation,
                "safeTxGas": str(self.safe_tx_gas),
                "baseGas": str(self.base_gas),
                "gasPrice": str(self.gas_price),
                "gasToken": self.gas_token,
                "refundReceiver": self.refund_receiver,
                "intent": self.intent,
                "reason": self.reason,
                "proposer": self.proposer,
                "created": self.created,
                "expires": self.expires,
            }
        )

    @classmethod
    def from_json(cls, raw: bytes) -> Proposal:
        """Read a proposal file.

        Raises:
            ProposalError: the file is not a proposal, or its intent differs from its calldata.
        """
        remedy = "give the proposal file, or ask its sender for it again"
        fields = load(raw, form=_FORMAT, remedy=remedy)
        try:
            proposal = cls(
                chain_id=integer(fields, "chainId"),
                safe=address(fields, "safe"),
                nonce=integer(fields, "nonce"),
                to=address(fields, "to"),
                value=decimal(fields, "value"),
                data=hexadecimal(fields, "data"),
                operation=integer(fields, "operation"),
                safe_tx_gas=decimal(fields, "safeTxGas"),
                base_gas=decimal(fields, "baseGas"),
                gas_price=decimal(fields, "gasPrice"),
                gas_token=_token(fields, "gasToken"),
                refund_receiver=_token(fields, "refundReceiver"),
                reason=one_line(fields["reason"]),
                proposer=one_line(fields["proposer"]),
                created=integer(fields, "created"),
                expires=integer(fields, "expires"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ProposalError("the file is not a proposal", why=fault(error), remedy=remedy) from error
        if proposal.operation not in (CALL, DELEGATECALL):
            why = f"its field operation is {proposal.operation}, which is neither 0 (call) nor 1 (delegatecall)"
            raise ProposalError("the file is not a proposal", why=why, remedy=remedy)
        # Encode the proposal again, and compare. This decodes the calldata, and detects unknown fields and values in
        # another notation.
        if load(proposal.to_json(), form=_FORMAT) != fields:
            raise ProposalError(
                "the proposal contradicts itself",
                why="its intent differs from its transaction, or the file has a field that a proposal cannot have",
                remedy="do not sign the proposal; ask its proposer",
            )
        return proposal

    def check_time(self, now: int) -> None:
        """Refuse an expired proposal.

        Raises:
            ProposalError: the proposal has expired at the time `now`, in Unix seconds.
        """
        if now >= self.expires:
            why = f"it was valid until {show_time(self.expires)}"
            raise ProposalError("the proposal has expired", why=why, remedy="make a new proposal")


def _token(fields: dict[str, Any], name: str) -> str:
    """Return a checksummed address or the zero address."""
    value = fields[name]
    return value if isinstance(value, str) and re.fullmatch("0x0{40}", value) else address(fields, name)
