"""Cut the power of a simulated STM32F103 while its agent applies a delta, or tries and confirms the new image."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from blockota.formats.delta import make_patch
from firmware_host.simulator.faults import Faults
from firmware_host.simulator.secure_element.memory import ElementMemory
from tests.support.agent_client import GROUP_DEVICE, GROUP_IMAGE
from tests.support.board_agent import BoardAgent, BoardOffError
from tests.support.board_device import committed
from tests.support.host_device import digest_of
from tests.support.power_cuts import Cut

OLD, NEW = committed("agent-1.0.0"), committed("agent-1.1.0")
ATTEMPTS, TRIAL = 4, 1
LOADERS = ("loader", "loader-chip")


@cache
def patch() -> bytes:
    """Return the patch from the old image to the new one."""
    return make_patch(OLD, NEW)[1]


@cache
def _new_chip() -> bytes:
    """Return the memory of a provisioned chip that has not accepted an image yet."""
    return BoardAgent(OLD).element.memory.image()


@cache
def operations(loader: str) -> tuple[int, int]:
    """Return the number of flash operations of an update, and how many of them precede the request of the image."""
    agent = _agent(loader)
    agent.boot()
    made = _make(agent)
    _run(agent)
    return agent.board.flash_operations, made


def cut_update(loader: str, cuts: Iterable[Cut]) -> tuple[str, int]:
    """Cut the power of a board during an update and during the recovery; then update the board again.

    Args:
        loader: the name of the committed loader; ``loader-chip`` asks the secure element.
        cuts: the first cut interrupts the update; each further cut interrupts one boot during the recovery.

    Returns:
        The fault of the board or an empty text, and the number of cuts that happened.
    """
    agent, happened = _agent(loader), 0
    for number, cut in enumerate(cuts):
        faults = Faults(power_cut_in_operation=cut.operation, torn=cut.torn, seed=cut.seed)
        agent.restart(faults=faults)
        try:
            agent.boot()
            if number == 0:
                _make(agent)
                _run(agent)
        except BoardOffError:
            happened += 1
    agent.restart()
    try:
        return _fault_of(agent), happened
    except AssertionError as error:
        return f"it does not answer, or refuses a command: {error}", happened


def _agent(loader: str) -> BoardAgent:
    return BoardAgent(OLD, loader=loader, memory=ElementMemory.from_image(_new_chip()))


def _make(agent: BoardAgent) -> int:
    """Build the new image in slot 1; return the number of flash operations so far."""
    if agent.ask(GROUP_DEVICE, 0)["proof"] == "authenticated":
        assert agent.open(digest_of(NEW)) == {}
    answer = agent.send_delta(OLD, patch(), NEW)
    assert answer == {"off": len(patch()), "match": True}, answer
    return agent.board.flash_operations


def _run(agent: BoardAgent) -> None:
    """Request the image of slot 1, try it, and confirm it."""
    answer = agent.ask(GROUP_IMAGE, 0, body={"hash": digest_of(NEW)})
    assert "rc" not in answer, answer
    agent.reset()
    answer = agent.ask(GROUP_IMAGE, 0, body={"confirm": True})
    assert "rc" not in answer, answer
    agent.reset()


def _fault_of(agent: BoardAgent) -> str:
    """Return an empty text if the board runs a published image and can be updated; otherwise, return the fault."""
    for _ in range(ATTEMPTS):
        agent.boot()
        identity = agent.ask(GROUP_DEVICE, 0)
        image = {digest_of(OLD): OLD, digest_of(NEW): NEW}.get(identity["digest"], b"another")
        if not agent.slot().startswith(image):
            return "it runs an image that is not published"
        if identity["flags"] & TRIAL:
            assert "rc" not in agent.ask(GROUP_IMAGE, 0, body={"confirm": True})
        elif image == NEW:
            return ""
        else:
            _make(agent)
            _run(agent)
    return "it cannot be updated"
