"""Tests of the agent in QEMU: its own commands for identity, events and deltas, and its reaction to invalid frames."""

from __future__ import annotations

import base64
import binascii
import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import cbor2
import pytest

from blockota.formats.delta import make_patch
from scripts.build_device import ImageSignature
from tests.support.agent_client import EVENTS, GROUP_DEVICE, GROUP_IMAGE, AgentClient
from tests.support.qemu import QemuBoard
from tests.support.qemu_images import NEW, OLD, SLOT_0, SLOT_1, agent, digest_of, flash_with

STARTED, REFUSED, CONFIRMED = 1, 2, 3
TRIAL, ROLLED_BACK = 1, 2
FORMAT, PATCH = make_patch(OLD, NEW)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[QemuBoard]:
    """Return a board that runs the old image."""
    with QemuBoard(tmp_path, flash_with(OLD)) as board:
        board.wait_until_ready(1)
        yield board


@pytest.fixture
def client(board: QemuBoard) -> Iterator[AgentClient]:
    """Return a client at its port."""
    with AgentClient(board) as client:
        yield client


def cut(board: QemuBoard) -> bytes:
    """Cut the power, and wait until the program can receive again; return the flash at the cut."""
    boots = board.boots
    flash = board.cut()
    board.wait_until_ready(boots + 1)
    return flash


def start_trial(client: AgentClient, image: bytes) -> None:
    """Request the image of slot 1, and reset the board."""
    assert "rc" not in client.ask(GROUP_IMAGE, 0, body={"hash": digest_of(image)})
    client.reset()


def test_the_board_identifies_itself(client: AgentClient) -> None:
    """Without a secure element, the board states that it proves integrity only."""
    identity = client.identity()
    assert (identity["board"], identity["version"], identity["digest"]) == ("microbit", "1.0.0", digest_of(OLD))
    assert (identity["proof"], identity["counter"], identity["flags"]) == ("integrity only", 1, 0)
    assert len(identity["id"]) == 8


def test_a_delta_makes_the_image(board: QemuBoard, client: AgentClient) -> None:
    """The published patch produces the new release in slot 1, and the board then runs the new release."""
    assert client.send_delta(OLD, PATCH, NEW) == {"off": len(PATCH), "match": True}
    start_trial(client, NEW)
    assert client.identity()["version"] == "1.1.0"
    assert "rc" not in client.ask(GROUP_IMAGE, 0, body={"confirm": True})
    client.reset()
    assert client.identity()["digest"] == digest_of(NEW)
    flash = board.cut()
    assert (flash[SLOT_0:].startswith(NEW), flash[SLOT_1:].startswith(OLD)) == (True, True)


def test_a_delta_for_another_base_is_refused(client: AgentClient) -> None:
    """The board compares the patch's base with the running image.

    If the base differs from the running image, the whole image is sent.
    """
    assert client.send_delta(NEW, PATCH, NEW) == {"rc": 6, "rsn": "delta for another image"}
    assert client.identity()["digest"] == digest_of(OLD)


def test_a_damaged_delta_is_refused(board: QemuBoard, client: AgentClient) -> None:
    """A damaged patch is refused or produces the published image.

    A good patch is accepted afterwards.
    """
    for at in range(1, len(PATCH), 7):
        damaged = bytearray(PATCH)
        damaged[at] ^= 1 << at % 8
        answer = client.send_delta(OLD, bytes(damaged), NEW)
        if answer.get("match"):
            # The last number of a patch moves to a place in the base that is not read any more.
            assert at >= len(PATCH) - 4
            assert cut(board)[SLOT_1:].startswith(NEW)
        else:
            assert answer.get("rc") == 9 or answer["match"] is False, at
    assert client.send_delta(OLD, PATCH[:-3], NEW)["rc"] == 9
    assert client.ask(GROUP_IMAGE, 0, body={"hash": digest_of(NEW)})["rc"] == 5
    cut(board)
    assert client.identity()["digest"] == digest_of(OLD)
    assert client.send_delta(OLD, PATCH, NEW)["match"] is True


