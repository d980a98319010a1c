"""Test a vendor's commands on a network with finality while validators stop; run by `make deep`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from blockota.chain import Chain
from scripts.install_cometbft import find
from tests.conftest import Cast
from tests.deep.cometbft.network import CHAIN_ID, Validator, cometbft_network
from tests.stories.conftest import Workshop
from tests.support.consortium import Consortium, check_halt_and_resume, furnish, pair
from tests.support.waiting import eventually


@dataclass(frozen=True)
class FinalConsortium(Consortium):
    """A vendor on a network of four validators."""

    validators: tuple[Validator, ...]


@pytest.fixture
def consortium(
    tmp_path: Path, cast: Cast, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[FinalConsortium]:
    """A vendor with a Safe, both contracts and one paired product on a new network."""
    evmd = find()
    assert evmd, "evmd not found: build it with `make cometbft`"
    folder = tmp_path / "vendor"
    with cometbft_network(evmd, tmp_path / "network") as validators:
        chain = Chain(validators[0].url, chain_id=CHAIN_ID)
        furnish(folder, chain, cast=cast, monkeypatch=monkeypatch)
        vendor = FinalConsortium(Workshop(folder, chain, cast, capsys), validators)
        pair(vendor)
        yield vendor


def test_the_network_goes_on_without_one_validator_and_halts_without_two(consortium: FinalConsortium) -> None:
    """While two of four validators are stopped, `proposal execute` fails; later, `transaction resume` succeeds."""
    first, _, third, fourth = consortium.validators

    def restart() -> None:
        halted = first.head
        third.start()
        eventually(lambda: first.head > halted, what="a block after the restart")

    check_halt_and_resume(consortium, fourth, third, restart=restart)
