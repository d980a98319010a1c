"""Send requests to a validator: ``python -m benchmarks.access_clients URL AUTHORITY < REQUESTS``.

Standard input has one request per line. The requests are sent over `CONNECTIONS` persistent TLS connections. Each
request is sent at its scheduled time, even if earlier requests have no answer yet. The output is one JSON object with
the seconds from the scheduled time to the end of each answer.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

CONNECTIONS, RATE, WARM_UP = 40, 1000, 1000
"""The number of connections, of requests in a second, and of requests at the beginning that are not counted."""


async def send(url: str, authority: str, requests: Sequence[bytes]) -> list[float]:
    """Send requests at a steady rate, and return the seconds until each answer."""
    place = urlsplit(url)
    context = ssl.create_default_context(cafile=authority)
    found: list[float] = []
    pairs = [await asyncio.open_connection(place.hostname, place.port, ssl=context) for _ in range(CONNECTIONS)]
    begin = time.perf_counter() + 0.5

    async def serve(number: int) -> None:
        reader, writer = pairs[number]
        for index in range(number, len(requests), CONNECTIONS):
            due = begin + index / RATE
            await asyncio.sleep(due - time.perf_counter())
            body = requests[index]
            head = f"POST /requests HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            size = int(answer.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            if b'"result"' not in await reader.readexactly(size):
                raise AssertionError("a request was refused")
            if index >= WARM_UP:
                found.append(time.perf_counter() - due)

    await asyncio.gather(*map(serve, range(CONNECTIONS)))
    for _, writer in pairs:
        writer.close()
    return found


if __name__ == "__main__":
    lines = sys.stdin.buffer.read().splitlines()
    print(json.dumps({"seconds": asyncio.run(send(sys.argv[1], sys.argv[2], lines))}))
