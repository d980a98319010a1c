"""The choice of the release that a component of a device must run."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockota.model.container import Container
from blockota.model.manifest import Requirements
from blockota.model.order import Order, OrderStatus
from blockota.model.release import Version
from blockota.model.target import (
    Candidate,
    Choice,
    Component,
    Condition,
    DailyWindow,
    GroupPolicy,
    Mode,
    ProductFacts,
    choose,
)

NOW = 1_795_000_000
DAY = 86_400
ACME = Component(1337, "0xCf7Ed3AccA5a467e9e704C703E8D87F634fB0Fc9", "acme-thermo2")
BEST = replace(ACME, contract="0x5FbDB2315678afecb367f032d93F642f64180aa3")
AUTO, ORDERED = GroupPolicy(), GroupPolicy(Mode.ORDERED)


def image(version: str, component: Component = ACME) -> bytes:
    """Return the SHA-256 digest of a release's image."""
    return hashlib.sha256(f"{component}{version}".encode()).digest()


def candidate(version: str, component: Component = ACME, **changes: Any) -> Candidate:
    """Return an active release with a verified image, and with the given changes."""
    return replace(Candidate(component.release(Version.parse(version)), image(version, component)), **changes)


def product(*versions: str | Candidate, **changes: Any) -> ProductFacts:
    """Return a product with releases."""
    candidates = tuple(candidate(one) if isinstance(one, str) else one for one in versions)
    return replace(ProductFacts(ACME, candidates), **changes)


def order(version: str, number: int = 7, component: Component = ACME, **changes: Any) -> Order:
    """Return an order whose time window is open."""
    release = component.release(Version.parse(version))
    return replace(Order(number, "all", release, UUID(int=1), NOW - 10, NOW + 10, OrderStatus.OPEN), **changes)


def version_of(choice: Choice) -> str | None:
    """Return the version of the chosen target."""
    return str(choice.target.release.version) if choice.target else None


def runs(version: str | None, **changes: Any) -> Condition:
    """Return a device that runs a release."""
    return Condition(image(version) if version else None, **changes)


THREE = product("1.0.0", "1.1.0", "2.0.0")
REVOKED = product("1.0.0", "1.1.0", candidate("2.0.0", is_revoked=True))
STEPS = product("1.0.0", "1.5.0", candidate("2.0.0", requires=Requirements(Version(1, 5, 0))))
REV_B = product("1.0.0", candidate("2.0.0", requires=Requirements(hardware=("rev-b", "rev-c"))))
MCUBOOT = product("1.0.0", candidate("2.0.0", container=Container.MCUBOOT))
LATER = product("1.0.0", candidate("1.1.0", active_from=NOW + 5))
FLOOR = Version(1, 1, 0)