def test_a_delta_of_many_parts_is_interrupted(board: QemuBoard, client: AgentClient, tmp_path: Path) -> None:
    """Repeating the first part of a patch keeps the received data.

    After a power cut, the patch is sent again from its start.
    """
    noise = random.Random(3).randbytes(5_000)  # noqa: S311 - incompressible bytes
    image = agent(tmp_path, ImageSignature(version="1.2.0"), appendix=noise)
    _, patch = make_patch(OLD, image)
    assert len(patch) > 4_000
    sha, base = hashlib.sha256(image).digest(), hashlib.sha256(OLD).digest()
    first = {"off": 0, "data": patch[:512], "len": len(patch), "size": len(image), "sha": sha, "base": base}
    assert client.ask(GROUP_DEVICE, 1, body=first) == {"off": 512}
    assert client.ask(GROUP_DEVICE, 1, body={"off": 512, "data": patch[512:1024]}) == {"off": 1024}
    assert client.ask(GROUP_DEVICE, 1, body=first) == {"off": 1024}
    cut(board)
    assert client.send_delta(OLD, patch, image, offset=1024)["rc"] == 6
    assert client.send_delta(OLD, patch, image) == {"off": len(patch), "match": True}
    assert board.cut()[SLOT_1:].startswith(image)


def test_events_wait_until_they_are_acknowledged(client: AgentClient) -> None:
    """The board records starts and confirmations with the image's digest until the gateway acknowledges the events."""
    client.send_delta(OLD, PATCH, NEW)
    start_trial(client, NEW)
    client.ask(GROUP_IMAGE, 0, body={"confirm": True})
    events = client.ask(GROUP_DEVICE, EVENTS)["events"]
    expected = [(STARTED, 0, digest_of(OLD)), (STARTED, TRIAL, digest_of(NEW)), (CONFIRMED, 0, digest_of(NEW))]
    assert [(event["kind"], event["detail"], event["digest"]) for event in events] == expected
    assert [event["number"] for event in events] == [1, 2, 3]
    assert client.ask(GROUP_DEVICE, EVENTS)["events"] == events
    assert client.ask(GROUP_DEVICE, EVENTS, body={"number": events[0]["number"]}) == {}
    assert client.ask(GROUP_DEVICE, EVENTS)["events"] == events[1:]
    assert client.ask(GROUP_DEVICE, EVENTS, body={"number": 9})["rc"] == 3


def test_events_survive_a_power_cut(board: QemuBoard, client: AgentClient) -> None:
    """After a power cut, the events and their acknowledgements are unchanged, and the event numbers continue."""
    cut(board)
    before = client.ask(GROUP_DEVICE, EVENTS)["events"]
    assert [event["number"] for event in before] == [*range(1, len(before) + 1)]
    assert not any("signature" in event for event in before)
    assert client.ask(GROUP_DEVICE, EVENTS, body={"number": 1}) == {}
    cut(board)
    after = client.ask(GROUP_DEVICE, EVENTS)["events"]
    assert after[: len(before) - 1] == before[1:]
    assert [event["number"] for event in after] == [*range(2, len(after) + 2)]
    assert len(after) >= len(before) > 1


def test_sectors_without_a_secure_element(client: AgentClient) -> None:
    """Without a secure element, the board returns page digests without a MAC, and refuses sessions and offers."""
    pages = b"\x03\x00\x07"
    content = b"".join(OLD[1024 * page : 1024 * (page + 1)].ljust(1024, b"\xff") for page in pages)
    client.start_asking(GROUP_DEVICE, 3, body={"nonce": bytes(32), "sectors": pages}, is_read=True)
    assert cbor2.loads(client.receive()[8:]) == {"digest": hashlib.sha256(bytes(32) + content).digest()}
    body = {"nonce": bytes(32), "time": 1, "id": bytes(16), "digest": bytes(32), "signature": bytes(64)}
    assert [client.ask(GROUP_DEVICE, command, body=body) for command in (4, 5)] == [{"rc": 8}] * 2


