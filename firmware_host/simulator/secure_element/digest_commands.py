"""The commands with SHA-256: SHA, MAC and CheckMac."""

from __future__ import annotations

import hmac as keyed_hash

from firmware_host.simulator.secure_element.core import ChipCore, TempKey, parse, require, sha256
from firmware_host.simulator.secure_element.memory import OTHER_DATA
from firmware_host.simulator.secure_element.protocol import ChipCommand, ChipStatus, ChipStatusError, Opcode

_BLOCK, _KEY = 64, 32
_START, _UPDATE, _END, _HMAC_START = 0, 1, 2, 4
_TO_TEMP_KEY, _TO_DIGEST, _TO_OUTPUT = 0x00, 0x40, 0xC0
_FROM_TEMP_KEY_2, _FROM_TEMP_KEY_1, _IS_INPUT = 1, 2, 4
_OTP_88, _OTP_64, _SERIAL = 0x10, 0x20, 0x40
_OTHER = 13


def sha(core: ChipCore, command: ChipCommand) -> bytes:
    """Compute a SHA-256 digest, or an HMAC with the key in a slot, in several commands.

    Mode 0 starts a digest, mode 4 starts an HMAC, mode 1 adds a block of 64 bytes, and mode 2 ends the computation.
    Bits 6 and 7 of the last mode select where the digest is stored: in TempKey (neither bit), in the message digest
    buffer (bit 6), or in no register (both bits). Public keys as messages, and reading and writing of contexts, are not
    modelled.
    """
    step, target, registers = command.mode & 0x3F, command.mode & 0xC0, core.registers
    parse(step in {_START, _UPDATE, _END, _HMAC_START} and (step == _END or not target))
    if step in {_START, _HMAC_START}:
        parse(not command.data)
        registers.sha = bytearray()
        registers.hmac_key = _mac_key(core, command.param2) if step == _HMAC_START else None
        return b""

    message = registers.sha
    if message is None:
        raise ChipStatusError(ChipStatus.EXECUTION_ERROR)
    parse(command.param2 == len(command.data))
    parse(len(command.data) == _BLOCK if step == _UPDATE else len(command.data) < _BLOCK)
    message += command.data
    if step == _UPDATE:
        return b""
    parse(target in {_TO_TEMP_KEY, _TO_DIGEST, _TO_OUTPUT})
    registers.sha = None
    key = registers.hmac_key
    digest = sha256(bytes(message)) if key is None else keyed_hash.digest(key, bytes(message), "sha256")
    if target == _TO_TEMP_KEY:
        registers.temp_key = TempKey(digest, is_input=True)
    elif target == _TO_DIGEST:
        registers.digest = digest
    return digest


def mac(core: ChipCore, command: ChipCommand) -> bytes:
    """Return the digest of a key, a challenge, the command, and parts of the OTP zone and of the serial number.

    Bits 4 to 6 of the mode select the parts of the OTP zone and of the serial number. With bit 0, the challenge comes
    from TempKey instead of the command. With bit 1, the key comes from TempKey instead of a slot. If TempKey is used,
    bit 2 must equal TempKey's SourceFlag.
    """
    mode = command.mode
    parse(not mode & 0x88 and len(command.data) == (0 if mode & _FROM_TEMP_KEY_2 else _KEY))
    require(core.memory.is_data_locked)
    key = b"" if mode & _FROM_TEMP_KEY_1 else _mac_key(core, command.param2)
    from_register = _from_temp_key(core, mode)
    first, second = key or from_register, command.data or from_register

    otp_size = 8 if mode & _OTP_64 else 0
    otp = bytes(core.memory.otp[: 11 if mode & _OTP_88 else otp_size]).ljust(11, b"\0")
    serial = core.memory.serial
    selected = serial if mode & _SERIAL else bytes(len(serial))
    return sha256(
        first,
        second,
        bytes((Opcode.MAC, mode)) + command.param2.to_bytes(2, "little"),
        otp,
        serial[8:9] + selected[4:8],
        serial[0:2] + selected[2:4],
    )


def checkmac(core: ChipCore, command: ChipCommand) -> bytes:
    """Check the MAC of another chip. A right MAC authorizes the use of the keys that require this check.

    The command has 13 bytes from the other chip, which the MAC covers. They are four bytes of the other chip's command,
    three bytes of its OTP zone, and six bytes of its serial number.
    """
    mode = command.mode
    parse(not mode & 0xD8 and len(command.data) == 2 * _KEY + _OTHER)
    challenge, response, other = command.data[:_KEY], command.data[_KEY : 2 * _KEY], command.data[2 * _KEY :]
    require(core.memory.is_data_locked)

    key = b"" if mode & _FROM_TEMP_KEY_1 else _mac_key(core, command.param2, is_check=True)
    core.registers.authorized = None
    from_register = _from_temp_key(core, mode)
    first, second = key or from_register, from_register if mode & _FROM_TEMP_KEY_2 else challenge
    otp, serial = bytes(core.memory.otp[:8]) if mode & _OTP_64 else bytes(8), core.memory.serial
    covered = other[:4], otp, other[4:7], serial[8:9], other[7:11], serial[0:2], other[11:13]

    if sha256(first, second, *covered) != response:
        raise ChipStatusError(ChipStatus.MISMATCH)
    core.registers.authorized = None if mode & _FROM_TEMP_KEY_1 else command.param2
    return b""


def _mac_key(core: ChipCore, slot: int, *, is_check: bool = False) -> bytes:
    """Return the 32-byte key in a slot for a MAC. The rule NoMac forbids the command MAC, but not CheckMac."""
    rules = core.usable(slot)
    require(not rules.is_private and rules.key_type == OTHER_DATA and (is_check or not rules.forbids_mac))
    return bytes(core.memory.slots[slot][:_KEY])


def _from_temp_key(core: ChipCore, mode: int) -> bytes:
    """Return TempKey if the mode selects it, otherwise empty bytes. TempKey's SourceFlag must agree with the mode."""
    if not mode & (_FROM_TEMP_KEY_1 | _FROM_TEMP_KEY_2):
        return b""
    temp_key = core.take_temp_key()
    require(temp_key.is_input == bool(mode & _IS_INPUT))
    return temp_key.value[:32]