WITHHELD = {"banned", "paused contract", "paused by hand", "not paired"}
TABLE: dict[str, tuple[Condition, ProductFacts, tuple[Order, ...], GroupPolicy, str | None, str]] = {
    "newest": (runs("1.0.0"), THREE, (), AUTO, "2.0.0", "newest"),
    "not reported yet": (runs(None), THREE, (), AUTO, "2.0.0", "newest"),
    "unknown image": (Condition(bytes(32)), THREE, (), AUTO, "2.0.0", "newest"),
    "runs it": (runs("2.0.0"), THREE, (), AUTO, "2.0.0", "the device runs 2.0.0"),
    "runs newer, inactive": (
        *(runs("2.0.0"), product("1.0.0", candidate("2.0.0", active_from=NOW + 5)), (), AUTO),
        *("2.0.0", "the device runs 2.0.0"),
    ),
    "downgrade allowed": (
        *(runs("2.0.0"), product("1.0.0", candidate("2.0.0", active_from=NOW + 5)), ()),
        *(replace(AUTO, allow_downgrade=True), "1.0.0", "newest"),
    ),
    "no release": (runs(None), product(), (), AUTO, None, "acme-thermo2 has no release"),
    "banned": (runs("1.0.0", is_banned=True), THREE, (order("2.0.0"),), AUTO, "2.0.0", "banned"),
    "paused contract": (
        *(runs("1.0.0"), replace(THREE, withheld="the contract is paused"), (order("2.0.0"),), AUTO),
        *("2.0.0", "the contract is paused"),
    ),
    "paused by hand": (runs("1.0.0", is_paused=True), THREE, (order("2.0.0"),), AUTO, "2.0.0", "an operator"),
    "not paired": (runs("1.0.0"), product("2.0.0", withheld="not paired"), (), AUTO, "2.0.0", "not paired"),
    "paused, runs it": (runs("2.0.0"), replace(THREE, withheld="paused"), (), AUTO, "2.0.0", "the device runs 2.0.0"),
    "not active yet": (runs("1.0.0"), LATER, (), AUTO, "1.0.0", "the device runs 1.0.0"),
    "not proven yet": (
        *(runs("1.0.0"), product("1.0.0", "1.1.0", candidate("2.0.0", is_proven=False)), (), AUTO),
        *("1.1.0", "newest"),
    ),
    "none proven": (runs(None), product(candidate("1.0.0", is_proven=False)), (), AUTO, None, "not proven"),
    "revoked": (runs("2.0.0"), REVOKED, (), AUTO, "1.1.0", "newest"),
    "revoked, floor": (
        *(runs("2.0.0"), product("1.0.0", candidate("2.0.0", is_revoked=True), floor=FLOOR), (), AUTO),
        *(None, "the release is revoked"),
    ),
    "floor": (runs(None), product("1.0.0", floor=FLOOR), (), AUTO, None, "below the lowest version allowed, 1.1.0"),
    "container for the face": (runs("1.0.0", face="smp"), MCUBOOT, (), AUTO, "2.0.0", "newest"),
    "container for no other face": (
        *(runs("1.0.0", face="an3155"), MCUBOOT, (order("2.0.0"),), AUTO, "1.0.0"),
        "its image is a file for the container mcuboot, which the face an3155 cannot install",
    ),
    "step": (runs("1.0.0"), STEPS, (), AUTO, "1.5.0", "newest"),
    "step done": (runs("1.5.0"), STEPS, (), AUTO, "2.0.0", "newest"),
    "step unknown": (runs(None), STEPS, (order("2.0.0"),), ORDERED, None, "runs an unknown version"),
    "hardware": (runs("1.0.0", hardware="rev-b"), REV_B, (), AUTO, "2.0.0", "newest"),
    "other hardware": (runs(None, hardware="rev-a"), REV_B, (order("2.0.0"),), ORDERED, None, "the device's is rev-a"),
    "no hardware": (runs(None), REV_B, (order("2.0.0"),), ORDERED, None, "the device's is not reported"),
    "no order": (runs("1.0.0"), THREE, (), ORDERED, None, "no order is open"),
    "order": (runs("1.0.0"), THREE, (order("1.1.0"),), ORDERED, "1.1.0", "order 7"),
    "order before policy": (runs("1.0.0"), THREE, (order("1.1.0"),), AUTO, "1.1.0", "order 7"),
    "newest order": (runs("1.0.0"), THREE, (order("2.0.0", 8), order("1.1.0", 9)), ORDERED, "1.1.0", "order 9"),
    "order too early": (runs("1.0.0"), THREE, (order("2.0.0", not_before=NOW + 1),), ORDERED, None, "no order is open"),
    "order begins": (runs("1.0.0"), THREE, (order("2.0.0", not_before=NOW),), ORDERED, "2.0.0", "order 7"),
    "order over": (runs("1.0.0"), THREE, (order("2.0.0", deadline=NOW),), ORDERED, None, "no order is open"),
    "order cancelled": (
        *(runs("1.0.0"), THREE, (order("2.0.0", status=OrderStatus.CANCELLED),), ORDERED),
        *(None, "no order is open"),
    ),
    "order void": (runs("1.0.0"), THREE, (order("2.0.0", status=OrderStatus.VOID),), ORDERED, None, "no order"),
    "order not listed": (runs("1.0.0"), THREE, (order("2.0.0", component=BEST),), ORDERED, None, "no order is open"),
    "order unknown": (runs("1.0.0"), THREE, (order("3.0.0"),), ORDERED, None, "the contract has no such release"),
    "order revoked": (runs("1.0.0"), REVOKED, (order("2.0.0"),), ORDERED, None, "the release is revoked"),
    "order older": (runs("2.0.0"), THREE, (order("1.0.0"),), ORDERED, None, "the device runs the newer version 2.0.0"),
    "order older, auto": (
        runs("1.1.0"),
        THREE,
        (order("1.0.0"),),
        AUTO,
        "2.0.0",
        "the newer version 1.1.0; the newest",
    ),
    "order older, allowed": (
        *(runs("2.0.0"), THREE, (order("1.0.0"),), replace(ORDERED, allow_downgrade=True)),
        *("1.0.0", "order 7"),
    ),
    "order from revoked": (runs("2.0.0"), REVOKED, (order("1.1.0"),), ORDERED, "1.1.0", "order 7"),
    "order from revoked to an old one": (
        *(runs("2.0.0"), REVOKED, (order("1.0.0"),), ORDERED),
        *(None, "only the newest active one replaces"),
    ),
    "order of what runs": (
        *(runs("1.0.0"), product(candidate("1.0.0", is_proven=False)), (order("1.0.0"),), ORDERED),
        *("1.0.0", "order 7"),
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_the_choice_follows_the_facts(case: str) -> None:
    """Each combination of device, product, orders and group leads to the expected release.

    The reason names the fact.
    """
    device, facts, orders, policy, version, why = TABLE[case]
    choice = choose(device, [facts], orders, policy=policy, now=NOW)
    assert version_of(choice) == version
    assert why in choice.why
    assert choice.is_withheld == (case in WITHHELD)
    if choice.target and case not in WITHHELD:
        assert choice.target.order == (max(one.number for one in orders) if choice.why[:-2] == "order" else None)


def test_a_device_stays_with_the_producer_whose_release_it_runs() -> None:
    """If several producers offer a product, the target is a release of the producer whose release the device runs.

    An order can select another producer.
    """
    both = [product("1.0.0", "1.1.0"), ProductFacts(BEST, (candidate("9.0.0", BEST),))]
    assert version_of(choose(runs("1.0.0"), both, [], policy=AUTO, now=NOW)) == "1.1.0"
    undecided = choose(runs(None), both, [], policy=AUTO, now=NOW)
    assert undecided.target is None
    assert "an order is needed" in undecided.why
    ordered = choose(runs("1.0.0"), both, [order("9.0.0", component=BEST)], policy=AUTO, now=NOW)
    assert ordered.target
    assert Component.of(ordered.target.release) == BEST


def test_nothing_is_chosen_without_a_listed_product() -> None:
    """If a device's Spec lists no products, the device gets no target, even if an order names a release."""
    choice = choose(runs("1.0.0"), [], [order("2.0.0")], policy=AUTO, now=NOW)
    assert choice.target is None
    assert "no product" in choice.why


def test_a_daily_window_may_pass_midnight() -> None:
    """A daily time window is open from its start to its end."""
    midnight = NOW - NOW % DAY
    night = DailyWindow(22 * 3600, 4 * 3600)
    hours = [hour for hour in range(24) if night.is_open(midnight + hour * 3600)]
    assert hours == [0, 1, 2, 3, 22, 23]
    assert night.next_change(midnight + 4 * 3600) == midnight + 22 * 3600
    assert DailyWindow(5, 5).is_open(NOW)
    closed = choose(runs("1.0.0"), [THREE], [], policy=GroupPolicy(windows=(night,)), now=midnight + 12 * 3600)
    assert (closed.is_withheld, closed.changes_at) == (True, midnight + 22 * 3600)
    assert "the daily window opens on" in closed.why


def test_a_choice_names_the_next_time_at_which_it_may_change() -> None:
    """`changes_at` is the next time at which an order starts or ends, or a release becomes active."""
    assert choose(runs("1.0.0"), [LATER], [], policy=AUTO, now=NOW).changes_at == NOW + 5
    early = order("2.0.0", not_before=NOW + 3, deadline=NOW + 9)
    assert choose(runs("1.0.0"), [THREE], [early], policy=ORDERED, now=NOW).changes_at == NOW + 3
    assert choose(runs("1.0.0"), [THREE], [early], policy=ORDERED, now=NOW + 3).changes_at == NOW + 9
    assert choose(runs("1.0.0"), [THREE], [early], policy=ORDERED, now=NOW + 9).changes_at is None


TIMES = st.integers(NOW - 50, NOW + 50)


@given(
    st.lists(st.builds(lambda start, length: (start, start + length), TIMES, st.integers(0, 60)), max_size=3),
    st.lists(TIMES, max_size=3),
    TIMES,
)
def test_nothing_changes_before_the_named_time(windows: list[tuple[int, int]], active: list[int], now: int) -> None:
    """At all times before `changes_at`, the same facts lead to the same target."""
    versions = ["1.0.0", "1.1.0", "2.0.0"]
    facts = product(*(candidate(one, active_from=start) for one, start in zip(versions, active, strict=False)))
    orders = [
        order(versions[number], number + 1, not_before=start, deadline=end)
        for number, (start, end) in enumerate(windows)
    ]
    choice = choose(runs(None), [facts], orders, policy=AUTO, now=now)
    until = choice.changes_at or NOW + 1000
    assert all(
        choose(runs(None), [facts], orders, policy=AUTO, now=later).target == choice.target
        for later in range(now, min(until, now + 130))
    )
