"""Run a receiver of requests over HTTP in a thread, as the counterpart of a validator.

The receiver consists of BlockOTA's own modules.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from blockota.bindings.identities import IdentitiesContract
from blockota.errors import StoreError
from blockota.identity.intake import RequestIntake
from blockota.identity.receiving import Outcome, ReceiverParts, RequestReceiver
from blockota.identity.registry import IdentityReader
from blockota.identity.request_server import RequestPort, RequestServer
from blockota.identity.request_state import RequestState
from blockota.identity.warnings import WarningMaker
from blockota.model.identity import IdentityKind
from blockota.model.request import MAX_STORE_SIZE, Receiver, SignedRequest
from tests.support.city import City
from tests.support.waiting import eventually


@dataclass
class RunningReceiver:
    """A receiver that runs.

    Attributes:
        url: the URL at which the receiver accepts requests.
        kept: the executed requests, in order.
        is_broken: whether executing a request fails.
        receiver: its judging part.
    """

    url: str = ""
    kept: list[SignedRequest] = field(default_factory=list)
    is_broken: bool = False
    receiver: RequestReceiver | None = None

    def keep(self, requests: Sequence[SignedRequest]) -> list[Outcome]:
        """Carry out requests."""
        if self.is_broken:
            raise StoreError("the disk is full", why="the test simulates this failure")
        self.kept += requests
        return [{}] * len(requests)


@contextmanager
def running_receiver(
    city: City, folder: Path, identity: UUID, methods: Mapping[str, frozenset[IdentityKind]], *, port: int = 0
) -> Iterator[RunningReceiver]:
    """Run a receiver.

    Args:
        city: the city, whose chain has the identity registry.
        folder: the folder of the receiver's state.
        identity: the UUID of the receiver.
        methods: its methods.
        port: the port to listen on; 0 for any free port.
    """
    found, ready = RunningReceiver(), threading.Event()
    registry = IdentityReader(lambda: IdentitiesContract(city.chain, city.deployment.registries["identities"]))
    loop = asyncio.new_event_loop()
    tasks: list[asyncio.Task[None]] = []

    def note_ready(url: str) -> None:
        found.url = url
        ready.set()

    def serve() -> None:
        with RequestState(folder / f"{identity}.sqlite") as state:
            own = Receiver(identity, methods, max_age=1 << 30, max_size=MAX_STORE_SIZE)
            parts = ReceiverParts(registry, state, WarningMaker(identity))
            found.receiver = RequestReceiver(own, parts, keep=found.keep)
            intake = RequestIntake(found.receiver)
            server = RequestServer(RequestPort("127.0.0.1", port, max_size=MAX_STORE_SIZE), intake)
            tasks.append(loop.create_task(server.run(on_ready=note_ready)))
            loop.run_until_complete(asyncio.wait(tasks))
            intake.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        eventually(lambda: ready.is_set() or not thread.is_alive(), what="the receiver")
        yield found
    finally:
        loop.call_soon_threadsafe(tasks[0].cancel)
        thread.join()
        loop.close()
