"""The sector check: whether pages of a board's flash have the content of the proven image.

The gateway chooses a random nonce and random pages. The board answers with the SHA-256 of the nonce and the pages, and
its secure element adds a MAC of this hash. The nonce is hashed before the pages, so that a board cannot answer with
stored hashes. The gateway computes the expected hash and MAC from the image. If each check covers 8 of 64 pages, 35
checks find a single wrong page with a probability of 99 %.
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
"""The bytes after key and challenge in the MAC of an ATECC608: opcode, mode, key slot 5, and zeros for the OTP zone."""
_SECRET = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_OTHERS = 0o077


def draw_pages(size: int) -> tuple[int, ...]:
    """Choose random pages to check, and return their numbers in a random order.

    Args:
        size: size of the image in bytes.
    """
    count = min(-(-size // PAGE_SIZE), _MAX_PAGES)
    return tuple(secrets.SystemRandom().sample(range(count), min(PAGES_AT_ONCE, count)))


async def fault_of_pages(
    agent: BoardAgent, image: bytes, pages: Sequence[int], *, mac_key: bytes | None = None, serial: bytes = b""
) -> str:
    """Compare pages of the running image with a file.

    Args:
        agent: the agent of the board.
        image: the file that the board should run.
        pages: the numbers of the pages, each of which must overlap the file.
        mac_key: the MAC key of the secure element; if it is None, the MAC is not checked.
        serial: serial number of the secure element, 9 bytes; required with `mac_key`.

    Returns:
        Why the check failed; empty if the check passed. If the MAC key is known, a refusal of the board is a failure.

    Raises:
        LinkError: the board does not answer, or its answer cannot be read.
        BoardError: the board refuses the request, and no MAC key is known.
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

    # The image may end inside a page; the rest of the page is erased flash.
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
    """Read the MAC keys of devices from files, whose names are the numbers of the devices.

    A file contains 64 hexadecimal digits. No key is returned for a device without a file.

    Raises:
        UsageError: a file cannot be read, or is not a MAC key.
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
    """Return the MAC that an ATECC608 computes over a challenge and its serial number."""
    parts = (key, challenge, _MAC_COMMAND, serial[8:9], serial[4:8], serial[0:2], serial[2:4])
    return hashlib.sha256(b"".join(parts)).digest()
