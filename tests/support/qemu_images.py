"""Images for the board in QEMU: the committed agent, and variants that are built for a test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from scripts.build_device import IMAGES, PROGRAMS, ImageSignature, compile_program, sign

LOADER = (IMAGES / "microbit-loader.bin").read_bytes()
OLD = (IMAGES / "microbit-agent-1.0.0.bin").read_bytes()
NEW = (IMAGES / "microbit-agent-1.1.0.bin").read_bytes()
SLOT_0, SLOT_1, SLOT_SIZE = 0x4000, 0x1E000, 0x1A000
STATE = 0x39400


def flash_with(image: bytes) -> bytes:
    """Return a flash with the loader, and an image in slot 0."""
    return LOADER.ljust(SLOT_0, b"\xff") + image


def agent(folder: Path, signature: ImageSignature, *macros: str, appendix: bytes = b"") -> bytes:
    """Build an agent for a test.

    Args:
        folder: a folder for files.
        signature: the kind of the agent's signature.
        macros: definitions for the compiler.
        appendix: bytes that are appended to the program.
    """
    raw = folder / f"agent-{signature.version}.bin"
    compile_program(replace(PROGRAMS["microbit-agent-1.0.0"], macros=("AGENT_MINOR=0", *macros)), raw)
    raw.write_bytes(raw.read_bytes() + appendix)
    return sign(raw, "microbit", signature)


def digest_of(image: bytes) -> bytes:
    """Return the digest in an image, the TLV of type 0x10."""
    header, protected, size = (int.from_bytes(image[at : at + n], "little") for at, n in ((8, 2), (10, 2), (12, 4)))
    at = header + size + protected + 4
    while int.from_bytes(image[at : at + 2], "little") != 0x10:
        at += 4 + int.from_bytes(image[at + 2 : at + 4], "little")
    return image[at + 4 : at + 36]
