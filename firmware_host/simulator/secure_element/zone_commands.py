"""The commands on zones, locks, counters and random numbers."""

from __future__ import annotations

from blockota.errors import UsageError
from firmware_host.simulator.secure_element.core import ChipCore, TempKey, parse, require, sha256
from firmware_host.simulator.secure_element.memory import (
    CHIP_MODE,
    CONFIG_SIZE,
    COUNT_MATCH,
    COUNTER_MAX,
    COUNTERS,
    LOCK_CONFIG,
    LOCK_VALUE,
    P256,
    SECURE_BOOT,
    SLOT_LOCKED,
    SLOT_SIZES,
    USE_LOCK,
    USER_EXTRA,
    VOLATILE_KEYS,
)
from firmware_host.simulator.secure_element.protocol import ChipCommand, ChipStatusError, Opcode, crc16

CONFIG, OTP, DATA = 0, 1, 2
"""Numbers of the zones in Read and Write."""
_WORD, _BLOCK = 4, 32
_UNSEEDED = b"\xff\xff\x00\x00" * 8
"""The constant output, in place of random numbers, of a chip whose configuration zone is unlocked."""
_NUM_IN, _LATCH = 20, 4
_FIRST_WRITABLE, _NEVER_WRITTEN = 16, range(84, 88)


def info(core: ChipCore, command: ChipCommand) -> bytes:
    """Return the revision (mode 0), whether a key is valid (1), the state of TempKey (2), or the latch (4).

    The latch can be read only if SecureBootConfig lets SecureBoot set the latch. Setting the latch by Info is not
    modelled.
    """
    parse(not command.data and command.mode in {0, 1, 2, _LATCH})
    if command.mode == _LATCH:
        require(command.param2 == 0 and bool(core.memory.word(SECURE_BOOT) & 8))
        return bytes((core.is_latched, 0, 0, 0))
    if command.mode == 0:
        return bytes(core.memory.config[4:8])
    if command.mode == 1:
        parse(command.param2 < len(SLOT_SIZES))
        return bytes((_has_valid_key(core, command.param2), 0, 0, 0))

    temp_key, authorized = core.registers.temp_key, core.registers.authorized
    state = 0 if authorized is None else 4 | authorized << 3
    return bytes((temp_key.flags if temp_key else 0, state | bool(temp_key) << 7, 0, 0))


def _has_valid_key(core: ChipCore, slot: int) -> bool:
    """Return whether a slot has a usable private key or a usable public key."""
    rules = core.memory.rules(slot)
    require(rules.key_type == P256)
    try:
        if rules.is_private:
            core.private_key(slot)
        else:
            core.public_key(slot)
    except ChipStatusError:
        return False
    return True


def read(core: ChipCore, command: ChipCommand) -> bytes:
    """Read 4 bytes, or 32 bytes with bit 7 of the mode. Encrypted reads are not modelled, and are refused."""
    parse(not command.data and not command.mode & 0x7C)
    size = _BLOCK if command.mode & 0x80 else _WORD
    zone, slot, start = _place(command, size)
    if zone == DATA:
        require(core.memory.is_data_locked and core.memory.rules(slot).is_clear)
    require(zone != OTP or core.memory.is_data_locked)
    content = (core.memory.config, core.memory.otp, core.memory.slots[slot])[zone]
    return bytes(content[start : start + size]).ljust(size, b"\0")


def _place(command: ChipCommand, size: int) -> tuple[int, int, int]:
    """Return the zone, slot and offset that Read or Write addresses. A slot's last block may extend beyond the slot."""
    zone, slot = command.mode & 3, command.param2 >> 3 & 0xF
    parse(zone <= DATA)
    block = command.param2 >> 8 if zone == DATA else command.param2 >> 3
    start = block * _BLOCK + (command.param2 & 7) * _WORD
    end = (CONFIG_SIZE, 2 * _BLOCK, SLOT_SIZES[slot])[zone]
    parse(start < end and (size == _WORD or command.param2 & 7 == 0))
    return zone, slot if zone == DATA else 0, start


def write(core: ChipCore, command: ChipCommand) -> bytes:
    """Write 4 bytes, or 32 bytes with bit 7 of the mode. Encrypted writes are not modelled, and are refused."""
    size = _BLOCK if command.mode & 0x80 else _WORD
    parse(not command.mode & 0x3C)
    require(not command.mode & 0x40)
    parse(len(command.data) == size)

    zone, slot, start = _place(command, size)
    if zone == CONFIG:
        _write_config(core, start, command.data)
    elif zone == OTP:
        require(core.memory.is_config_locked and not core.memory.is_data_locked and size == _BLOCK)
        core.memory.otp[start : start + size] = command.data
    else:
        _write_slot(core, slot, start, command.data)
    return b""


def _write_config(core: ChipCore, start: int, data: bytes) -> None:
    """Write to the configuration zone, except bytes 0 to 15 and the bytes that only UpdateExtra and Lock change."""
    written = range(start, start + len(data))
    require(not core.memory.is_config_locked and start >= _FIRST_WRITABLE)
    require(not set(written) & set(_NEVER_WRITTEN))
    core.memory.config[start : start + len(data)] = data


