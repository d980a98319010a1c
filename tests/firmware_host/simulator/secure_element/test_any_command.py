"""Any sequence of commands to the simulated ATECC608 follows its rules for locks, secrets and counters."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from firmware_host.simulator.secure_element import ChipStatusError, ElementMemory, SecureElement
from firmware_host.simulator.secure_element.provisioning import (
    AUTHORITY_KEY,
    BOOT_DIGEST,
    DEVICE_KEY,
    GATEWAY_KEY,
    IMAGE_KEY,
    MAC_KEY,
    ProvisioningKeys,
    provision,
)
from tests.firmware_host.simulator.secure_element.bench import Bench, pair, xy

OPCODES = (0x02, 0x08, 0x12, 0x16, 0x17, 0x1B, 0x20, 0x24, 0x28, 0x30, 0x40, 0x41, 0x45, 0x47, 0x80)
SIZES = (0, 3, 4, 20, 32, 64, 77, 83, 96, 128)
SECRET = bytes(range(160, 192))
GATEWAY, IMAGE_SIGNER, AUTHORITY = (xy(pair(seed).public_key()) for seed in (51, 52, 53))
KEYS = ProvisioningKeys(GATEWAY, IMAGE_SIGNER, AUTHORITY, SECRET)
COMMANDS = st.tuples(
    st.one_of(st.sampled_from(OPCODES), st.integers(0, 255)),
    st.one_of(st.sampled_from((0, 1, 2, 3, 4, 5, 6, 7, 0x20, 0x43, 0x80, 0x81, 0x82, 0xC2)), st.integers(0, 255)),
    st.one_of(st.integers(0, 15), st.integers(0, 15).map(lambda slot: slot << 3), st.integers(0, 0xFFFF)),
    st.one_of(st.sampled_from(SIZES).flatmap(lambda n: st.binary(min_size=n, max_size=n)), st.binary(max_size=148)),
)


def provisioned() -> ElementMemory:
    """Return the memory of a provisioned chip."""
    element = Bench().element
    provision(element, KEYS)
    return element.memory


IMAGE = provisioned().image()


@given(st.lists(COMMANDS, max_size=12))
def test_a_locked_chip_keeps_to_its_rules(commands: list[tuple[int, int, int, bytes]]) -> None:
    """No command unlocks, lowers a counter, changes a fixed slot, reveals a secret, or raises an unexpected error."""
    element = SecureElement(ElementMemory.from_image(IMAGE), clock=lambda: 0.0)
    before = ElementMemory.from_image(IMAGE)
    private = bytes(before.slots[DEVICE_KEY][4:36])
    answers = b""
    for command in commands:
        with contextlib.suppress(ChipStatusError):
            answers += element.execute(*command) + b"|"
        assert all(new >= old for new, old in zip(element.memory.counters, before.counters, strict=True))
        before.counters = list(element.memory.counters)
    assert private not in answers
    assert SECRET not in answers
    assert (element.memory.is_config_locked, element.memory.is_data_locked) == (True, True)
    assert element.memory.config[:84] == before.config[:84]
    assert element.memory.config[96:] == before.config[96:]
    assert element.memory.otp == before.otp
    for slot in set(range(16)) - {GATEWAY_KEY}:
        assert element.memory.slots[slot] == before.slots[slot]


@given(st.lists(st.binary(max_size=160), max_size=4), st.integers(0, 255))
def test_any_bytes_on_the_bus_get_an_answer(writes: list[bytes], word_address: int) -> None:
    """Arbitrary writes change nothing in a locked chip's zones, and the chip still answers afterwards."""
    bench = Bench()
    bench.element = SecureElement(ElementMemory.from_image(IMAGE), clock=lambda: bench.now)
    for data in writes:
        bench.woken().write(word_address, data)
        bench.now += 0.2
    bench.now += 2
    element = bench.woken()
    assert element.memory.image() == IMAGE
    assert bench.answer(bytes.fromhex("07300000 00035d"), 0.01) == bytes.fromhex("07000060028038")


def test_the_slots_of_the_profile_are_apart() -> None:
    """The slots for the different purposes of keys are all different."""
    assert len({DEVICE_KEY, MAC_KEY, BOOT_DIGEST, GATEWAY_KEY, IMAGE_KEY, AUTHORITY_KEY}) == 6
