"""Reads and writes the files of Safe's Transaction Builder. Pure.

Source: safe-react-apps, ``apps/tx-builder`` (batch file version 1.0, with its checksum).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blockota.approval.proposal import Proposal
from blockota.approval.safe_transaction import CALL
from blockota.errors import Action, ProposalError
from blockota.ethereum import ZERO_ADDRESS, is_checksum_address, keccak, to_checksum_address
from blockota.strict_json import decimal, dump, fault, load_object, mapping, mappings, text

_VERSION = "1.0"


@dataclass(frozen=True)
class BuilderTransaction:
    """The transaction in a Transaction Builder file.

    Attributes:
        safe: address of the Safe, checksummed; None if the file does not name one.
        to: address that the Safe calls, checksummed.
        value: amount of wei that the call sends.
        description: description in the file, which is not trusted.
    """

    chain_id: int
    safe: str | None
    to: str
    value: int
    data: bytes
    description: str


def to_builder(proposal: Proposal) -> bytes:
    """Write a proposal as a Transaction Builder file. The format does not contain nonce, proposer and expiry.

    Raises:
        ProposalError: the proposal has gas limits, a refund or a delegatecall, which the format does not support.
    """
    gas = (proposal.safe_tx_gas, proposal.base_gas, proposal.gas_price)
    if proposal.operation != CALL or any(gas) or {proposal.gas_token, proposal.refund_receiver} != {ZERO_ADDRESS}:
        raise ProposalError(
            "the proposal cannot be exported",
            why="the format of the Transaction Builder does not support gas limits, refunds and delegatecalls",
        )

    meta = {
        "name": proposal.intent[0]["action"],
        "description": proposal.reason,
        "txBuilderVersion": "",
        "createdFromSafeAddress": proposal.safe,
        "createdFromOwnerAddress": "",
    }
    transaction = {
        "to": proposal.to,
        "value": str(proposal.value),
        "data": "0x" + proposal.data.hex(),
        "contractMethod": None,
        "contractInputsValues": None,
    }

    fields: dict[str, Any] = {
        "version": _VERSION,
        "chainId": str(proposal.chain_id),
        "createdAt": proposal.created * 1000,
        "meta": meta,
        "transactions": [transaction],
    }

    return dump(fields | {"meta": meta | {"checksum": checksum(fields)}})


def from_builder(raw: bytes) -> BuilderTransaction:
    """Read a Transaction Builder file with one transaction.

    Raises:
        ProposalError: the file has another format, a wrong checksum, several transactions, or no calldata.
    """
    fields = load_object(raw)
    try:
        return _read(fields)
    except (KeyError, TypeError, ValueError) as error:
        raise ProposalError("the file is not a Transaction Builder file", why=fault(error)) from error


def checksum(fields: Mapping[str, Any]) -> str:
    """Compute the value of ``meta.checksum`` over all fields except the name and the checksum itself.

    Returns:
        The keccak-256 of the fields in hex, with the prefix ``0x``. The fields are serialised as in the function
        ``serializeJSONObject`` of ``checksum.ts``.
    """
    meta = {key: value for key, value in fields["meta"].items() if key != "checksum"}
    serialized = _serialized({**fields, "meta": {**meta, "name": None}})
    # Of the characters outside ASCII, JSON.stringify escapes only lone surrogates (ECMA-262, 25.5.2.3).
    return "0x" + keccak(serialized.encode("utf-8", "backslashreplace")).hex()


def _serialized(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_serialized, value))}]"
    if isinstance(value, dict):
        # JavaScript sorts by UTF-16 code units.
        keys = sorted(value, key=lambda key: key.encode("utf-16-be", "surrogatepass"))
        parts = "".join(f"{_serialized(value[key])}," for key in keys)
        return f"{{{_stringified(keys)}{parts}}}"
    return _stringified(value)


def _stringified(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _read(fields: Mapping[str, Any]) -> BuilderTransaction:
    # (1) The file was not changed, and has one transaction.
    transactions, meta = mappings(fields, "transactions"), mapping(fields, "meta")
    if len(transactions) != 1:
        raise ProposalError(
            "the file cannot be imported",
            why=f"the file has {len(transactions)} transactions, and a Safe can execute several at a time only through "
            "a delegatecall",
            remedy="export each transaction to its own file; one call can publish several releases",
            action=Action.PUBLISH_TOGETHER,
        )
    claimed = meta.get("checksum")
    if claimed and claimed != (found := checksum(fields)):
        raise ProposalError(
            "the file was changed after it was written",
            why=f"the file states the checksum {claimed!r:.80}, but its contents have the checksum {found}",
            remedy="export the file again",
        )

    # (2) The transaction is a plain call with calldata.
    transaction = transactions[0]
    if transaction["data"] is None:
        raise ProposalError(
            "the file cannot be imported",
            why="the file's transaction has a method, but no calldata",
            remedy="enter the calldata as custom data in the Transaction Builder",
        )
    if str(transaction.get("operation", CALL)) != str(CALL):
        raise ProposalError(
            "the file cannot be imported",
            why=f"the file's transaction has the operation {transaction['operation']!r:.40}, which the Transaction "
            "Builder does not write",
            remedy="ask the person who made the file",
        )
    data = text(transaction, "data")
    if not re.fullmatch(r"0x(?:[0-9a-fA-F]{2})*", data):  # tools write upper or lower case
        raise ValueError(f"data is {data!r:.40}, which is not hex text")

    safe = _any_address(meta, "createdFromSafeAddress") if meta.get("createdFromSafeAddress") else None
    return BuilderTransaction(
        chain_id=decimal(fields, "chainId"),
        safe=safe,
        to=_any_address(transaction, "to"),
        value=decimal(transaction, "value"),
        data=bytes.fromhex(data[2:]),
        description=text(meta, "description") if meta.get("description") else "",
    )


def _any_address(fields: Mapping[str, Any], name: str) -> str:
    """Return an address.

    If the address has upper-case and lower-case letters, its EIP-55 checksum must be correct.
    """
    value = text(fields, name)
    digits = value.removeprefix("0x")
    if not re.fullmatch("0x[0-9a-fA-F]{40}", value) or not (
        digits in (digits.lower(), digits.upper()) or is_checksum_address(value)
    ):
        raise ValueError(f"{name} is {value!r:.60}, which is not an address")
    return str(to_checksum_address(value))
