"""A proposal: what the vendor's Safe is asked to do, as one file that owners sign one after the other.

The file carries the Safe transaction, a reason and an expiry. What it means is always decoded from its calldata;
the ``intent`` in the file is for people who open it, and a file whose intent says something else is refused.
A signature is a file of its own. All of this is pure; hashes follow EIP-712 and Safe's ``SafeTx`` type.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from eth_account import Account
from eth_account.messages import SignableMessage
from eth_account.signers.base import BaseAccount
from eth_keys.exceptions import BadSignature
from eth_utils.address import is_checksum_address
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError

from blockota.abi import Decoded, encode
from blockota.errors import ProposalError
from blockota.intent import CONTRACTS, describe, one_line, read_call
from blockota.release import show_time

_DOMAIN = keccak(text="EIP712Domain(uint256 chainId,address verifyingContract)")
_SAFE_TX = keccak(
    text="SafeTx(address to,uint256 value,bytes data,uint8 operation,uint256 safeTxGas,uint256 baseGas,"
    "uint256 gasPrice,address gasToken,address refundReceiver,uint256 nonce)"
)
_ZERO = "0x" + "00" * 20
_PROPOSAL_FORMAT, _SIGNATURE_FORMAT = "blockota-proposal-1", "blockota-signature-1"
_SIGNATURE_SIZE = 65
_RECOVERY_IDS = (27, 28)  # eth-account takes others, which mean something else to a Safe
MAX_FILE_SIZE = 1 << 20
"""Bytes that a proposal or signature file may have."""


@dataclass(frozen=True)
class Proposal:
    """One transaction of a Safe, not yet signed.

    The transaction is a plain call without value, gas refund or delegatecall; there is no way to express another.

    Attributes:
        chain_id: the chain (EIP-155).
        safe: checksummed address of the Safe.
        nonce: the Safe's nonce that the transaction takes.
        to: checksummed address of the contract that is called.
        data: calldata.
        reason: why, for the other owners; one line.
        created: Unix time, in seconds.
        expires: Unix time, in seconds, from which on nobody should sign or execute it.
    """

    chain_id: int
    safe: str
    nonce: int
    to: str
    data: bytes
    reason: str
    created: int
    expires: int

    @property
    def call(self) -> Decoded:
        """What the calldata asks for.

        Raises:
            ProposalError: it is no call of our contracts.
        """
        return self._read_call()[1]

    @property
    def contract(self) -> str:
        """The name of the contract whose call it is.

        Raises:
            ProposalError: it is none of ours.
        """
        return self._read_call()[0]

    @property
    def domain_hash(self) -> bytes:
        """EIP-712 domain separator of the Safe."""
        return keccak(encode(["bytes32", "uint256", "address"], [_DOMAIN, self.chain_id, self.safe]))

    @property
    def message_hash(self) -> bytes:
        """EIP-712 struct hash of the ``SafeTx``."""
        types = ["bytes32", "address", "uint256", "bytes32", "uint8", *["uint256"] * 3, "address", "address", "uint256"]
        values = [_SAFE_TX, self.to, 0, keccak(self.data), 0, 0, 0, 0, _ZERO, _ZERO, self.nonce]
        return keccak(encode(types, values))

    @property
    def safe_tx_hash(self) -> bytes:
        """What the owners sign."""
        return keccak(b"\x19\x01" + self.domain_hash + self.message_hash)

    @property
    def digest(self) -> str:
        """Names the whole file, the parts that the Safe does not see included (hex of keccak-256)."""
        return keccak(self.to_json()).hex()

    @property
    def signable(self) -> SignableMessage:
        """The form in which an account signs it."""
        return SignableMessage(b"\x01", self.domain_hash, self.message_hash)

    def to_json(self) -> bytes:
        """The file's bytes, the same for equal proposals."""
        return _dump(
            {
                "format": _PROPOSAL_FORMAT,
                "chainId": self.chain_id,
                "safe": self.safe,
                "nonce": self.nonce,
                "to": self.to,
                "data": "0x" + self.data.hex(),
                "intent": describe(self.call),
                "reason": self.reason,
                "created": self.created,
                "expires": self.expires,
            }
        )

    @classmethod
    def from_json(cls, raw: bytes) -> Proposal:
        """Read a file.

        Raises:
            ProposalError: it is no proposal, was changed, or its intent is not what its calldata does.
        """
        fields = _load(raw, _PROPOSAL_FORMAT)
        try:
            proposal = cls(
                chain_id=_integer(fields, "chainId"),
                safe=_address(fields, "safe"),
                nonce=_integer(fields, "nonce"),
                to=_address(fields, "to"),
                data=_hex(fields, "data"),
                reason=one_line(fields["reason"]),
                created=_integer(fields, "created"),
                expires=_integer(fields, "expires"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ProposalError("the file is no proposal", why=_fault(error)) from error
        if json.loads(proposal.to_json()) != fields:
            raise ProposalError(
                "the proposal contradicts itself",
                why="its intent, or a field that does not belong there, is not what its calldata does",
                remedy="do not sign it; ask who made it",
            )
        return proposal

    def _read_call(self) -> tuple[str, Decoded]:
        read = read_call(self.data)
        if read is None:
            raise ProposalError(
                "the proposal's call cannot be read",
                why=f"0x{self.data[:4].hex()} with {len(self.data)} bytes is no call of {' or '.join(CONTRACTS)}",
                remedy="do not sign it; ask who made it",
            )
        return read

    def check_time(self, now: int) -> None:
        """Refuse a proposal that has expired.

        Raises:
            ProposalError: `now`, in Unix seconds, is not before its expiry.
        """
        if now >= self.expires:
            why = f"it was good until {show_time(self.expires)}"
            raise ProposalError("the proposal has expired", why=why, remedy="make it again")


@dataclass(frozen=True)
class Signature:
    """One owner's signature to one proposal.

    Attributes:
        proposal: the proposal's `Proposal.digest`.
        safe_tx_hash: what was signed.
        signer: checksummed address of the owner.
        signature: r, s and v, 65 bytes.
    """

    proposal: str
    safe_tx_hash: bytes
    signer: str
    signature: bytes

    def to_json(self) -> bytes:
        """The file's bytes."""
        return _dump(
            {
                "format": _SIGNATURE_FORMAT,
                "proposal": self.proposal,
                "safeTxHash": "0x" + self.safe_tx_hash.hex(),
                "signer": self.signer,
                "signature": "0x" + self.signature.hex(),
            }
        )

    @classmethod
    def from_json(cls, raw: bytes) -> Signature:
        """Read a file.

        Raises:
            ProposalError: it is no signature file.
        """
        fields = _load(raw, _SIGNATURE_FORMAT)
        try:
            return cls(
                proposal=str(fields["proposal"]),
                safe_tx_hash=_hex(fields, "safeTxHash"),
                signer=_address(fields, "signer"),
                signature=_hex(fields, "signature"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ProposalError("the file is no signature", why=_fault(error)) from error


def sign(proposal: Proposal, account: BaseAccount) -> Signature:
    """Sign a proposal with an owner's key."""
    signed = account.sign_message(proposal.signable)
    return Signature(proposal.digest, proposal.safe_tx_hash, account.address, bytes(signed.signature))


def accept(
    proposal: Proposal, signatures: Iterable[Signature], *, owners: Sequence[str], threshold: int
) -> list[Signature]:
    """Check signatures as the Safe will, and put them into the order it wants (ascending signer).

    Args:
        proposal: what was signed.
        signatures: from any number of files.
        owners: the Safe's owners today.
        threshold: how many of them must sign.

    Raises:
        ProposalError: one is for something else, by a stranger, forged or given twice, or there are too few.
    """
    accepted: dict[str, Signature] = {}
    for signature in signatures:
        check_signature(proposal, signature)
        _check_owner(signature, owners)
        if signature.signer in accepted:
            raise ProposalError(
                f"{signature.signer} signed twice", why="each owner has one vote", remedy="give each signature once"
            )
        accepted[signature.signer] = signature
    if len(accepted) < threshold:
        raise ProposalError(
            "there are too few signatures",
            why=f"{len(accepted)} of {threshold} needed were given",
            remedy="have another owner run `blockota proposal sign`",
        )
    return sorted(accepted.values(), key=lambda signature: int(signature.signer, 16))


def check_signature(proposal: Proposal, signature: Signature) -> None:
    """Refuse a signature that its signer did not make to this proposal.

    Raises:
        ProposalError: it is for another proposal, or forged.
    """
    if signature.proposal != proposal.digest or signature.safe_tx_hash != proposal.safe_tx_hash:
        raise ProposalError(
            f"the signature of {signature.signer} is for another proposal",
            why="the proposal was changed after it was signed, or the file belongs to another one",
            remedy="sign the proposal again",
        )
    if _recover(proposal, signature) != signature.signer:
        raise ProposalError(f"the signature of {signature.signer} is forged", why="that key did not make it")


def _check_owner(signature: Signature, owners: Sequence[str]) -> None:
    if signature.signer not in owners:
        raise ProposalError(
            f"{signature.signer} is no owner of the Safe",
            why=f"the owners are {', '.join(owners)}",
            remedy="have an owner sign",
        )


def _recover(proposal: Proposal, signature: Signature) -> str:
    if len(signature.signature) != _SIGNATURE_SIZE or signature.signature[-1] not in _RECOVERY_IDS:
        return ""
    try:
        return str(Account.recover_message(proposal.signable, signature=signature.signature))
    except (BadSignature, ValidationError, ValueError):
        return ""


def _dump(fields: dict[str, Any]) -> bytes:
    return (json.dumps(fields, indent=2) + "\n").encode()


def _load(raw: bytes, form: str) -> dict[str, Any]:
    try:
        fields = json.loads(raw, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ProposalError("the file cannot be read", why=f"it is no JSON object of ours ({error})") from error
    if not isinstance(fields, dict) or fields.get("format") != form:
        raise ProposalError(
            "the file is of another kind",
            why=f"its format is not {form}",
            remedy="give the proposal first, signatures with --signature",
        )
    return fields


def _fault(error: Exception) -> str:
    return f"its field {error} is missing" if isinstance(error, KeyError) else f"its field {error}"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _integer(fields: dict[str, Any], name: str) -> int:
    value = fields[name]
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise ValueError(f"{name} is {value!r:.40}, no whole number of at most 64 bits")
    return value


def _address(fields: dict[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str) or not is_checksum_address(value):
        raise ValueError(f"{name} is {value!r:.60}, no checksummed address")
    return value


def _hex(fields: dict[str, Any], name: str) -> bytes:
    value = fields[name]
    if not isinstance(value, str) or not re.fullmatch(r"0x(?:[0-9a-f]{2})*", value):
        raise ValueError(f"{name} is {value!r:.40}, no hex text")
    return bytes.fromhex(value[2:])
