"""Post requests to a validator and print the answers: ``python -m tests.peers.city.requester URL AUTHORITY FILE``.

FILE is a JSON list of requests as texts. The program prints the list of the answers.
"""

from __future__ import annotations

import http.client
import json
import ssl
import sys
from pathlib import Path
from urllib.parse import urlsplit


def main() -> None:
    """Post all requests over one connection."""
    place, context = urlsplit(sys.argv[1]), ssl.create_default_context(cafile=sys.argv[2])
    connection = http.client.HTTPSConnection(place.hostname or "", place.port, timeout=60, context=context)
    answers = []
    for text in json.loads(Path(sys.argv[3]).read_text()):
        connection.request("POST", "/requests", text.encode(), {"Content-Type": "application/json"})
        answers.append(json.loads(connection.getresponse().read()))
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
