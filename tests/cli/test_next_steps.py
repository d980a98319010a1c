"""After a proposal to a registry is executed, the command line advises the next command."""

from __future__ import annotations

from typing import Any

import pytest

from blockota.cli.next_steps import after_execution
from blockota.formats.abi import interface
from blockota.model.release import product_key
from tests.support.samples import proposal_with

UUID_BYTES, NAME = bytes(range(16)), product_key("acme")
CALLS = {
    "blockota producer list": ("Producers", "suspend", NAME),
    "blockota identity list": ("IdentityRegistry", "retire", UUID_BYTES),
    "blockota device list": ("DeviceRegistry", "unban", 300),
    "blockota device registrant list": ("DeviceRegistry", "suspendRegistrant", NAME),
    "blockota device site list": ("DeviceRegistry", "giveBlocks", UUID_BYTES, 1),
    "blockota device spec list": ("DeviceRegistry", "importSpec", NAME, "thermo2", "", b"\1"),
}


@pytest.mark.parametrize(("command", "call"), CALLS.items(), ids=CALLS)
def test_the_list_that_changed_is_named(command: str, call: tuple[str, str, Any]) -> None:
    """For each registry call, the advice names the command that lists the changed records."""
    contract, function, *arguments = call
    data = interface(contract).encode_call(function, *arguments)
    assert f"Next: `{command}` shows" in after_execution(proposal_with(data=data))
