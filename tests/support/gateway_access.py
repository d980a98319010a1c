"""Run the part of a gateway that exchanges readings and commands with validators.

As in the gateway service, the exchange runs in threads.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from blockota.bindings.identities import IdentitiesContract
from blockota.chain.local import free_port
from blockota.gateway.access import GatewayAccess, opened_access
from blockota.gateway.access_settings import AccessSettings
from blockota.gateway.commands import CommandDesk
from blockota.gateway.settings import GatewaySettings
from blockota.line_log import LineLog
from blockota.shutdown import Stop
from tests.support.city import KINDS, City
from tests.support.gateway import known_device, site_facts
from tests.support.waiting import DEADLINE, eventually

ALLOWED = {"thermo2": ("fan",)}


class AccessRun:
    """The access of a running gateway.

    Attributes:
        access: the access.
        url: the URL at which the gateway receives commands.
        lines: the log lines that the access has written.
    """

    def __init__(self, access: GatewayAccess, loop: asyncio.AbstractEventLoop, url: str, lines: list[str]) -> None:
        self.access, self.url, self.lines, self._loop = access, url, lines, loop

    @property
    def commands(self) -> CommandDesk:
        """The desk of commands."""
        assert self.access.commands
        return self.access.commands

    def call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the gateway's event loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(DEADLINE)


def access_settings(folder: Path, validators: Mapping[UUID, str], authority: Path | None, port: int) -> GatewaySettings:
    """Write the gateway's key, and return its settings."""
    key = folder / "gateway.pem"
    key.write_bytes(KINDS["gateway"].key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    key.chmod(0o600)
    access = AccessSettings(validators, authority, ("127.0.0.1", port), ALLOWED, max_age=30 * 86_400)
    return GatewaySettings(KINDS["gateway"].uuid, folder, identity_key=f"file:{key}", access=access)


@contextmanager
def running_access(
    city: City, folder: Path, validators: Mapping[UUID, str], *, authority: Path | None = None, port: int = 0
) -> Iterator[AccessRun]:
    """Run the access of the city's gateway, whose site has the devices 256 and 257."""
    port = port or free_port()
    settings, lines = access_settings(folder, validators, authority, port), list[str]()
    log, stop, ready = LineLog(lines.append), Stop(), threading.Event()
    loop = asyncio.new_event_loop()
    with opened_access(
        settings,
        lambda: IdentitiesContract(city.chain, city.deployment.registries["identities"]),
        log,
        clock=lambda: int(time.time()),
    ) as access:
        assert access
        run = AccessRun(access, loop, f"http://127.0.0.1:{port}", lines)
        facts = site_facts([known_device(256), known_device(257)])
        run.commands.learn(replace(facts, block=1))

        async def serve() -> None:
            serving = asyncio.create_task(access.serve(ready.set))
            await asyncio.to_thread(stop.wait, DEADLINE * 10)
            serving.cancel()
            await asyncio.wait([serving])

        def repeat(work: Any) -> None:
            while not stop.is_asked:
                work()

        threads = [threading.Thread(target=loop.run_until_complete, args=(serve(),))]
        threads += [threading.Thread(target=repeat, args=(work,)) for work in access.threads(stop).values()]
        for thread in threads:
            thread.start()
        try:
            eventually(ready.is_set, what="the command port")
            yield run
        finally:
            stop.ask()
            access.wake()
            for thread in threads:
                thread.join(DEADLINE)
            loop.close()
