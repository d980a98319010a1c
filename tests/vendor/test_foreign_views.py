"""A chain view that another person exported is compared with the contracts in the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blockota.approval.chain_view import ChainView, SafeState
from blockota.errors import ProposalError
from blockota.keys import dev_account
from blockota.settings import load_settings
from blockota.vendor.files import check_view
from tests.support.samples import CONTRACT, NOW, SAFE

CITY, IDENTITIES, DEVICES, OTHER = (dev_account(number).address for number in range(20, 24))
VENDORS = ChainView(1337, 100, bytes(32), NOW, CONTRACT, OTHER, SafeState(SAFE, (OTHER,), 1, 7, "1.5.0"))
CITYS = replace(
    VENDORS,
    contract=None,
    replication=None,
    safe=replace(VENDORS.safe, address=CITY),
    registries={"IdentityRegistry": IDENTITIES, "DeviceRegistry": DEVICES},
)
BOTH: dict[str, str] = {"contract": CONTRACT, "safe": SAFE, "identities": IDENTITIES.lower(), "devices": DEVICES}
OF_CITY: dict[str, str] = {"safe": CITY, "identities": IDENTITIES, "devices": DEVICES}


def check(view: ChainView, named: Mapping[str, str], tmp_path: Path) -> None:
    """Compare a chain view with settings that contain the given contracts."""
    file = tmp_path / "blockota.toml"
    file.write_text("[networks.local]\n" + "".join(f'{key} = "{value}"\n' for key, value in named.items()))
    assert check_view(view, load_settings(file, network=None, environment={})).is_pinned == bool(named)


GOOD: Mapping[str, tuple[ChainView, dict[str, str]]] = {
    "the vendor's": (VENDORS, BOTH),
    "the city's": (CITYS, BOTH),
    "the city's alone": (CITYS, OF_CITY),
    "the city's configurations": (
        replace(CITYS, contract=OTHER, registries={}),
        BOTH | {"configurations": OTHER},
    ),
    "one of two registries": (replace(CITYS, registries={"DeviceRegistry": DEVICES}), BOTH),
    "settings that name nothing": (CITYS, {}),
}
WRONG: Mapping[str, tuple[ChainView, dict[str, str], str]] = {
    "another registry": (
        replace(CITYS, registries={"IdentityRegistry": OTHER}),
        OF_CITY,
        "view is of IdentityRegistry",
    ),
    "swapped registries": (replace(CITYS, registries={"IdentityRegistry": DEVICES}), OF_CITY, "of another contract"),
    "a registry that is not set": (replace(CITYS, registries={"Producers": OTHER}), OF_CITY, "settings name none"),
    "another chain": (replace(CITYS, chain_id=1338), OF_CITY, "on chain 1338"),
    "no contract": (replace(CITYS, registries={}), OF_CITY, "view is of no contract"),
    "another BlockOTA": (replace(VENDORS, contract=OTHER), BOTH, "view is of BlockOTA"),
    "the vendor's Safe": (replace(VENDORS, safe=CITYS.safe), BOTH, "of another Safe"),
    "the city's Safe": (replace(CITYS, safe=VENDORS.safe), OF_CITY, "of another Safe"),
    "a replication": (VENDORS, BOTH | {"replication": CONTRACT}, "of another replication contract"),
}


@pytest.mark.parametrize(("view", "named"), GOOD.values(), ids=GOOD)
def test_a_view_of_named_contracts_is_used(view: ChainView, named: dict[str, str], tmp_path: Path) -> None:
    """A chain view is accepted if the settings contain all of its contracts, or none at all."""
    check(view, named, tmp_path)


@pytest.mark.parametrize(("view", "named", "sentence"), WRONG.values(), ids=WRONG)
def test_a_view_of_other_contracts_is_refused(view: ChainView, named: Any, sentence: str, tmp_path: Path) -> None:
    """A chain view of another chain, contract or Safe than in the settings is refused."""
    with pytest.raises(ProposalError, match=sentence):
        check(view, named, tmp_path)
