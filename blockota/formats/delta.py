"""Makes and applies deltas.

A delta is a sequential patch of detools, which turns an older image into a newer one. A device reads a patch once from
its beginning, and needs little memory. A patch is not trusted: the caller compares the result with the SHA-256 of the
wanted image. The library detools is in the optional extra ``delta``, because pip compiles it during the installation.
"""

from __future__ import annotations

import hashlib
import io
from importlib.util import find_spec
from typing import Any

from blockota.errors import RefusedError, missing_package

FORMATS = ("crle", "heatshrink")
"""The compressions of a patch. Both need less than 1 KiB of memory to decompress."""
_HEADS = {"crle": 0x02, "heatshrink": 0x04}
"""The first byte of a sequential patch with each compression."""
_WINDOW, _LOOKAHEAD = 8, 7
"""The parameters of heatshrink, as powers of two: a window of 256 bytes and matches of 128 bytes."""


def can_apply() -> bool:
    """Whether the library detools is installed."""
    return find_spec("detools") is not None


def make_patch(base: bytes, image: bytes) -> tuple[str, bytes]:
    """Make the smallest patch from one image to another, and apply the patch once to check it.

    Returns:
        The format and the bytes of the patch. The patch can be larger than the image.

    Raises:
        UsageError: detools is not installed.
        RefusedError: the patch does not produce the image.
    """
    detools = _library()
    made = []
    for compression in FORMATS:
        patch = io.BytesIO()
        detools.create_patch(
            io.BytesIO(base),
            io.BytesIO(image),
            patch,
            compression=compression,
            heatshrink_window_sz2=_WINDOW,
            heatshrink_lookahead_sz2=_LOOKAHEAD,
            use_mmap=False,
        )
        made.append((len(patch.getvalue()), compression, patch.getvalue()))

    _, smallest, patch_bytes = min(made)
    require_result(base, patch_bytes, compression=smallest, size=len(image), sha256=hashlib.sha256(image).digest())
    return smallest, patch_bytes


def require_result(base: bytes, patch: bytes, *, compression: str, size: int, sha256: bytes) -> None:
    """Apply a patch, and require that the result is the wanted image.

    Raises:
        UsageError: detools is not installed.
        RefusedError: the patch has another format, is damaged, or produces other bytes.
    """
    made = apply_patch(base, patch, compression=compression, limit=size)
    if len(made) != size or hashlib.sha256(made).digest() != sha256:
        why = f"it makes {len(made):,} bytes with SHA-256 {hashlib.sha256(made).hexdigest()}, not {sha256.hex()}"
        raise _unusable(why)


def apply_patch(base: bytes, patch: bytes, *, compression: str, limit: int) -> bytes:
    """Apply a patch to an image.

    Args:
        base: the image.
        patch: the patch, which is not trusted.
        compression: the expected compression.
        limit: the largest accepted size of the result, in bytes.

    Raises:
        UsageError: detools is not installed.
        RefusedError: the patch has another format, is damaged, or produces more than `limit` bytes.
    """
    detools = _library()
    if patch[:1] != bytes((_HEADS[compression],)):
        raise _unusable(f"it is not a sequential patch with the compression {compression}")
    made = _Limited(limit)
    try:
        detools.apply_patch(io.BytesIO(base), io.BytesIO(patch), made)
    except Exception as error:
        # detools raises errors of many kinds for bytes that are not a patch, also those of its C parts.
        raise _unusable(str(error) or type(error).__name__) from error
    return made.getvalue()


class _Limited(io.BytesIO):
    """A buffer that accepts a limited number of bytes.

    Without a limit, a small patch could produce a result of any size.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: Any, /) -> int:
        if self.tell() + len(data) > self._limit:
            raise ValueError(f"it makes more than {self._limit:,} bytes")
        return super().write(data)


def _library() -> Any:
    try:
        import detools
    except ImportError as error:
        raise missing_package("deltas cannot be made or applied", "detools", "delta") from error
    return detools


def _unusable(why: str) -> RefusedError:
    return RefusedError("the delta cannot be used", why=why, remedy="use the whole image")
