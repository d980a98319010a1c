"""The agent on a simulated STM32F103 with a secure element: sectors, sessions, offers and signed entries."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from firmware_host.simulator.faults import Faults
from firmware_host.simulator.secure_element.element import ChipFaults, SecureElement
from firmware_host.simulator.secure_element.memory import SECURE_BOOT, SLOT_CONFIG, ElementMemory
from firmware_host.simulator.secure_element.protocol import Opcode
from firmware_host.simulator.secure_element.provisioning import DEVICE_KEY
from firmware_host.simulator.secure_element.provisioning import MAC_KEY as MAC_SLOT
from tests.support.agent_client import EVENTS, GROUP_DEVICE, GROUP_IMAGE
from tests.support.board_agent import OPEN, SECTORS, SESSION, BoardAgent, BoardOffError, sign
from tests.support.board_device import SLOT_0, TORN, committed
from tests.support.chip_bus import GATEWAY_KEY, MAC_KEY, image_key, provisioned
from tests.support.qemu_images import digest_of
from tests.support.sampling import SEED, sampled

OLD, NEW = committed("agent-1.0.0"), committed("agent-1.1.0")
STARTED, CONFIRMED = 1, 3
PAGE = 1024
ACCESS_DENIED, INVALID, NOTHING_BEGUN, UNKNOWN = 11, 3, 6, 1
ERASE = 5
AUTHENTICATED = "authenticated"
ID = bytes(range(16))


@pytest.fixture
def agent() -> BoardAgent:
    """Return a board that runs the old agent and has a provisioned secure element."""
    agent = BoardAgent(OLD)
    agent.boot()
    return agent


def device_key(agent: BoardAgent) -> ec.EllipticCurvePublicKey:
    """Return the device's public key that its maker registers."""
    public = agent.element.execute(Opcode.GENKEY, 0, DEVICE_KEY)
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\4" + public)


def check_signature(agent: BoardAgent, signature: bytes, message: bytes) -> None:
    """Raise InvalidSignature unless the device signed a message."""
    der = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    device_key(agent).verify(der, message, ec.ECDSA(SHA256()))


def mac_of(serial: bytes, digest: bytes) -> bytes:
    """Return the chip's MAC of a digest (data sheet DS40001977, section 11.11) with the key of the tests."""
    command = bytes((0x08, 0x40, 5, 0))
    tail = serial[8:9] + serial[4:8] + serial[0:2] + serial[2:4]
    return hashlib.sha256(MAC_KEY + digest + command + bytes(11) + tail).digest()


def signed_bytes(event: dict[str, object]) -> bytes:
    """Return the bytes that the signature of an entry covers."""
    number, kind, detail, digest = event["number"], event["kind"], event["detail"], event["digest"]
    assert isinstance(number, int)
    assert isinstance(kind, int)
    assert isinstance(detail, int)
    assert isinstance(digest, bytes)
    return b"blockota-event" + number.to_bytes(4) + bytes((kind, detail)) + digest


def sectors(agent: BoardAgent, nonce: bytes, pages: bytes) -> dict[str, bytes]:
    """Ask for the digest of pages."""
    return agent.ask(GROUP_DEVICE, SECTORS, body={"nonce": nonce, "sectors": pages}, write=False)


