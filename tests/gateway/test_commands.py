"""The command desk accepts valid commands, sends each command at most once, and records its outcome."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from blockota.errors import RefusedError, UnreachableError
from blockota.gateway.commands import LONGEST, MOST_OPEN
from blockota.gateway.facts import SiteFacts
from blockota.model.command import CommandAnswer, CommandState, DeviceCommand
from tests.support.gateway import known_device
from tests.support.thing_desks import COMMAND, NOW, OTHER_VALIDATOR, ThingDesks, command_request

FIRST = DeviceCommand.of_data(COMMAND)


@pytest.fixture
def desks(tmp_path: Path) -> Iterator[ThingDesks]:
    """The desks of a gateway."""
    desks = ThingDesks(tmp_path)
    yield desks
    desks.close()


def state_of(desks: ThingDesks, **changed: Any) -> Any:
    """Return the state in the answer to a request for the first command."""
    [outcome] = desks.commands.keep([command_request(**changed)])
    return outcome["state"] if isinstance(outcome, dict) else outcome


def restarted(desks: ThingDesks) -> ThingDesks:
    """Return the desks after a restart of the gateway."""
    desks.close()
    again = ThingDesks(desks.folder)
    again.now = desks.now
    return again


def test_a_command_is_carried_out_once(desks: ThingDesks) -> None:
    """A command waits, is sent once, and its outcome is written as a reading.

    A repeated request returns the command's state.
    """
    woken: list[bool] = []
    end = desks.commands.add_listener(lambda: woken.append(True))
    assert state_of(desks) == "waiting"
    assert woken
    end()
    assert desks.commands.waiting() == [FIRST]
    assert (desks.commands.claim(FIRST), desks.commands.claim(FIRST)) == (True, False)
    assert (state_of(desks), desks.commands.waiting(), desks.commands.count_open()) == ("sent", [], 1)
    for _ in range(2):  # the answer may come twice
        desks.commands.answered(256, CommandAnswer("c-1", CommandState.FAILED, "stuck"))
    assert desks.written() == [("command:c-1", "failed")]
    assert desks.commands.keep([command_request()]) == [{"id": "c-1", "state": "failed", "reason": "stuck"}]
    assert desks.commands.count_open() == 0
    desks.now += 31
    desks.commands.expire()
    assert desks.written() == [("command:c-1", "failed")]


def test_a_restart_sends_what_waits_and_nothing_twice(desks: ThingDesks) -> None:
    """After a restart, waiting commands are still waiting, and sent or answered commands are not sent again."""
    desks.commands.keep([command_request(), command_request(id="c-2"), command_request(id="c-3")])
    desks.commands.claim(FIRST)
    second = next(one for one in desks.commands.waiting() if one.id == "c-2")
    desks.commands.claim(second)
    desks.commands.answered(256, CommandAnswer("c-2", CommandState.DONE))
    again = restarted(desks)
    assert [one.id for one in again.commands.waiting()] == ["c-3"]
    assert not again.commands.claim(FIRST)
    assert not again.commands.claim(second)
    again.commands.answered(256, CommandAnswer("c-1", CommandState.REFUSED))
    assert again.written() == [("command:c-2", "done"), ("command:c-1", "refused")]
    again.close()


def test_a_command_without_an_answer(desks: ThingDesks) -> None:
    """If the deadline passes without an answer, the outcome is *no answer*.

    A late answer is still reported.
    """
    desks.commands.keep([command_request(), command_request(id="c-2")])
    desks.commands.claim(FIRST)
    desks.now = NOW + 30
    desks.commands.expire()
    assert desks.written() == []
    desks.now += 1
    assert desks.commands.waiting() == []
    desks.commands.expire()
    desks.commands.expire()
    assert desks.written() == [("command:c-1", "no answer"), ("command:c-2", "no answer")]
    desks.commands.answered(256, CommandAnswer("c-1", CommandState.DONE))
    assert desks.written()[-1] == ("command:c-1", "done")
    assert state_of(desks) == "done"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"thing": 999}, "device 999 is not of this site"),
        ({"thing": 257}, "device 257 is banned"),
        ({"name": "erase"}, "do not list 'erase' for the model 'thermo2'"),
        ({"deadline": NOW - 1}, "passed 1 seconds ago"),
        ({"deadline": NOW + LONGEST + 1}, "more than 24 hours away"),
        ({"arguments": None}, "arguments"),
        ({"id": ""}, "id"),
    ],
)
def test_other_commands_are_refused(desks: ThingDesks, changed: dict[str, Any], why: str) -> None:
    """A command with an invalid field is refused with the reason, and not stored."""
    desks.learn(known_device(256), known_device(257, is_banned=True))
    refusal = state_of(desks, **changed)
    assert isinstance(refusal, RefusedError)
    assert why in refusal.why
    assert desks.commands.waiting() == []


def test_an_id_names_one_command(desks: ThingDesks) -> None:
    """A command with the id of an earlier command but another name, argument or sender is refused.

    A request that differs only in the deadline returns the state of the earlier command.
    The deadline of the earlier command stays unchanged.
    """
    assert state_of(desks) == "waiting"
    assert state_of(desks, deadline=NOW + 31) == "waiting"
    for changed in ({"arguments": {"percent": 41}}, {"name": "close-valve"}):
        assert "names another command" in state_of(desks, **changed).why
    assert "names another command" in state_of(desks, sender=OTHER_VALIDATOR).why
    assert desks.commands.waiting() == [FIRST]


def test_a_device_has_few_open_commands(desks: ThingDesks) -> None:
    """Too many open commands to one device are refused; another device is still served."""
    requests = [command_request(id=f"c-{number}") for number in range(MOST_OPEN + 1)]
    *_, last = desks.commands.keep(requests)
    assert isinstance(last, RefusedError)
    assert "without an outcome" in last.why
    assert state_of(desks, thing=257) == "waiting"


def test_nothing_is_sent_after_a_ban(desks: ThingDesks) -> None:
    """After a ban of the device or the gateway, a waiting command is not sent."""
    assert state_of(desks) == "waiting"
    desks.learn(known_device(256, is_banned=True))
    assert not desks.commands.claim(FIRST)
    desks.learn(known_device(256), is_banned=True)
    assert not desks.commands.claim(FIRST)
    assert "the gateway is banned" in state_of(desks, id="c-2").why


def test_the_devices_must_be_known_first(desks: ThingDesks) -> None:
    """Before the gateway has read its devices, a command fails temporarily, so that the validator repeats it."""
    desks.commands.learn(SiteFacts())
    with pytest.raises(UnreachableError, match="not read its devices"):
        desks.commands.keep([command_request()])


def test_answers_that_do_not_fit_are_refused(desks: ThingDesks) -> None:
    """An answer from another device, or for a command that was not sent, is refused.

    An answer that contradicts an earlier answer is also refused.
    """
    desks.commands.keep([command_request()])
    for thing, name in ((256, "c-1"), (256, "c-9"), (257, "c-1")):
        with pytest.raises(RefusedError) as caught:
            desks.commands.answered(thing, CommandAnswer(name, CommandState.DONE))
        assert "got no command" in caught.value.why
    desks.commands.claim(FIRST)
    desks.commands.answered(256, CommandAnswer("c-1", CommandState.DONE))
    with pytest.raises(RefusedError) as caught:
        desks.commands.answered(256, CommandAnswer("c-1", CommandState.FAILED))
    assert "answered the command 'c-1' before: done" in caught.value.why
    assert desks.written() == [("command:c-1", "done")]


def test_ids_are_forgotten_after_a_month(desks: ThingDesks) -> None:
    """The id of a command is remembered for a month after its deadline."""
    desks.commands.keep([command_request()])
    desks.commands.claim(FIRST)
    desks.now += 29 * 86_400
    desks.commands.expire()
    assert state_of(desks, deadline=desks.now + 10) == "no answer"
    desks.now += 3 * 86_400
    desks.commands.expire()
    assert state_of(desks, deadline=desks.now + 10) == "waiting"


def test_the_sender_is_part_of_the_command(desks: ThingDesks) -> None:
    """Two validators can command the same device, with different ids."""
    assert state_of(desks) == "waiting"
    assert state_of(desks, sender=UUID(int=99, version=4), id="c-2") == "waiting"
