"""Rules fire once while their condition is true. Rules that could trigger themselves are refused."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockota.errors import UsageError
from blockota.model.reading import SensorReading
from blockota.model.rule import COMPARISONS, Rule, RuleBook, check_rules

TARGET, SOURCE = UUID(int=21, version=4), UUID(int=22, version=4)
HOT = Rule("cool", "256", "temperature", ">", 30.0, 10, TARGET, "257", "fan", {"on": True}, deadline=60, pause=0)
NOW = 1_800_000_000


def reading(time: float, value: float | str, *, thing: str = "256", name: str = "temperature") -> SensorReading:
    """Return a reading of the sensor, at a number of seconds after the start."""
    return SensorReading(thing, NOW + time, name, value)


def fired(rule: Rule, *readings: SensorReading) -> list[float]:
    """Return the times of the readings at which a rule fires, in seconds after the start."""
    book = RuleBook([rule])
    return [one.time - NOW for one in readings if book.apply([one], gateway=SOURCE, now=int(one.time))]


def test_a_rule_fires_once_after_the_condition_lasted() -> None:
    """The duration of a condition is measured by the times of the readings.

    After its condition was false, a rule can fire again.
    """
    rises = [reading(0, 31), reading(9, 32), reading(10, 31), reading(20, 40)]
    again = [reading(30, 29), reading(31, 35), reading(41, 35), reading(50, 35)]
    assert fired(HOT, *rises, *again) == [10, 41]
    assert fired(HOT, reading(0, 31), reading(5, 29), reading(10, 31), reading(19, 31)) == []
    assert fired(replace(HOT, duration=0), reading(0, 30), reading(1, 30.5)) == [1]


def test_a_pause_delays_the_next_command() -> None:
    """If a rule's condition changes often, the rule sends at most one command in 60 s."""
    rule = replace(HOT, duration=0, pause=60)
    flutter = [reading(second, 31 if second % 2 else 29) for second in range(200)]
    assert fired(rule, *flutter) == [1, 61, 121, 181]


def test_other_readings_and_late_ones_change_nothing() -> None:
    """A rule ignores readings of other devices and quantities, older readings, and readings that are texts."""
    flag = SensorReading("256", NOW + 6, "temperature", value=True)
    others = [reading(5, 0, thing="258"), reading(5, 0, name="humidity"), reading(-5, 0), reading(5, "cold"), flag]
    assert fired(HOT, reading(0, 31), *others, reading(10, 31)) == [10]


def test_a_reading_from_the_future_does_not_silence_a_rule() -> None:
    """A reading far in the future is ignored, because all later readings of the device would count as older."""
    book = RuleBook([replace(HOT, duration=0)])
    assert book.apply([reading(301, 31), reading(1 << 30, 31)], gateway=SOURCE, now=NOW) == []
    assert len(book.apply([reading(300, 31)], gateway=SOURCE, now=NOW)) == 1


def test_a_rule_can_count_the_readings_of_one_gateway() -> None:
    """By default, a rule accepts a device's readings from any gateway.

    A rule with a gateway ignores readings from other gateways.
    """
    book = RuleBook([replace(HOT, duration=0, gateway=SOURCE)])
    assert book.apply([reading(0, 31)], gateway=TARGET, now=NOW) == []
    assert len(book.apply([reading(0, 31)], gateway=SOURCE, now=NOW)) == 1


@given(st.sampled_from(list(COMPARISONS)), st.floats(-100, 100), st.floats(-100, 100))
def test_the_comparisons_are_those_of_their_signs(sign: str, value: float, limit: float) -> None:
    """For any reading, a rule without a duration fires if, and only if, Python's operator of the same name is true."""
    rule = replace(HOT, comparison=sign, limit=limit, duration=0)
    assert bool(fired(rule, reading(0, value))) is bool(eval(f"{value!r} {sign} {limit!r}"))  # noqa: S307


def test_the_same_reading_gives_the_same_command() -> None:
    """After a restart, the same cause leads to a command with the same id, so that gateways recognise a repetition."""
    rule = replace(HOT, duration=0)
    (first,), (second,) = (RuleBook([rule]).apply([reading(0, 31)], gateway=SOURCE, now=NOW) for _ in range(2))
    assert first == second
    assert first.data == {
        "thing": "257",
        "id": first.id,
        "name": "fan",
        "arguments": {"on": True},
        "deadline": NOW + 60,
    }
    (other,) = RuleBook([rule]).apply([reading(1, 31)], gateway=SOURCE, now=NOW)
    assert other.id != first.id


def test_circles_are_refused() -> None:
    """A rule is refused if its command can change the reading that causes it, directly or through other rules."""
    check_rules([HOT, replace(HOT, name="warm", comparison="<")], ["fan"])
    ring = [replace(HOT, name=str(n), thing=str(n), device=str((n + 1) % 5)) for n in range(5)]
    check_rules(ring[:-1], ["fan"])
    with pytest.raises(UsageError, match="0 → 1 → 2 → 3 → 4 → 0 is a circle"):
        check_rules(ring, ["fan"])
    with pytest.raises(UsageError, match="256 → 256 is a circle"):
        check_rules([replace(HOT, device="256")], ["fan"])
    # A circle beside a way that leads into it, and two ways to one thing.
    diamond = [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]
    rules = [replace(HOT, name=f"{one}{two}", thing=one, device=two) for one, two in diamond]
    check_rules(rules, ["fan"])
    with pytest.raises(UsageError, match="circle"):
        check_rules([*rules, replace(HOT, name="da", thing="d", device="a")], ["fan"])


def test_unknown_commands_and_double_names_are_refused() -> None:
    """A rule with a command that is not listed, and a second rule with the same name, are refused."""
    with pytest.raises(UsageError, match="'fan' is not one of the listed commands: none"):
        check_rules([HOT], [])
    with pytest.raises(UsageError, match="another rule has the same name"):
        check_rules([HOT, replace(HOT, limit=40)], ["fan"])
