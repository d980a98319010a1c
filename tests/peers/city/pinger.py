"""Ping several addresses in parallel, and count the answers: ``python -m tests.peers.city.pinger SECONDS ADDRESS …``.

One ``ping`` process handles one address, so 400 tunnels would need 400 processes. The program prints ``ready`` when
every address has answered, and counts only later packets. On SIGTERM, the program stops sending, waits for the missing
answers, and prints one JSON object with the counts of each address. Times are those of the monotonic clock, which all
processes of a machine share.
"""

from __future__ import annotations

import json
import selectors
import signal
import socket
import struct
import sys
import time
from dataclasses import asdict, dataclass

_ECHO_REQUEST, _ECHO_REPLY = 8, 0
_HEADER = struct.Struct("!BBHHH")
_LAST_WAIT = 3.0
"""Seconds for which the program waits for missing answers at its end."""


@dataclass
class EchoCounts:
    """The packets of one address.

    Attributes:
        sent: the number of requests.
        received: the number of answers.
        last: monotonic time of the newest answer.
        longest: the longest time between a request and its answer, in seconds.
    """

    sent: int = 0
    received: int = 0
    last: float = 0.0
    longest: float = 0.0


class Pinger:
    """Sends a request to each address at an interval.

    Args:
        interval: seconds between two requests to an address.
        addresses: the addresses.
    """

    def __init__(self, interval: float, addresses: list[str]) -> None:
        self._interval = interval
        self._counts = {address: EchoCounts() for address in addresses}
        self._waiting: dict[tuple[str, int], float] = {}
        self._sequence, self._is_ready, self.is_stopped = 0, False, False
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.getprotobyname("icmp"))
        self._socket.settimeout(0)

    def run(self) -> None:
        """Send until `is_stopped`, and receive until all answers have arrived or the final timeout ends."""
        selector, due, end = selectors.DefaultSelector(), time.monotonic(), float("inf")
        selector.register(self._socket, selectors.EVENT_READ)
        while time.monotonic() < end:
            if self.is_stopped and end == float("inf"):
                end = time.monotonic() + _LAST_WAIT
            if self.is_stopped and not self._waiting:
                return
            if not self.is_stopped and time.monotonic() >= due:
                self._send()
                due += self._interval
            pause = 0.1 if self.is_stopped else max(0.0, due - time.monotonic())
            if selector.select(pause):
                self._receive()

    def print_counts(self) -> None:
        """Print the counts of all addresses."""
        print(json.dumps({address: asdict(one) for address, one in self._counts.items()}), flush=True)

    def _send(self) -> None:
        self._sequence = (self._sequence + 1) % (1 << 16)
        for address, counts in self._counts.items():
            packet = _packet(self._sequence)
            try:
                self._socket.sendto(packet, (address, 0))
            except OSError:  # there is no route to the address, or no key of its peer
                if not self._is_ready:
                    continue
            counts.sent += self._is_ready
            self._waiting[address, self._sequence] = time.monotonic()

    def _receive(self) -> None:
        while True:
            try:
                packet, (address, _) = self._socket.recvfrom(256)
            except BlockingIOError:
                return
            body = packet[(packet[0] & 15) * 4 :]  # after the header of IP (RFC 791, "IHL")
            if len(body) < _HEADER.size or body[0] != _ECHO_REPLY:
                continue
            sequence = _HEADER.unpack_from(body)[4]
            began, counts = self._waiting.pop((address, sequence), None), self._counts.get(address)
            if began is None or counts is None:
                continue
            counts.last = time.monotonic()
            if self._is_ready:
                counts.received += 1
                counts.longest = max(counts.longest, counts.last - began)
            elif all(one.last for one in self._counts.values()):
                self._is_ready = True
                self._waiting.clear()
                print("ready", flush=True)


def _packet(sequence: int) -> bytes:
    """Return an echo request (RFC 792)."""
    words = (_ECHO_REQUEST << 8) + sequence
    checksum = ~((words & 0xFFFF) + (words >> 16)) & 0xFFFF
    return _HEADER.pack(_ECHO_REQUEST, 0, checksum, 0, sequence)


def main() -> None:
    """Ping until SIGTERM."""
    pinger = Pinger(float(sys.argv[1]), sys.argv[2:])

    def stop(*_: object) -> None:
        pinger.is_stopped = True

    signal.signal(signal.SIGTERM, stop)
    pinger.run()
    pinger.print_counts()


if __name__ == "__main__":
    main()
