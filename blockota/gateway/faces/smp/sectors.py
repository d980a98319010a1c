"""The sector check: whether pages of a board's flash have the content of the proven image.

The gateway draws a nonce and some pages. The board answers with SHA-256 of the nonce and the pages, and its secure
element adds a MAC of this digest. The nonce comes first, so that a board cannot answer with digests that it kept. The
gateway computes both from the image. With 8 of 64 pages, one wrong page is found within 35 checks with a probability
of 99 %.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path

from blockota.errors import BoardError, LinkError, RefusedError, UsageError
from blockota.gateway.faces.smp.agent import BoardAgent

PAGES_AT_ONCE, PAGE_SIZE = 8, 1024
_MAX_PAGES = 256
_MAC_COMMAND = bytes((0x08, 0x40, 0x05, 0x00)) + bytes(11)
"""What the MAC of an ATECC608 covers after key and challenge: opcode, mode, slot 5 of the key, and no OTP zone."""
_SECRET = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_OTHERS = 0o077


def draw_pages(size: int) -> tuple[int, ...]:
    """Return numbers of pages to check, in a random order.

    Args:
        size: size of the image in bytes.
    """
    count = min(-(-size // PAGE_SIZE), _MAX_PAGES)
    return tuple(secrets.SystemRandom().sample(range(count), min(PAGES_AT_ONCE, count)))


async def fault_of_pages(
    agent: BoardAgent, image: bytes, pages: Sequence[int], *, mac_key: bytes | None = None, serial: bytes = b""
) -> str:
    """Check pages of the running image.

    Args:
        agent: the agent of the board.
        image: the file that the board should run.
        pages: the numbers of the pages, which must have bytes of the file.
        mac_key: the MAC key of the secure element; None if it is not known. The MAC is then not checked.
        serial: serial number of the secure element, 9 bytes; only with a key.

    Returns:
        What is wrong with the board's answer; empty if nothing is. A board whose MAC key is known must answer.

    Raises:
        LinkError: the board does not answer, or its answer cannot be read.
        BoardError: the board refuses, and no MAC key is known.
    """
    nonce = secrets.token_bytes(32)
    try:
        digest, mac = await agent.sectors(nonce, bytes(pages))
    except LinkError:
        raise
    except BoardError as error:
        if mac_key is None:
            raise
        return f"{error.what}: {error.why}"
    content = [image[page * PAGE_SIZE : (page + 1) * PAGE_SIZE].ljust(PAGE_SIZE, b"\xff") for page in pages]
    if digest != hashlib.sha256(nonce + b"".join(content)).digest():
        return f"the pages {', '.join(map(str, sorted(pages)))} do not have the content of the image"
    if mac_key is None:
        return ""
    if mac is None:
        return "the secure element did not confirm the pages"
    if not hmac.compare_digest(mac, _mac(mac_key, digest, serial)):
        return "the MAC of the pages was not made with the device's key"
    return ""


def read_mac_keys(folder: Path, numbers: Iterable[int]) -> dict[int, bytes]:
    """Read the MAC keys of devices, from files that are named by the numbers of the devices.

    A file has 64 hexadecimal digits. A device without a file has no known key.

    Raises:
        UsageError: a file cannot be read, or has other contents.
        RefusedError: other users can read a file.
    """
    keys = {}
    for number in numbers:
        path = folder / str(number)
        try:
            if not path.exists():
                continue
            if path.stat().st_mode & _OTHERS:
                raise RefusedError(
                    f"the MAC key {path} cannot be used",
                    why="other users can read it",
                    remedy=f"run chmod 600 {path}, and use another chip if others had access",
                )
            text = path.read_text(encoding="ascii", errors="replace").strip()
        except OSError as error:
            raise UsageError(f"the MAC key {path} cannot be read", why=str(error.strerror)) from error
        if not _SECRET.fullmatch(text):
            raise UsageError(f"the file {path} is not a MAC key", why="64 hexadecimal digits are required")
        keys[number] = bytes.fromhex(text)
    return keys


def _mac(key: bytes, challenge: bytes, serial: bytes) -> bytes:
    """Return the MAC that an ATECC608 computes with its serial number included."""
    parts = (key, challenge, _MAC_COMMAND, serial[8:9], serial[4:8], serial[0:2], serial[2:4])
    return hashlib.sha256(b"".join(parts)).digest()
