"""Values of LwM2M resources, as text or as TLV (LwM2M 1.0, sections 6.4.1 and 6.4.3). Pure.

A gateway requests text, but some clients always answer in TLV. A client that answers a read of one resource in TLV
sends a single item of the type "resource with value".
"""

from __future__ import annotations

import re

TEXT, LINKS, OPAQUE, CBOR, TLV = 0, 40, 42, 60, 11542
"""CoAP content formats."""
_RESOURCE = 3
"""The type of a TLV item with a single value. The two highest bits of the item's first byte contain the type."""
_WHOLE = re.compile(rb"-?\d{1,19}", re.ASCII)
_OBJECT_LINK = re.compile(r"/(\d{1,5})(?:/(\d{1,5}))?")
_INTEGER_SIZES = (1, 2, 4, 8)


def value_of(payload: bytes, content_format: int | None, resource: int) -> bytes:
    """Return the bytes of the value of a single resource.

    Args:
        payload: the answer to the read.
        content_format: the content format of the answer; None means text.
        resource: number of the resource.

    Raises:
        ValueError: the format is not text, opaque or TLV, or the payload is not one resource with this number.
    """
    if content_format in (None, TEXT, OPAQUE):
        return payload
    if content_format != TLV:
        raise ValueError(f"its content format {content_format} is not supported")

    if not payload:
        raise ValueError("it is not a TLV item")

    # The first byte gives the type and the sizes of identifier and length (section 6.4.3).
    head = payload[0]
    identifier_size = 2 if head & 0x20 else 1
    length_size = head >> 3 & 3
    start = 1 + identifier_size + length_size
    length = int.from_bytes(payload[1 + identifier_size : start]) if length_size else head & 7

    if head >> 6 != _RESOURCE or len(payload) != start + length:
        raise ValueError("it is not one TLV item with a single value")
    if int.from_bytes(payload[1 : 1 + identifier_size]) != resource:
        raise ValueError(f"it is not resource {resource}")
    return payload[start:]


def text_of(payload: bytes, content_format: int | None, resource: int) -> str:
    """Return the value of a text resource.

    Raises:
        ValueError: the value is not printable text in UTF-8.
    """
    text = value_of(payload, content_format, resource).decode()
    if not text.isprintable():
        raise ValueError("it has characters that are not printable")
    return text


def integer_of(payload: bytes, content_format: int | None, resource: int) -> int:
    """Return the value of an integer resource.

    Raises:
        ValueError: the value is not an integer.
    """
    value = value_of(payload, content_format, resource)
    if content_format == TLV:
        if len(value) not in _INTEGER_SIZES:
            raise ValueError(f"an integer does not have {len(value)} bytes")
        return int.from_bytes(value, signed=True)
    if not _WHOLE.fullmatch(value):
        raise ValueError(f"{value[:40]!r} is not an integer")
    return int(value)


def instances_of(links: bytes) -> frozenset[tuple[int, int]]:
    """Return the pairs ⟨object, instance⟩ in the links of a registration, such as ``</1>;ver=1.1,</3/0>,</5/0>``.

    Links to other paths, and links to objects without an instance, are left out.

    Raises:
        ValueError: the bytes are not links as RFC 6690 defines them.
    """
    found = set()
    for part in filter(None, links.decode().split(",")):
        target, closed, _ = part.strip().removeprefix("<").partition(">")
        if not part.strip().startswith("<") or not closed:
            raise ValueError(f"{part[:40]!r} is not a link")
        match = _OBJECT_LINK.fullmatch(target)
        if match and match[2] is not None:
            found.add((int(match[1]), int(match[2])))
    return frozenset(found)
