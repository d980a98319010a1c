"""Post requests and print the answers: ``python -m tests.peers.city.requester FILE``.

FILE is a JSON list with an item for each receiver: the URL, the file of the certificate authority, and the requests.
For each receiver, the program prints the list of its answers.
"""

from __future__ import annotations

import http.client
import json
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


def post_all(url: str, authority: str, requests: Sequence[str]) -> list[Any]:
    """Post requests over one connection, and return the answers."""
    place, answers = urlsplit(url), []
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
    if place.scheme == "https":
        context = ssl.create_default_context(cafile=authority)
        connection = http.client.HTTPSConnection(place.hostname or "", place.port, timeout=60, context=context)
    for text in requests:
        connection.request("POST", "/requests", text.encode(), {"Content-Type": "application/json"})
        answers.append(json.loads(connection.getresponse().read()))
    connection.close()
    return answers


def main() -> None:
    """Post the requests to all receivers."""
    print(json.dumps([post_all(*place) for place in json.loads(Path(sys.argv[1]).read_text())]))


if __name__ == "__main__":
    main()
