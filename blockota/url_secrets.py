"""Show only scheme, host and port of a configured URL. On hosted nodes, the path of the URL is the API key."""

from __future__ import annotations

import base64
import re
from functools import cached_property
from urllib.parse import parse_qsl, quote, unquote

_SHORTEST_SEGMENT, _SHORTEST_PASSWORD = 4, 3
"""Minimum lengths of path segments and passwords that are hidden. Shorter parts, such as ``v3``, are too short for a
secret and occur in ordinary words."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]*)(:\d*)?")
"""Host and port in the only form that is shown. Another form may contain a part of a password, as in
``https://user:pa/ss@host``."""
_URL = re.compile(r"https?://[^\s'\"()<>]*[^\s'\"()<>.,:;]")
_TARGET = re.compile(r"(with url:) \S+")
"""The path and query of a request in the errors of urllib3."""


class PrivateUrl:
    """A URL that is shown without its secrets: only scheme, host and port appear in messages.

    Args:
        url: an ``http://`` or ``https://`` URL; user, password, path, query and fragment are optional. The scheme of a
            mistyped URL may be missing.
    """

    def __init__(self, url: str) -> None:
        found = _SCHEME.match(url)
        self._scheme = found[0] if found else ""
        self._rest = url[len(self._scheme) :]
        self._authority = re.split("[/?#]", self._rest)[0]

    @property
    def place(self) -> str:
        """The scheme, host and port."""
        host = self._authority.rpartition("@")[2]
        return f"{self._scheme}{host if _HOST.fullmatch(host) else '…'}"

    @property
    def shown(self) -> str:
        """Scheme, host and port, and "/…" if the URL has more parts."""
        more = self._rest[len(self._authority) :].strip("/")
        return f"{self.place}/…" if more else self.place

    def hide_in(self, text: str) -> str:
        """Replace the hidden parts of the URL by "…" in a text from elsewhere, such as a server's error message."""
        return self._hidden.sub("…", text) if self._hidden else text

    @cached_property
    def _hidden(self) -> re.Pattern[str] | None:
        user_info = self._authority.rpartition("@")[0]
        tail = self._rest[len(self._authority) :]
        path, _, query = tail.partition("#")[0].partition("?")

        found = {tail, tail.lstrip("/"), path.strip("/"), query, tail.partition("#")[2]}
        found |= {*path.split("/"), *(value for _, value in parse_qsl(query))}
        hidden = {part for part in found if len(part) >= _SHORTEST_SEGMENT}
        if user_info:
            credentials = {user_info, *user_info.split(":", 1), base64.b64encode(unquote(user_info).encode()).decode()}
            hidden |= {part for part in credentials if len(part) >= _SHORTEST_PASSWORD}

        # Servers may quote a part in its decoded or its encoded form.
        forms = hidden | {unquote(part) for part in hidden} | {quote(part) for part in hidden}
        longest_first = sorted(forms, key=lambda part: (-len(part), part))
        return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def shown_url(url: str) -> str:
    """Return the parts of a URL that a message may show: scheme, host and port, and "/…" if the URL has more parts."""
    return PrivateUrl(url).shown


def without_secrets(text: str) -> str:
    """Replace each URL in a foreign text, such as a traceback, by the result of `shown_url`."""
    return _TARGET.sub(r"\1 …", _URL.sub(lambda url: shown_url(url[0]), text))
