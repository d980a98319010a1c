"""The rules of a validator: a reading causes a command to a device behind another gateway. Pure.

A rule has a condition: a reading of one thing, a comparison with a number, and a duration. The rule fires once when the
condition has been true for the duration. The duration is measured by the times of the readings. The rule fires again
only after the condition was false and `Rule.pause` has passed.

In a circle of rules, the command of a rule changes readings, and these readings cause the same command again, directly
or through other rules. `check_rules` refuses circles, because a circle may never end. `check_rules` also refuses
commands that are not listed in the settings.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from uuid import UUID

from blockota.errors import UsageError
from blockota.model.reading import SensorReading

COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
"""The comparisons of a reading with a number."""
_LATEST = 300
"""Seconds by which the time of a reading may be after that of the validator."""
_ID_SIZE = 32


@dataclass(frozen=True)
class Rule:
    """A rule.

    Attributes:
        name: the name of the rule.
        thing: the name or number of the device whose readings are compared.
        reading: the measured quantity.
        comparison: the comparison, one of `COMPARISONS`.
        limit: the number on the right side of the comparison.
        duration: seconds for which the condition must be true.
        target: UUID of the gateway that receives the command.
        device: the device behind the target gateway, to which the command is sent.
        command: the name of the command.
        arguments: the arguments of the command.
        deadline: seconds within which the device must execute the command.
        pause: the minimum number of seconds between two commands of the rule.
        gateway: UUID of the gateway whose readings are compared; None to compare the readings of all gateways.
    """

    name: str
    thing: str
    reading: str
    comparison: str
    limit: float
    duration: int
    target: UUID
    device: str
    command: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    deadline: int = 60
    pause: int = 60
    gateway: UUID | None = None

    def is_about(self, reading: SensorReading) -> bool:
        """Whether a reading is a number with the thing and name in the condition. The gateway is not compared."""
        is_number = isinstance(reading.value, int | float) and not isinstance(reading.value, bool)
        return is_number and (reading.thing, reading.name) == (self.thing, self.reading)

    def is_true(self, reading: SensorReading) -> bool:
        """Whether the value of a reading fulfils the comparison."""
        return COMPARISONS[self.comparison](float(reading.value), self.limit)


@dataclass(frozen=True)
class RuleState:
    """The state of a rule after the readings so far.

    Attributes:
        since: time of the reading with which the condition became true; None if the condition is false.
        newest: time of the newest reading.
        has_fired: whether the rule has fired since the condition became true.
        fired_at: time of the reading at which the rule fired last; None if the rule has never fired.
    """

    since: float | None = None
    newest: float = float("-inf")
    has_fired: bool = False
    fired_at: float | None = None


@dataclass(frozen=True)
class RuleCommand:
    """A command that a rule causes.

    Attributes:
        rule: the rule.
        id: the id of the command. The id is derived from the rule and the reading, so that a repeated reading yields
            the same id.
        deadline: Unix time until which the device must execute the command.
    """

    rule: Rule
    id: str
    deadline: int

    @property
    def data(self) -> dict[str, Any]:
        """The data of the request ``command``."""
        return {
            "thing": self.rule.device,
            "id": self.id,
            "name": self.rule.command,
            "arguments": dict(self.rule.arguments),
            "deadline": self.deadline,
        }


def apply_rule(
    rule: Rule, state: RuleState, reading: SensorReading, *, now: int
) -> tuple[RuleState, RuleCommand | None]:
    """Return the state of a rule after a reading, and the command if the rule fires.

    A reading that is older than the newest reading arrived late, and is ignored. A reading from the future is ignored
    too, because all later readings would count as late.

    Args:
        rule: the rule.
        state: the state of the rule before the reading.
        reading: the reading.
        now: Unix time, from which the deadline counts.
    """
    if not rule.is_about(reading) or not state.newest <= reading.time <= now + _LATEST:
        return state, None
    if not rule.is_true(reading):
        return RuleState(None, reading.time, fired_at=state.fired_at), None

    # The condition must have been true for the whole duration, and the pause since the last command must be over.
    since = reading.time if state.since is None else state.since
    is_due = not state.has_fired and reading.time - since >= rule.duration
    if not is_due or (state.fired_at is not None and reading.time - state.fired_at < rule.pause):
        return RuleState(since, reading.time, state.has_fired, state.fired_at), None

    # The id follows from the reading, so that the gateway recognises a repeated command.
    seed = f"{rule.name}\n{rule.target}\n{rule.device}\n{rule.command}\n{reading.thing}\n{reading.time!r}"
    command = RuleCommand(rule, sha256(seed.encode()).hexdigest()[:_ID_SIZE], now + rule.deadline)
    return RuleState(since, reading.time, has_fired=True, fired_at=reading.time), command


class RuleBook:
    """The rules of a validator, with their states since the validator's start.

    Args:
        rules: rules that `check_rules` accepts.
    """

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._states = dict.fromkeys(range(len(listed := tuple(rules))), RuleState())
        self._rules = listed
        self._by_reading: dict[tuple[str, str], list[int]] = {}
        for number, rule in enumerate(listed):
            self._by_reading.setdefault((rule.thing, rule.reading), []).append(number)

    @property
    def targets(self) -> tuple[UUID, ...]:
        """The UUIDs of the gateways that receive commands."""
        return tuple(dict.fromkeys(rule.target for rule in self._rules))

    def __len__(self) -> int:
        """Return the number of rules."""
        return len(self._rules)

    def apply(self, readings: Iterable[SensorReading], *, gateway: UUID, now: int) -> list[RuleCommand]:
        """Process readings, and return the commands that they cause.

        Args:
            readings: the readings, in the order in which they arrived.
            gateway: UUID of the gateway that signed the readings.
            now: Unix time.
        """
        found = []
        for reading in readings:
            for number in self._by_reading.get((reading.thing, reading.name), ()):
                if self._rules[number].gateway not in {None, gateway}:
                    continue
                self._states[number], command = apply_rule(self._rules[number], self._states[number], reading, now=now)
                if command:
                    found.append(command)
        return found


def check_rules(rules: Sequence[Rule], commands: Iterable[str]) -> None:
    """Check that the rules form no circle, and that each command is listed.

    Args:
        rules: the rules.
        commands: the names of the commands that rules may use.

    Raises:
        UsageError: the rules form a circle, a command is not listed, or two rules have the same name.
    """
    listed = sorted(set(commands))
    names = [rule.name for rule in rules]

    for rule in rules:
        if names.count(rule.name) > 1:
            raise _refused(rule, "another rule has the same name", "give each rule a name of its own")
        if rule.command not in listed:
            why = f"its command {rule.command!r:.60} is not one of the listed commands: {', '.join(listed) or 'none'}"
            raise _refused(rule, why, "correct the name, or add it to commands")
        if circle := _circle(rule, rules):
            why = f"{' → '.join(circle)} is a circle: its command can change the reading that causes it"
            raise _refused(rule, why, "remove one of the rules of the circle")


def _circle(rule: Rule, rules: Sequence[Rule]) -> list[str]:
    """Return the things of the shortest circle that contains a rule; empty if the rule is not part of a circle."""
    ways = [[rule.thing, rule.device]]
    seen = {rule.device}

    # Breadth first, so that the shortest circle is found.
    while ways:
        way = ways.pop(0)
        if way[-1] == rule.thing:
            return way
        for other in rules:
            if other.thing == way[-1] and (other.device not in seen or other.device == rule.thing):
                seen.add(other.device)
                ways.append([*way, other.device])

    return []


def _refused(rule: Rule, why: str, remedy: str) -> UsageError:
    return UsageError(f"the rule {rule.name!r:.60} cannot be used", why=why, remedy=remedy)
