"""Safe's Transaction Builder files, to and from which proposals go. Pure.

Source: safe-react-apps, ``apps/tx-builder`` (batch file version 1.0, with its checksum).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blockota.approval.proposal import Proposal
from blockota.approval.safe_transaction import CALL, ZERO_ADDRESS
from blockota.errors import ProposalError
from blockota.ethereum import is_checksum_address, keccak, to_checksum_address
from blockota.strict_json import decimal, dump, fault, load_object, mapping, mappings, text

_VERSION = "1.0"


@dataclass(frozen=True)
class BuilderTransaction:
    """What a Transaction Builder file asks for.

    Attributes:
        chain_id: which chain (EIP-155).
        safe: checksummed address of the Safe, where the file names one.
        to: checksummed address of what is called.
        value: wei.
        data: calldata.
        description: what the file says it is for; not to be believed.
    """

    chain_id: int
    safe: str | None
    to: str
    value: int
    data: bytes
    description: str


def to_builder(proposal: Proposal) -> bytes:
    """A proposal as a Transaction Builder file; nonce, proposer and expiry have no place in one.

    Raises:
        ProposalError: it has gas limits, a refund or a delegatecall, which such a file cannot say.
    """
    gas = (proposal.safe_tx_gas, proposal.base_gas, proposal.gas_price)
    if proposal.operation != CALL or any(gas) or {proposal.gas_token, proposal.refund_receiver} != {ZERO_ADDRESS}:
        raise ProposalError(
            "the proposal cannot be exported",
            why="a Transaction Builder file knows neither gas limits nor refunds nor delegatecalls",
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
        ProposalError: it is none, was changed after it was written, has several transactions, or no calldata.
    """
    fields = load_object(raw)
    try:
        _check_count(fields)
        _check_checksum(fields)
        return _read(fields)
    except (KeyError, TypeError, ValueError) as error:
        raise ProposalError("the file is no Transaction Builder file", why=fault(error)) from error


def checksum(fields: Mapping[str, Any]) -> str:
    """What the Transaction Builder writes into ``meta.checksum``: over all but the name and the checksum itself."""
    meta = {key: value for key, value in fields["meta"].items() if key != "checksum"}
    serialized = _serialized({**fields, "meta": {**meta, "name": None}})
    # JSON.stringify writes half of a surrogate pair as an escape, and every other letter as it is (ECMA-262).
    return "0x" + keccak(serialized.encode("utf-8", "backslashreplace")).hex()


def _serialized(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_serialized, value))}]"
    if isinstance(value, dict):
        keys = sorted(value, key=_utf_16)
        parts = "".join(f"{_serialized(value[key])}," for key in keys)
        return f"{{{_stringified(keys)}{parts}}}"
    return _stringified(value)


def _utf_16(key: str) -> bytes:
    """By code units, as JavaScript sorts."""
    return key.encode("utf-16-be", "surrogatepass")


def _stringified(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _check_count(fields: Mapping[str, Any]) -> None:
    transactions = mappings(fields, "transactions")
    if len(transactions) != 1:
        raise ProposalError(
            "the file cannot be imported",
            why=f"it has {len(transactions)} transactions, and a Safe does several only through a delegatecall",
            remedy="export each alone; several releases go into one `blockota release publish`",
        )


def _check_checksum(fields: Mapping[str, Any]) -> None:
    claimed = mapping(fields, "meta").get("checksum")
    if claimed and claimed != (found := checksum(fields)):
        raise ProposalError(
            "the file was changed after it was written",
            why=f"its checksum is {claimed!r:.80}, its contents have {found}",
            remedy="export it again",
        )


def _read(fields: Mapping[str, Any]) -> BuilderTransaction:
    transaction, meta = mappings(fields, "transactions")[0], mapping(fields, "meta")
    _check_plain(transaction)
    safe = meta.get("createdFromSafeAddress") or None
    return BuilderTransaction(
        chain_id=decimal(fields, "chainId"),
        safe=_any_address(meta, "createdFromSafeAddress") if safe else None,
        to=_any_address(transaction, "to"),
        value=decimal(transaction, "value"),
        data=_any_hexadecimal(transaction, "data"),
        description=text(meta, "description") if meta.get("description") else "",
    )


def _check_plain(transaction: Mapping[str, Any]) -> None:
    if transaction["data"] is None:
        raise ProposalError(
            "the file cannot be imported",
            why="its transaction has no calldata, only a method",
            remedy="enter it as custom data in the Transaction Builder",
        )
    if str(transaction.get("operation", CALL)) != str(CALL):
        raise ProposalError(
            "the file cannot be imported",
            why=f"its transaction has the operation {transaction['operation']!r:.40}, which the Transaction Builder "
            "does not know",
            remedy="ask who made it",
        )


def _any_hexadecimal(fields: Mapping[str, Any], name: str) -> bytes:
    """Hex text in either case, as several tools write it."""
    value = text(fields, name)
    if not re.fullmatch(r"0x(?:[0-9a-fA-F]{2})*", value):
        raise ValueError(f"{name} is {value!r:.40}, no hex text")
    return bytes.fromhex(value[2:])


def _any_address(fields: Mapping[str, Any], name: str) -> str:
    """An address with a right checksum, or with none."""
    value = text(fields, name)
    digits = value.removeprefix("0x")
    if not re.fullmatch("0x[0-9a-fA-F]{40}", value) or not (
        digits in (digits.lower(), digits.upper()) or is_checksum_address(value)
    ):
        raise ValueError(f"{name} is {value!r:.60}, no address")
    return str(to_checksum_address(value))
