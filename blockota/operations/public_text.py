"""Shorten texts for a public page: remove addresses, and the reasons that persons entered.

Addresses are recognised by their form.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address

LEFT_OUT = "(address left out)"
_URL = r"[a-z][a-z0-9+.-]*://[^\s\"'<>]+"
_ACCOUNT = r"(?<![0-9a-z])(?:0x)?(?:0{24})?[0-9a-f]{40}(?![0-9a-f])"
_IPV4 = r"(?<!\d)(?:\d{1,3}\.){3}\d{1,3}(?!\d)"
_IPV6 = r"[0-9a-f.:]*:[0-9a-f.]*:[0-9a-f.:]*"
_ADDRESS = re.compile(f"{_URL}|{_ACCOUNT}|(?P<ipv6>{_IPV6})|{_IPV4}", re.ASCII | re.IGNORECASE)


def without_addresses(text: str) -> str:
    """Return a text without the addresses of accounts, networks and services."""
    return _ADDRESS.sub(_replacement, text)


def without_reason(text: str) -> str:
    """Return the description of an event without the reason that a person entered after the first colon."""
    return text.partition(": ")[0]


def _replacement(found: re.Match[str]) -> str:
    if found["ipv6"] is None:
        return LEFT_OUT
    text, before, after = found["ipv6"], found.string[: found.start()][-1:], found.string[found.end() :][:1]
    # The letters before the first colon can end a word, as in "node:fe80::1".
    start = text.index(":") + 1 if before.isalnum() else 0
    start += text.startswith(":", start) and not text.startswith("::", start)
    address = text[start:].rstrip(".")
    if address.endswith(":") and not address.endswith("::"):
        address = address[:-1]
    try:
        is_address = bool(address.strip(":")) and not after.isalnum() and bool(IPv6Address(address))
    except AddressValueError:  # such as a time, 12:01:45
        is_address = False
    if not is_address:
        return re.sub(_IPV4, LEFT_OUT, text)
    return text[:start] + LEFT_OUT + text[start + len(address) :]
