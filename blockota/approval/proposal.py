"""A proposal: what the vendor's Safe is asked to do, as one file that owners sign one after the other.

The file carries the Safe transaction, a reason, who proposed it, and an expiry. What it means is always decoded from
its calldata; the ``intent`` in the file is for people who open it, and a file whose intent says something else is
refused. All of this is pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from eth_utils.crypto import keccak

from blockota.approval.intent import CONTRACTS, describe, one_line, read_call
from blockota.approval.safe_transaction import CALL, DELEGATECALL, SafeTransaction
from blockota.errors import ProposalError
from blockota.formats.abi import SELECTOR_SIZE, Decoded
from blockota.model.release import show_time
from blockota.strict_json import address, decimal, dump, fault, hexadecimal, integer, load

_FORMAT = "blockota-proposal-1"


@dataclass(frozen=True, kw_only=True)
class Proposal(SafeTransaction):
    """One transaction of a Safe, not yet signed, and what its owners should know of it.

    Attributes:
        reason: why, for the other owners; one line.
        proposer: who made it, as they say themselves; one line.
        created: Unix time, in seconds.
        expires: Unix time, in seconds, from which on nobody should sign or execute it.
    """

    reason: str
    created: int
    expires: int
    proposer: str = ""

    @property
    def call(self) -> Decoded:
        """What the calldata asks for.

        Raises:
            ProposalError: it is no call of our contracts, nor one of the Safe's about itself.
        """
        return self._read_call()[1]

    @property
    def contract(self) -> str:
        """The name of the contract whose call it is: BlockOTA, FirmwareReplication or Safe.

        Raises:
            ProposalError: it is none of these.
        """
        return self._read_call()[0]

    @property
    def is_known(self) -> bool:
        """Whether what it does can be told: a call of our contracts, one of the Safe's about itself, or a rejection."""
        return self.is_rejection or read_call(self) is not None

    @property
    def releases(self) -> list[dict[str, Any]]:
        """The arguments of each release that it publishes; none where it does something else."""
        read = read_call(self)
        return list(read[1].arguments["releases"]) if read and read[1].name == "publish" else []

    @property
    def digest(self) -> str:
        """Names the whole file, the parts that the Safe does not see included (hex of keccak-256)."""
        return keccak(self.to_json()).hex()

    def to_json(self) -> bytes:
        """The file's bytes, the same for equal proposals."""
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
                "intent": describe(self),
                "reason": self.reason,
                "proposer": self.proposer,
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
        fields = load(raw, form=_FORMAT, remedy="give the proposal first, signatures with --signature")
        try:
            proposal = cls(
                chain_id=integer(fields, "chainId"),
                safe=address(fields, "safe"),
                nonce=integer(fields, "nonce"),
                to=address(fields, "to"),
                value=decimal(fields, "value"),
                data=hexadecimal(fields, "data"),
                operation=_operation(fields),
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
            raise ProposalError("the file is no proposal", why=fault(error)) from error
        if load(proposal.to_json(), form=_FORMAT) != fields:
            raise ProposalError(
                "the proposal contradicts itself",
                why="its intent, or a field that does not belong there, is not what its calldata does",
                remedy="do not sign it; ask who made it",
            )
        return proposal

    def check_time(self, now: int) -> None:
        """Refuse a proposal that has expired.

        Raises:
            ProposalError: `now`, in Unix seconds, is not before its expiry.
        """
        if now >= self.expires:
            why = f"it was good until {show_time(self.expires)}"
            raise ProposalError("the proposal has expired", why=why, remedy="make it again")

    def _read_call(self) -> tuple[str, Decoded]:
        read = read_call(self)
        if read is None:
            raise ProposalError(
                "the proposal's call cannot be read",
                why=f"0x{self.data[:SELECTOR_SIZE].hex()} with {len(self.data)} bytes is no call of "
                f"{' or '.join(CONTRACTS)}, nor of the Safe about itself",
                remedy="do not sign it; ask who made it",
            )
        return read


def _operation(fields: dict[str, Any]) -> int:
    value = integer(fields, "operation")
    if value not in (CALL, DELEGATECALL):
        raise ValueError(f"operation is {value}, neither 0 (call) nor 1 (delegatecall)")
    return value


def _token(fields: dict[str, Any], name: str) -> str:
    """An address whose zero has no letters for a checksum to show in."""
    value = fields[name]
    return value if isinstance(value, str) and re.fullmatch("0x0{40}", value) else address(fields, name)
