"""Any sequence of calls by the vendor preserves the invariants of BlockOTA.

A model in Python performs the same random calls as the contract. The test compares the states of both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ape
import pytest
from ape.api import AccountAPI
from ape.contracts import ContractInstance
from ape.exceptions import ContractLogicError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.sampling import EXHAUSTIVE

MakeRelease = Callable[..., dict[str, Any]]
SMALL = st.integers(0, 7)
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), SMALL, SMALL),
        st.tuples(st.just("revoke"), SMALL, st.just(0)),
        st.tuples(st.just("floor"), SMALL, st.just(0)),
    ),
    min_size=8,
    max_size=16,
)


@dataclass
class Rules:
    """The model of the contract: the expected state of one product.

    Attributes:
        images: number of the image of each version, in the order of publication.
        revoked: the versions that were revoked.
        floor: the lowest version that may be published.
    """

    images: dict[int, int] = field(default_factory=dict)
    revoked: set[int] = field(default_factory=set)
    floor: int = 0

    @property
    def head(self) -> int:
        """Return the greatest version that was ever published."""
        return max(self.images, default=0)

    @property
    def latest(self) -> int:
        """Return the greatest version that is not revoked."""
        return max(self.images.keys() - self.revoked, default=0)

    def allow(self, action: str, version: int, image: int) -> bool:
        """Apply an action to the model if the action is allowed; return whether it is allowed."""
        if action == "publish":
            allowed = version > self.head and version >= self.floor and image not in self.images.values()
            self.images |= {version: image} if allowed else {}
        elif action == "revoke":
            allowed = version in self.images.keys() - self.revoked
            self.revoked |= {version} if allowed else set()
        else:
            allowed = version > self.floor
            self.floor = max(version, self.floor)
        return allowed


@pytest.mark.sampled
@settings(
    max_examples=20 if EXHAUSTIVE else 5,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(actions=ACTIONS)
def test_the_record_should_obey_the_rules_after_any_actions(
    block_ota: ContractInstance, vendor: AccountAPI, make_release: MakeRelease, actions: list[tuple[str, int, int]]
) -> None:
    """After random actions, the contract's state equals the model's, and the contract refused the same actions."""
    rules = Rules()
    with ape.chain.isolate():
        for action, version, image in actions:
            done = perform(block_ota, vendor, release=make_release(image, version=version), action=action)
            assert done is rules.allow(action, version, image)
        compare(block_ota, rules, make_release)


def perform(block_ota: ContractInstance, vendor: AccountAPI, *, release: dict[str, Any], action: str) -> bool:
    """Call the contract; return False if the contract refuses the call."""
    calls = {
        "publish": lambda: block_ota.publish([release], sender=vendor),
        "revoke": lambda: block_ota.revoke(release["product"], release["version"], "", sender=vendor),
        "floor": lambda: block_ota.setMinimumVersion(release["product"], release["version"], sender=vendor),
    }
    try:
        calls[action]()
    except ContractLogicError:
        return False
    return True


def compare(block_ota: ContractInstance, rules: Rules, make_release: MakeRelease) -> None:
    """Compare the results of the contract's getters with the model."""
    product = make_release(0)["product"]
    state = block_ota.productRecord(product)
    assert (state.head, state.minimumVersion) == (rules.head, rules.floor)
    assert block_ota.latest(product).version == rules.latest
    records = block_ota.call_view_method("history", product, 0, 100)
    assert [record.version for record in records] == sorted(rules.images, reverse=True)
    for record in records:
        assert record.sha256 == make_release(rules.images[record.version])["sha256"]
        assert record == block_ota.find(product, record.sha256)
        revoked = record.version in rules.revoked
        assert block_ota.isAuthentic(product, record.version, record.sha256) is not revoked
