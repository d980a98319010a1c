"""Call Microchip's cryptoauthlib with its bus on this process's pipes.

The program runs in the venv of requirements-oracle.lock. Each line of standard input is a call:
``{"function": name, "arguments": [...]}``. An argument is a number, a string of hexadecimal digits for input bytes, or
``[n]`` for n output bytes. During a call this process writes a line for each transfer on the bus, and reads a line with
its result. The last line of a call is ``{"status": …, "out": …}``.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

from cryptoauthlib import ATCAIfaceCfg, cfg_ateccx08a_i2c_default, load_cryptoauthlib
from cryptoauthlib.library import get_cryptoauthlib

NO_RESPONSE, UNIMPLEMENTED = -25, -11
BAUD = 100_000
POINTER, STATUS = ctypes.c_void_p, ctypes.c_int
INIT = ctypes.CFUNCTYPE(STATUS, POINTER, POINTER)
POST_INIT = ctypes.CFUNCTYPE(STATUS, POINTER)
SEND = ctypes.CFUNCTYPE(STATUS, POINTER, ctypes.c_uint8, POINTER, ctypes.c_int)
RECEIVE = ctypes.CFUNCTYPE(STATUS, POINTER, ctypes.c_uint8, POINTER, ctypes.POINTER(ctypes.c_uint16))
CONTROL = ctypes.CFUNCTYPE(STATUS, POINTER, ctypes.c_uint8, POINTER, ctypes.c_size_t)


class Hal(ctypes.Structure):
    """The library's ATCAHAL_t: the six functions of a driver for a bus."""

    _fields_ = (
        ("init", INIT),
        ("post_init", POST_INIT),
        ("send", SEND),
        ("receive", RECEIVE),
        ("control", CONTROL),
        ("release", POST_INIT),
    )


class Interface(ctypes.Structure):
    """The beginning of the library's atca_iface."""

    _fields_ = (("configuration", ctypes.POINTER(ATCAIfaceCfg)),)


def write_line(value: dict[str, Any]) -> None:
    """Write a line of JSON to the other process."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def transfer(**request: Any) -> Any:
    """Ask the other process for one transfer on the bus, and return its result."""
    write_line(request)
    return json.loads(sys.stdin.readline())


def send(interface: int, word_address: int, data: int | None, length: int) -> int:
    """Send a write to the chip. A write to the address 0 is the wake condition."""
    configuration = ctypes.cast(interface, ctypes.POINTER(Interface))[0].configuration[0]
    if configuration.cfg.atcai2c.address == 0:
        transfer(bus="wake")
        return 0
    sent = ctypes.string_at(data, length) if data else b""
    return 0 if transfer(bus="write", word_address=word_address, data=sent.hex()) else NO_RESPONSE


def receive(_interface: int, _word_address: int, data: int, length: Any) -> int:
    """Read from the chip."""
    found = transfer(bus="read", length=length[0])
    if found is None:
        return NO_RESPONSE
    ctypes.memmove(data, bytes.fromhex(found), length[0])
    return 0


def call(function: str, arguments: list[Any]) -> dict[str, Any]:
    """Call a function of the library. Returns the function's status and the contents of the output buffers."""
    values: list[Any] = []
    outputs = []
    for argument in arguments:
        if isinstance(argument, str):
            values.append(bytes.fromhex(argument))
        elif isinstance(argument, list):
            outputs.append(ctypes.create_string_buffer(argument[0]))
            values.append(outputs[-1])
        else:
            values.append(argument)
    status = getattr(get_cryptoauthlib(), function)(*values)
    return {"status": status, "out": [output.raw.hex() for output in outputs]}


def main() -> None:
    """Register the bus, then serve calls until standard input ends."""
    load_cryptoauthlib()
    hal = Hal(
        INIT(lambda _interface, _configuration: 0),
        POST_INIT(lambda _interface: 0),
        SEND(send),
        RECEIVE(receive),
        CONTROL(lambda _interface, _option, _parameter, _length: UNIMPLEMENTED),
        POST_INIT(lambda _data: 0),
    )
    get_cryptoauthlib().hal_iface_register_hal(0, ctypes.byref(hal), None, None, None)
    configuration = cfg_ateccx08a_i2c_default()
    configuration.devtype = 3  # the ATECC608
    configuration.cfg.atcai2c.baud = BAUD
    for line in sys.stdin:
        request = json.loads(line)
        if request["function"] == "atcab_init":
            answer = {"status": get_cryptoauthlib().atcab_init(ctypes.byref(configuration)), "out": []}
        else:
            answer = call(request["function"], request["arguments"])
        write_line(answer)


if __name__ == "__main__":
    main()