def test_a_rollback_is_reported(client: AgentClient) -> None:
    """After three unconfirmed starts, the board returns to the old image and reports the rollback."""
    client.send_delta(OLD, PATCH, NEW)
    start_trial(client, NEW)
    for _ in range(3):
        assert client.identity()["flags"] == TRIAL
        client.reset()
    identity = client.identity()
    assert (identity["flags"], identity["digest"]) == (ROLLED_BACK, digest_of(OLD))
    details = [event["detail"] for event in client.ask(GROUP_DEVICE, EVENTS)["events"]]
    assert details == [0, TRIAL, TRIAL, TRIAL, ROLLED_BACK]


def framed(content: bytes, *, length: int | None = None, crc: int | None = None) -> bytes:
    """Return a line with a frame whose length or checksum may be wrong."""
    size = len(content) + 2 if length is None else length
    check = binascii.crc_hqx(content, 0) if crc is None else crc
    return b"\x06\x09" + base64.b64encode(size.to_bytes(2) + content + check.to_bytes(2)) + b"\n"


ECHO = bytes.fromhex("0a00 0005 0000 07 00 a161646178")
BAD_FRAMES = {
    "a wrong check": framed(ECHO, crc=1),
    "a length of zero": framed(ECHO, length=0),
    "a shorter length": framed(ECHO, length=5),
    "a longer length, and no next line": framed(ECHO, length=900),
    "the largest length": framed(ECHO, length=0xFFFF),
    "a next line without a first one": b"\x04\x14" + framed(ECHO)[2:],
    "a character that is not base64": framed(ECHO).replace(b"A", b"*", 1),
    "padding inside": b"\x06\x09AA==AAAA\n",
    "a line without an end": b"\x06\x09" + b"A" * 3000 + b"\n",
    "an empty line": b"\x06\x09\n",
    "a packet without a header": framed(b"\x0a\0\0"),
    "a header with another size": framed(ECHO[:-1]),
    "an answer": framed(b"\x0b" + ECHO[1:]),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_a_bad_frame_is_ignored(client: AgentClient, name: str) -> None:
    """The board ignores an invalid frame, and answers the next request."""
    client.send_raw(b"noise" + BAD_FRAMES[name])
    assert client.ask(0, 0, body={"d": name}) == {"r": name}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", 3),
        (b"\xa1", 3),
        (b"\xa1\x61d\x64abc", 3),
        (b"\xbf\x61d\x61x\xff", 3),
        (b"\xa1\x61d\x81\x61x", 3),
        (b"\xa2\x61d\x61x", 3),
        (b"\xa1\x61d\x61x\x00", 3),
        (b"\xba\xff\xff\xff\xff\x61d\x61x", 3),
        (b"\xa1\x61d\x01", 3),
        (b"\xa1\x62d\0\x61x", 3),
    ],
)
def test_a_bad_body_is_refused(client: AgentClient, body: bytes, code: int) -> None:
    """A request body is refused if it is not a flat map of definite length, or lacks a required item."""
    client.send(b"\x0a\0" + len(body).to_bytes(2) + b"\0\0\x07\0" + body)
    assert client.receive()[8:] == b"\xa1\x62rc" + bytes((code,))
    assert client.ask(9, 9, body={})["rc"] == 8


def test_random_bytes_do_not_stop_the_board(client: AgentClient) -> None:
    """After thousands of random bytes and lines, the board still answers and runs the same image."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    draw = random.Random(seed)  # noqa: S311 - a draw that can be repeated
    for _ in range(200):
        content = draw.randbytes(draw.randint(0, 60))
        head = bytes((draw.choice([8, 10]), 0)) + len(content).to_bytes(2) + b"\0"
        head += bytes((draw.choice([0, 1, 64]), 1, draw.choice([0, 1, 2, 3, 4, 5, 6, 8])))
        client.send_raw(draw.choice([content, framed(content), framed(head + content)]) + b"\n")
    client.send(ECHO[:-1] + b"!")
    while not client.receive().endswith(b"!"):
        pass
    assert client.identity()["digest"] == digest_of(OLD)
