"""The SMP face checks flash pages of boards, with and without a secure element."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from blockota.errors import RefusedError, UsageError
from blockota.formats.public_key import KeyKind, PublicKey
from blockota.gateway.faces.smp.sectors import PAGES_AT_ONCE, draw_pages, read_mac_keys
from blockota.model.delivery import Stage
from blockota.model.receipt import EntryKind
from tests.support.agent_device import AgentDevice
from tests.support.chip_device import MAC_SECRET, ChipAgentDevice, DeviceChip
from tests.support.gateway import known_device
from tests.support.smp_device import digest_of, encoded, mcuboot_image
from tests.support.smp_face import NUMBER, OLD, Site, serve

__all__ = ["serve"]
LARGE, LARGER = mcuboot_image("1.0.0", size=9_900), mcuboot_image("1.1.0", size=9_900)
DEVICE = known_device(NUMBER, face="smp", key=PublicKey(KeyKind.P256, DeviceChip().public_key))
WITH_KEY = {"device": DEVICE, "settings": {"mac_keys": {NUMBER: MAC_SECRET}}}
Serve = Callable[..., None]


def warnings(site: Site) -> str:
    """Return the texts of all warnings."""
    return "\n".join(entry.source or "" for entry in site.entries() if entry.kind is EntryKind.WARNING)


def installed(site: Site) -> list[bytes | None]:
    """Return the images in the entries about running images."""
    return [entry.image for entry in site.entries() if entry.kind.names_running_image]


def sha256(content: bytes) -> bytes:
    """Return the SHA-256."""
    return hashlib.sha256(content).digest()


def test_pages_are_drawn() -> None:
    """Of a large image, eight different pages are drawn at random with equal probability.

    Of a small image, all pages are drawn.
    """
    assert sorted(draw_pages(5 * 1024 + 1)) == list(range(6))
    counts = Counter(page for _ in range(4000) for page in draw_pages(64 * 1024))
    assert set(counts) == set(range(64))
    assert all(350 < count < 650 for count in counts.values())
    assert all(len(set(draw_pages(64 * 1024))) == PAGES_AT_ONCE for _ in range(20))


@pytest.mark.parametrize(("kind", "facts"), [(AgentDevice, {}), (ChipAgentDevice, WITH_KEY), (ChipAgentDevice, {})])
def test_a_right_board_passes(serve: Serve, kind: type[AgentDevice], facts: dict[str, Any]) -> None:
    """Correct pages of the running image, before and after an update, cause no warning."""

    async def use(site: Site) -> None:
        await site.until(lambda: sha256(LARGER) in installed(site) and site.stage is Stage.SETTLED)
        asked = site.board.answers
        await site.gateway.clock.advance(site.gateway.core, 3600)
        await site.until(lambda: site.board.answers > asked + 20)
        assert installed(site) == [sha256(LARGE), sha256(LARGER)]
        assert not warnings(site)

    serve(use, kind=kind, facts={**facts, "images": (LARGE, LARGER)})


def test_a_spoiled_page_is_found_and_repaired(serve: Serve) -> None:
    """A board with a damaged page does not count as running the release.

    Installing the release again repairs the page.
    """

    async def use(site: Site) -> None:
        board = site.board
        assert isinstance(board, AgentDevice)
        await site.until(lambda: sha256(LARGER) in installed(site) and site.stage is Stage.SETTLED)
        board.spoiled_at = 9_000
        while not warnings(site):
            await site.gateway.clock.advance(site.gateway.core, 3600)
            asked = board.answers
            await site.until(lambda: board.answers > asked + 12)  # noqa: B023 - used in this round only
        assert "the board does not count as running the release: the pages" in warnings(site)
        await site.until(lambda: site.stage is Stage.PAUSED)
        await site.gateway.clock.advance(site.gateway.core, 60)
        await site.until(lambda: board.spoiled_at is None and board.is_confirmed and site.stage is Stage.SETTLED)
        await site.until(lambda: installed(site) == [sha256(LARGE), sha256(LARGER), sha256(LARGER)])
        assert board.running == digest_of(LARGER)

    serve(use, kind=AgentDevice, facts={"images": (LARGE, LARGER)})


def test_a_board_whose_first_report_is_wrong(serve: Serve) -> None:
    """The face checks a board's pages before it logs the running release, so a damaged image is not logged."""

    async def use(site: Site) -> None:
        await site.until(lambda: sha256(LARGER) in installed(site))
        assert installed(site) == [sha256(LARGER)]
        assert "the pages 0, 1, 2" in warnings(site)

    def start(site: Site) -> Awaitable[None]:
        assert isinstance(site.board, AgentDevice)
        site.board.spoiled_at = 2500
        return use(site)

    small = mcuboot_image("1.0.0", size=2800)
    serve(start, kind=AgentDevice, facts={"images": (small, LARGER)})


@pytest.mark.parametrize(
    ("flaw", "why"),
    [
        ("macs_other", "the MAC of the pages was not made with the device's key"),
        ("is_silent", "the board did not open a session"),
        ("signs_other", "the board is not the device"),
    ],
)
def test_a_board_with_a_known_mac_key_must_prove_itself(serve: Serve, flaw: str, why: str) -> None:
    """If the gateway knows a board's MAC key, a page digest with a wrong MAC or without a MAC is not accepted."""

    async def use(site: Site) -> None:
        await site.until(lambda: f"the board does not count as running the release: {why}" in warnings(site))
        assert installed(site) == []

    def start(site: Site) -> Awaitable[None]:
        assert isinstance(site.board, ChipAgentDevice)
        setattr(site.board.flaws, flaw, True)
        return use(site)

    serve(start, kind=ChipAgentDevice, facts=WITH_KEY)


@pytest.mark.parametrize("answer", [{"rc": 8}, {}, {"digest": 7}, {"digest": bytes(32), "mac": "text"}])
def test_an_answer_that_cannot_be_used(serve: Serve, answer: dict[str, object]) -> None:
    """If an agent without a MAC key answers the page check with an error, its pages are not checked.

    A board whose pages cannot be checked is updated like any other board.
    """

    async def use(site: Site) -> None:
        await site.until(lambda: len(installed(site)) == 2)
        assert not warnings(site)
        assert any("hash its pages" in str(line) for line in site.lines)

    def start(site: Site) -> Awaitable[None]:
        site.board.faults.answers[64, 3] = encoded(answer)
        return use(site)

    serve(start, kind=AgentDevice)


def test_a_digest_for_another_nonce(serve: Serve) -> None:
    """A page digest that was computed with another nonce is refused."""

    async def use(site: Site) -> None:
        await site.until(lambda: "the pages 0, 1, 2, 3 do not have the content" in warnings(site))

    def start(site: Site) -> Awaitable[None]:
        content = OLD.ljust(4096, b"\xff")
        site.board.faults.answers[64, 3] = encoded({"digest": sha256(bytes(32) + content)})
        return use(site)

    serve(start, kind=AgentDevice)


def test_mac_keys(tmp_path: Path) -> None:
    """The file of a MAC key is named by the device number. A MAC key file that other users can read is refused."""
    path = tmp_path / "300"
    path.write_text(f"{MAC_SECRET.hex()}\n")
    path.chmod(0o644)
    with pytest.raises(RefusedError, match="other users can read it"):
        read_mac_keys(tmp_path, [300, 301])
    path.chmod(0o600)
    assert read_mac_keys(tmp_path, [300, 301]) == {300: MAC_SECRET}
    path.write_text(MAC_SECRET.hex()[1:])
    with pytest.raises(UsageError, match="64 hexadecimal digits"):
        read_mac_keys(tmp_path, [300])
