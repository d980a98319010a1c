"""How a Safe's owners and threshold are changed: calldata of the Safe's calls to itself. Pure.

Source: Safe smart account 1.5, ``OwnerManager.sol``; owners are a linked list, and a removal names the one before.
"""

from __future__ import annotations

from blockota.approval.chain_view import SafeState
from blockota.approval.intent import SAFE
from blockota.errors import RefusedError
from blockota.ethereum import to_checksum_address
from blockota.formats.abi import interface

_SENTINEL = "0x" + "00" * 19 + "01"


def add_call(safe: SafeState, owner: str, *, threshold: int | None) -> bytes:
    """Calldata that adds an owner; the threshold stays unless another one is named.

    Raises:
        RefusedError: it is an owner already, or the threshold cannot be met.
    """
    if _is_owner(safe, owner):
        raise RefusedError(f"{owner} is an owner already", why=_state(safe), remedy="leave it as it is")
    wanted = _threshold(safe, threshold, owners=len(safe.owners) + 1)
    return interface(SAFE).encode_call("addOwnerWithThreshold", to_checksum_address(owner), wanted)


def remove_call(safe: SafeState, owner: str, *, threshold: int | None) -> bytes:
    """Calldata that removes an owner; the threshold stays unless another one is named.

    Raises:
        RefusedError: it is no owner, or the threshold could not be met by those who are left.
    """
    if not _is_owner(safe, owner):
        raise RefusedError(f"{owner} is no owner of the Safe", why=_state(safe), remedy="see `blockota safe owners`")
    wanted = _threshold(safe, threshold, owners=len(safe.owners) - 1)
    place = safe.owners.index(to_checksum_address(owner))
    before = safe.owners[place - 1] if place else _SENTINEL
    return interface(SAFE).encode_call("removeOwner", before, safe.owners[place], wanted)


def threshold_call(safe: SafeState, threshold: int) -> bytes:
    """Calldata that changes how many owners must sign.

    Raises:
        RefusedError: it is that already, or there are not so many owners.
    """
    if threshold == safe.threshold:
        raise RefusedError(f"the threshold is {threshold} already", why=_state(safe), remedy="leave it as it is")
    return interface(SAFE).encode_call("changeThreshold", _threshold(safe, threshold, owners=len(safe.owners)))


def _is_owner(safe: SafeState, owner: str) -> bool:
    return to_checksum_address(owner) in safe.owners


def _threshold(safe: SafeState, wanted: int | None, *, owners: int) -> int:
    threshold = safe.threshold if wanted is None else wanted
    if not 1 <= threshold <= owners:
        raise RefusedError(
            f"a threshold of {threshold} cannot be met",
            why=f"the Safe would have {owners} owner{'s' if owners != 1 else ''}",
            remedy=f"name another threshold, from 1 to {owners}",
        )
    return threshold


def _state(safe: SafeState) -> str:
    return f"{safe.threshold} of {', '.join(safe.owners)} must sign"