def test_sectors_are_proven_with_the_chips_mac(agent: BoardAgent) -> None:
    """Digest and MAC are computed over the gateway's nonce and the image's pages, in the order of the request."""
    image = OLD.ljust(-(-len(OLD) // PAGE) * PAGE, b"\xff")
    draw = random.Random(SEED)  # noqa: S311 - a draw that can be repeated
    for count in (1, 3, 8):
        pages, nonce = draw.sample(range(len(image) // PAGE), count), draw.randbytes(32)
        content = b"".join(image[PAGE * page : PAGE * (page + 1)] for page in pages)
        digest = hashlib.sha256(nonce + content).digest()
        expected = {"digest": digest, "mac": mac_of(agent.element.memory.serial, digest)}
        assert sectors(agent, nonce, bytes(pages)) == expected


def test_a_spoiled_page_changes_the_answer(tmp_path: Path) -> None:
    """If a bit of the running image changes, a check of the bit's page detects this; checks of other pages do not."""
    agent = BoardAgent(OLD, file=tmp_path / "flash.bin")
    agent.boot()
    before = [sectors(agent, bytes(32), bytes((page,)))["digest"] for page in (2, 7)]
    agent.spoil(7 * PAGE + 100)
    after = [sectors(agent, bytes(32), bytes((page,)))["digest"] for page in (2, 7)]
    assert (after[0] == before[0], after[1] == before[1]) == (True, False)


@pytest.mark.parametrize(
    "body",
    [
        {"nonce": bytes(32)},
        {"sectors": b"\0"},
        {"nonce": bytes(31), "sectors": b"\0"},
        {"nonce": bytes(32), "sectors": b""},
        {"nonce": bytes(32), "sectors": bytes(9)},
        {"nonce": bytes(32), "sectors": b"\x1c"},
        {"nonce": bytes(32), "sectors": b"\xff"},
    ],
)
def test_a_wrong_question_about_sectors_is_refused(agent: BoardAgent, body: dict[str, bytes]) -> None:
    """A request with a wrong nonce length, no page, too many pages, or a page outside the slot is invalid."""
    assert agent.ask(GROUP_DEVICE, SECTORS, body=body, write=False) == {"rc": INVALID}


@pytest.mark.sampled
@pytest.mark.parametrize("page", sampled(range(len(OLD) // PAGE + 1), one_in=8))
def test_each_spoiled_page_is_found_at_the_boot(page: int) -> None:
    """The loader hashes all pages at each boot: an image with a wrong byte in any page is not started."""
    agent = BoardAgent(OLD)
    agent.boot()
    at = min(page * PAGE + 600, len(OLD) - 200)
    spoiled = bytearray(agent.board.flash)
    spoiled[SLOT_0 + at] ^= 1
    agent.restart(bytes(spoiled))
    with pytest.raises(AssertionError, match="does not answer"):
        agent.boot(timeout=0.5)


def test_the_device_proves_itself(agent: BoardAgent) -> None:
    """The signature covers the gateway's nonce, the session, the time and a new nonce of the device."""
    nonces = set()
    for time in (0, 1_800_000_000, 2**32 - 1):
        body = {"nonce": bytes(range(32)), "time": time, "id": ID}
        answer = agent.ask(GROUP_DEVICE, SESSION, body=body)
        message = b"blockota-session" + bytes(range(32)) + ID + time.to_bytes(8) + answer["nonce"]
        check_signature(agent, answer["signature"], message)
        assert answer["serial"] == agent.element.memory.serial
        nonces.add(answer["nonce"])
    assert len(nonces) == 3


def test_an_offered_image_is_taken(agent: BoardAgent) -> None:
    """After the gateway's offer, the image is uploaded, tried and confirmed; the entries are signed and in order."""
    assert agent.open(digest_of(NEW)) == {}
    assert agent.upload(NEW) == {"off": len(NEW), "match": True}
    assert "rc" not in agent.ask(GROUP_IMAGE, 0, body={"hash": digest_of(NEW)})
    agent.reset()
    assert "rc" not in agent.ask(GROUP_IMAGE, 0, body={"confirm": True})
    agent.reset()
    assert agent.ask(GROUP_DEVICE, 0)["proof"] == AUTHENTICATED
    assert agent.slot().startswith(NEW)
    events = agent.events()
    assert [event["number"] for event in events] == [1, 2, 3, 4]
    kinds = [(event["kind"], event["digest"]) for event in events]
    assert kinds == [(STARTED, digest_of(OLD))] + [(kind, digest_of(NEW)) for kind in (STARTED, CONFIRMED, STARTED)]
    for event in events:
        check_signature(agent, event["signature"], signed_bytes(event))


def test_nothing_is_taken_without_an_offer(agent: BoardAgent) -> None:
    """Upload, delta and install requests are accepted only after an offer of the same image, even across a reset."""
    refusal = {"rc": ACCESS_DENIED, "rsn": "no offer for this image"}
    assert agent.upload(NEW) == refusal
    assert agent.send_delta(OLD, bytes(20), NEW) == refusal
    assert agent.open(digest_of(OLD)) == {}
    assert agent.upload(NEW) == refusal
    assert agent.ask(GROUP_IMAGE, 0, body={"hash": digest_of(NEW)})["rc"] != 0
    assert agent.open(digest_of(NEW)) == {}
    assert agent.upload(NEW) == {"off": len(NEW), "match": True}
    agent.reset()
    assert agent.ask(GROUP_IMAGE, 0, body={"hash": digest_of(NEW)}) == refusal
    assert agent.slot().startswith(OLD)


def test_nothing_is_erased_without_an_offer(agent: BoardAgent) -> None:
    """The previous image and a requested image can be erased only after an offer."""
    assert agent.open(digest_of(NEW)) == {}
    assert agent.upload(NEW)["match"]
    assert "rc" not in agent.ask(GROUP_IMAGE, 0, body={"hash": digest_of(NEW)})
    assert agent.ask(GROUP_DEVICE, OPEN, body={"digest": bytes(32), "signature": bytes(64)})["rc"] == ACCESS_DENIED
    refusal = {"rc": ACCESS_DENIED, "rsn": "no offer for this image"}
    assert agent.ask(GROUP_IMAGE, ERASE, body={}) == refusal
    assert agent.slot(1).startswith(NEW)
    agent.reset()
    assert "rc" not in agent.ask(GROUP_IMAGE, 0, body={"confirm": True})
    assert agent.ask(GROUP_IMAGE, ERASE, body={}) == refusal
    assert (agent.slot().startswith(NEW), agent.slot(1).startswith(OLD)) == (True, True)
    assert agent.open(digest_of(OLD)) == {}
    assert agent.ask(GROUP_IMAGE, ERASE, body={}) == {}
    assert not agent.slot(1).startswith(OLD)


def test_an_offer_by_another_is_refused(agent: BoardAgent) -> None:
    """An offer with another key, another session or a changed digest is refused, and the earlier offer is cancelled."""
    assert agent.ask(GROUP_DEVICE, OPEN, body={"digest": bytes(32), "signature": bytes(64)})["rc"] == NOTHING_BEGUN
    refusal = {"rc": ACCESS_DENIED, "rsn": "not signed by the gateway"}
    assert agent.open(digest_of(NEW), key=ec.derive_private_key(99, ec.SECP256R1())) == refusal
    begun = agent.ask(GROUP_DEVICE, SESSION, body={"nonce": bytes(32), "time": 1, "id": ID})
    message = b"blockota-offer" + begun["nonce"] + ID + digest_of(NEW)
    offer = {"digest": digest_of(NEW), "signature": sign(GATEWAY_KEY, message)}
    assert agent.ask(GROUP_DEVICE, OPEN, body=offer) == {}
    assert agent.ask(GROUP_DEVICE, OPEN, body=offer | {"digest": digest_of(OLD)}) == refusal
    assert agent.upload(NEW)["rc"] == ACCESS_DENIED
    agent.ask(GROUP_DEVICE, SESSION, body={"nonce": bytes(32), "time": 1, "id": ID})
    assert agent.ask(GROUP_DEVICE, OPEN, body=offer) == refusal
    for body in ({"digest": bytes(32)}, {"digest": bytes(32), "signature": bytes(63)}, {"signature": bytes(64)}):
        assert agent.ask(GROUP_DEVICE, OPEN, body=body) == {"rc": INVALID}


def new_chip() -> SecureElement:
    """Return a secure element as it leaves the factory."""
    return SecureElement(clock=lambda: 0.0)


def locked_wrongly() -> ElementMemory:
    """Return the memory of a secure element whose locked rules forbid secure boot, MACs and signatures of digests."""
    memory = provisioned(new_chip(), image=image_key()).memory
    memory.config[SECURE_BOOT] = 0
    memory.config[SLOT_CONFIG + 2 * MAC_SLOT] |= 0x10
    memory.config[SLOT_CONFIG + 2 * DEVICE_KEY] &= 0xF0
    return memory


@pytest.mark.parametrize(
    ("memory", "faults", "has_keys"),
    [
        (None, ChipFaults(is_absent=True), False),
        (new_chip().memory, ChipFaults(), False),
        (locked_wrongly(), ChipFaults(), False),
        (None, ChipFaults(late=1.0), False),
        (None, ChipFaults(has_wrong_checksum=True), False),
        (None, ChipFaults(truncated_to=3), False),
        (provisioned(new_chip(), image=image_key("test-only-foreign-key.pem")).memory, ChipFaults(), True),
    ],
    ids=["absent", "unlocked", "locked wrongly", "late", "checksum", "truncated", "another vendor's"],
)
def test_a_bad_chip_leaves_the_device_running(memory: ElementMemory | None, faults: ChipFaults, has_keys: bool) -> None:  # noqa: FBT001
    """With an unusable or foreign secure element, the board runs its image, and its proof is "integrity only"."""
    agent = BoardAgent(OLD, memory=memory)
    agent.element.faults = faults
    agent.boot()
    identity = agent.ask(GROUP_DEVICE, 0)
    assert (identity["proof"], identity["digest"]) == ("integrity only", digest_of(OLD))
    answer = sectors(agent, bytes(32), b"\0")
    assert answer["digest"] == hashlib.sha256(bytes(32) + OLD[:PAGE]).digest()
    assert ("mac" in answer) == has_keys
    session = agent.ask(GROUP_DEVICE, SESSION, body={"nonce": bytes(32), "time": 1, "id": ID})
    assert session.get("rc", 0) == (0 if has_keys else UNKNOWN)
    assert [(event["number"], "signature" in event) for event in agent.events()] == [(1, has_keys)]
    assert agent.upload(NEW)["match"]
    agent.boot()
    assert agent.slot().startswith(OLD)


def test_a_chip_that_fails_later_signs_nothing(agent: BoardAgent) -> None:
    """While the secure element is absent, entries get numbers but no signatures. Later entries continue the numbers."""
    for faults in (ChipFaults(is_absent=True), ChipFaults()):
        agent.element.faults = faults
        agent.boot()
        agent.boot()
    found = [(event["number"], "signature" in event) for event in agent.events()]
    assert found == [(1, True), (2, False), (3, False), (4, True)]
    assert agent.ask(GROUP_DEVICE, EVENTS, body={"number": 4}) == {}
    assert [event["number"] for event in agent.events()] == [5]

    agent.element.faults = ChipFaults(has_wrong_checksum=True)
    assert [("signature" in event) for event in agent.events()] == [False]
    assert "mac" not in sectors(agent, bytes(32), b"\0")
    session = agent.ask(GROUP_DEVICE, SESSION, body={"nonce": bytes(32), "time": 1, "id": ID})
    assert session == {"rc": UNKNOWN, "rsn": "secure element failed"}
    agent.element.faults = ChipFaults()
    assert agent.open(digest_of(NEW)) == {}


def test_random_requests_do_not_stop_the_board(agent: BoardAgent) -> None:
    """Requests with missing, wrong and random items are answered, and the board still accepts valid requests."""
    draw = random.Random(SEED)  # noqa: S311 - a draw that can be repeated
    sizes = (0, 1, 8, 9, 16, 31, 32, 63, 64, 200)
    for _ in range(60):
        names = draw.sample(["nonce", "sectors", "id", "time", "digest", "signature", "number"], draw.randint(0, 5))
        body: dict[str, object] = {}
        for name in names:
            content = draw.randbytes(draw.choice(sizes))
            body[name] = draw.choice([content, content, draw.randrange(1 << 32), "text", True])
        command, write = draw.choice([SECTORS, SESSION, OPEN, EVENTS]), draw.random() < 0.8
        answer = agent.ask(GROUP_DEVICE, command, body=body, write=write)
        assert answer.get("rc") != 0
        assert not (command == OPEN and write and "rc" not in answer)
    assert agent.open(digest_of(NEW)) == {}
    assert agent.slot().startswith(OLD)


def numbers_waiting(agent: BoardAgent) -> Iterator[int]:
    """Read and acknowledge all entries; yield their numbers."""
    while events := agent.events():
        yield from (event["number"] for event in events)
        assert agent.ask(GROUP_DEVICE, EVENTS, body={"number": events[-1]["number"]}) == {}


def test_entries_survive_power_cuts(agent: BoardAgent) -> None:
    """At least 16 entries stay in flash without gaps, and an acknowledged entry is not sent again."""
    for _ in range(20):
        agent.restart()
        agent.boot()
    numbers = [*numbers_waiting(agent)]
    assert numbers == [*range(numbers[0], 22)]
    assert len(numbers) >= 16
    agent.restart()
    agent.boot()
    assert [*numbers_waiting(agent)] == [22]
    assert agent.ask(GROUP_DEVICE, EVENTS, body={"number": 23}) == {"rc": INVALID}


@cache
def after(boots: int) -> tuple[bytes, bytes]:
    """Return the contents of flash and chip after a number of boots, each of which adds an entry."""
    agent = BoardAgent(OLD)
    for _ in range(boots):
        agent.boot()
    return agent.board.flash, agent.element.memory.image()


@pytest.mark.sampled
@pytest.mark.parametrize(("torn", "boots"), sampled([*product(TORN, (4, 16, 32))], one_in=6))
def test_a_torn_entry_costs_at_most_itself(torn: int, boots: int) -> None:
    """A power cut during the write of an entry, or during the erase before it, does not change earlier entries."""
    (flash, memory), cuts = after(boots), 0
    for operation in (1, 8, 21):
        agent = BoardAgent(OLD, memory=ElementMemory.from_image(memory))
        agent.restart(flash, Faults(power_cut_in_operation=operation, torn=torn, seed=operation))
        try:
            agent.boot()
        except BoardOffError:
            cuts += 1
        agent.restart()
        agent.boot()
        numbers = [*numbers_waiting(agent)]
        kept = [number for number in numbers if number <= boots]
        assert kept == [*range(boots + 1 - len(kept), boots + 1)]
        assert len(kept) >= min(boots, 15)
        assert numbers[-1] > boots
    assert cuts == 3