def _write_slot(core: ChipCore, slot: int, start: int, data: bytes) -> None:
    """Write to a slot that does not have a private key.

    After the data zone is locked, WriteConfig must allow the write. A write must have 32 bytes if the data zone is not
    locked yet, or if the slot is secret.
    """
    memory, rules = core.memory, core.memory.rules(slot)
    require(memory.is_config_locked and not memory.is_slot_locked(slot) and not rules.is_private)
    require(not memory.is_data_locked or rules.write_mode <= 1)
    require(len(data) == _BLOCK or (memory.is_data_locked and not rules.is_secret))
    fitting = data[: len(memory.slots[slot]) - start]
    memory.slots[slot][start : start + len(fitting)] = fitting
    if memory.is_data_locked and rules.write_mode == 1:  # PubInvalid: until Verify validates the new key
        memory.slots[slot][0] = memory.slots[slot][0] & 0x0F | 0xA0


def update_extra(core: ChipCore, command: ChipCommand) -> bytes:
    """Write configuration byte 84 (mode 0) or 85 (mode 1); in a locked zone, the byte must be zero before."""
    parse(not command.data and command.mode <= 1)
    offset = USER_EXTRA + command.mode
    require(not core.memory.is_config_locked or core.memory.config[offset] == 0)
    core.memory.config[offset] = command.param2 & 0xFF
    return b""


def lock(core: ChipCore, command: ChipCommand) -> bytes:
    """Lock the configuration zone (mode 0), the data and OTP zones (1), or one slot (2) permanently.

    If bit 7 of the mode is not set, Param2 must be the checksum of the locked bytes. The data and OTP zones have one
    common checksum. A slot is locked without a checksum.
    """
    parse(not command.data and not command.mode & 0x40)
    zone, slot = command.mode & 3, command.mode >> 2 & 0xF
    parse(zone <= DATA and (zone == DATA or slot == 0))

    # Bit 7 of the mode waives the checksum; a slot never has one.
    memory = core.memory
    if zone != DATA and not command.mode & 0x80:
        content = bytes(memory.config) if zone == CONFIG else b"".join((*memory.slots, memory.otp))
        require(command.param2 == crc16(content))

    if zone == CONFIG:
        require(not memory.is_config_locked)
        _refuse_what_is_not_modelled(core)
        memory.config[LOCK_CONFIG] = 0
    elif zone == OTP:
        require(memory.is_config_locked and not memory.is_data_locked)
        memory.config[LOCK_VALUE] = 0
    else:
        require(memory.is_data_locked and memory.rules(slot).is_lockable and not memory.is_slot_locked(slot))
        bits = memory.word(SLOT_LOCKED) & ~(1 << slot)
        memory.config[SLOT_LOCKED : SLOT_LOCKED + 2] = bits.to_bytes(2, "little")
    return b""


def _refuse_what_is_not_modelled(core: ChipCore) -> None:
    """Raise a `UsageError` for a configuration with rules that the model does not implement."""
    config = core.memory.config
    found = {
        "CountMatch": config[COUNT_MATCH] & 1,
        "another clock divider": config[CHIP_MODE] >> 3,
        "UseLock": config[USE_LOCK] & 0xF,
        "VolatileKeyPermission": config[VOLATILE_KEYS] & 0x80,
        "counters that do not begin at 0": bytes(config[COUNTERS : COUNTERS + 16])
        != bytes.fromhex("ffffffff00000000") * 2,
        "LimitedUse": any(core.memory.rules(slot).is_limited for slot in range(len(SLOT_SIZES))),
    }

    if names := [name for name, is_there in found.items() if is_there]:
        raise UsageError(
            f"the model of the secure element has no {' and no '.join(names)}",
            remedy="configure the chip without this rule, or extend firmware_host/simulator/secure_element",
        )


def counter(core: ChipCore, command: ChipCommand) -> bytes:
    """Return a counter (mode 0), or add 1 and return the new value (mode 1), which fails at the counter's maximum."""
    parse(not command.data and command.mode <= 1 and command.param2 <= 1)
    require(core.memory.is_config_locked)
    if command.mode:
        require(core.memory.counters[command.param2] < COUNTER_MAX)
        core.memory.counters[command.param2] += 1
    return core.memory.counters[command.param2].to_bytes(4, "little")


def random(core: ChipCore, command: ChipCommand) -> bytes:
    """Return 32 random bytes; before the configuration zone is locked, return a fixed pattern."""
    parse(not command.data and command.mode <= 1 and command.param2 == 0)
    return core.random(32) if core.memory.is_config_locked else _UNSEEDED


def nonce(core: ChipCore, command: ChipCommand) -> bytes:
    """Put a nonce of chip and host into TempKey (modes 0, 1), or bytes of the host into a register (mode 3).

    With mode 3, bit 6 selects the message digest buffer instead of TempKey, and bit 5 selects 64 bytes instead of 32.
    The alternate key buffer is not modelled.
    """
    if command.mode <= 1:
        parse(len(command.data) == _NUM_IN and command.param2 == 0)
        number = core.random(32) if core.memory.is_config_locked else _UNSEEDED
        value = sha256(number, command.data, bytes((Opcode.NONCE, command.mode, 0)))
        core.registers.temp_key = TempKey(value, is_input=False)
        return number

    parse(command.mode & 0x1F == 3 and command.mode >> 6 <= 1)  # noqa: PLR2004
    parse(len(command.data) == (64 if command.mode & 0x20 else 32) and command.param2 == 0)
    if command.mode & 0x40:
        core.registers.digest = command.data
    else:
        core.registers.temp_key = TempKey(command.data, is_input=True)
    return b""
