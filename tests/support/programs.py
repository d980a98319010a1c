"""Small programs for a Cortex-M as raw images, linked for any address."""

from __future__ import annotations

import hashlib
import random
import struct

STACK = 0x2000_5000
FUNCTION = struct.pack("<4H", 0xB510, 0x2004, 0x3001, 0xBD10)
"""A function of four instructions: push {r4, lr}; movs r0, #4; adds r0, #1; pop {r4, pc}."""
LOOP = struct.pack("<2H", 0xE7FE, 0xBF00)
"""An endless loop and padding: b .; nop."""


def program(base: int, *, before: bytes = b"", handlers: int = 4, after: bytes = b"", interrupts: int = 60) -> bytes:
    """Return a program: a vector table, other bytes, handlers, and more bytes.

    Args:
        base: the address that the program is linked for.
        before: the bytes between the vector table and the handlers; their number is a multiple of four.
        handlers: the number of different handlers, without the default handler.
        after: the bytes after the handlers.
        interrupts: the number of interrupts in the vector table.
    """
    table_size = 4 * (16 + interrupts)
    first = base + table_size + len(before)
    # The default handler comes first, then the others; a return precedes the first function.
    end = struct.pack("<2H", 0xBF00, 0x4770)
    default = first + len(end)
    addresses = [default + len(LOOP) + len(FUNCTION) * number for number in range(handlers)]
    words = [STACK, (addresses or [default])[0] | 1]
    words += [address | 1 for address in addresses[1:]]
    words += [default | 1] * (16 + interrupts - len(words))
    table = struct.pack(f"<{len(words)}I", *words)
    return table + before + end + LOOP + FUNCTION * handlers + after


def noise(size: int, seed: int = 1) -> bytes:
    """Return random bytes that contain no address of the flash."""
    chosen = random.Random(seed)  # noqa: S311
    return b"".join(chosen.randbytes(3) + bytes((chosen.randrange(0x80, 0x100),)) for _ in range(size // 4))


def pointers(*addresses: int) -> bytes:
    """Return words of memory."""
    return struct.pack(f"<{len(addresses)}I", *addresses)


def signed(image: bytes, *, header: int = 0x200, flags: int = 0, size: int | None = None) -> bytes:
    """Return an MCUboot image: a header, the program, and a trailer in place of signatures."""
    stated = len(image) if size is None else size
    head = struct.pack("<IIHHII8sI", 0x96F3_B83D, 0, header, 0, stated, flags, b"\1\2\3\0\0\0\0\0", 0)
    return head.ljust(header, b"\0") + image + struct.pack("<HH", 0x6907, 4)


def swu(image: bytes = b"rootfs", *, first: str = "sw-description") -> bytes:
    """Return a .swu of SWUpdate: a cpio archive with checksums, whose first file describes the others."""

    def member(name: str, content: bytes) -> bytes:
        fields = (1, 0o100644, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, sum(content))
        head = b"070702" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)

    return member(first, b"software = {};") + member("rootfs.img", image) + member("TRAILER!!!", b"")


def hashed(image: bytes) -> bytes:
    """Return an MCUboot image made of a header, a program, and the hash of both."""
    digest = hashlib.sha256(image).digest()
    return image + struct.pack("<HHHH", 0x6907, 8 + len(digest), 0x10, len(digest)) + digest
