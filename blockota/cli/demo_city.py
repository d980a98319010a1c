"""``blockota demo --city``: a gateway updates simulated devices, and the operations page shows them."""

from __future__ import annotations

import hashlib
import json
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from urllib.request import urlopen

from blockota.cli.demo_page import (
    ALIAS,
    BOARDS,
    PAGE,
    PRODUCT,
    REGISTRANT,
    ROOM,
    account,
    admit_registrant,
    identity,
    make_room,
    order_update,
    show_address,
)
from blockota.cli.demo_walk import DemoService, DemoWalk
from blockota.settings import FILE_NAME
from blockota.shutdown import Stop, stop_on_signals
from firmware_host.fleet.device import Conduct

LEAST, MOST = 20, 10_000
"""The smallest and the largest number of devices."""
_GATEWAY = ("blockota", "gateway", "run", "--events", "gateway.jsonl")
_FILE = "fleet.jsonl"
_BLOCK, _TICK, _ANSWER = 256, 0.5, 10
"""The number of device numbers in a block, seconds between two readings of the page's metrics, and the time limit for
an answer in seconds."""
_POLLS = 50
"""The polls of all devices together in a second. A fixed rate keeps the processor's load the same for any number of
devices."""
_EXCEPTIONS = {
    Conduct.FLAKY: 20,
    Conduct.REFUSING: 8,
    Conduct.BROKEN: 6,
    Conduct.REVERTING: 4,
    Conduct.LYING: 3,
    Conduct.POSING: 2,
    Conduct.MODIFIED: 2,
}
"""The devices in a thousand that do not simply install the update; there is at least one of each."""
_STAYING = (Conduct.REFUSING, Conduct.BROKEN, Conduct.REVERTING, Conduct.LYING)
"""The devices that do not run the update at the end."""
_RUNNING = re.compile(r'^blockota_operations_running_devices\{.*version="([^"]+)"\} ([0-9.e+]+)$', re.MULTILINE)
_OLD, _NEW = "1.0.0", "1.1.0"
_SIGHTS = {
    "/": "devices move from the old release to the new one, while the page is open",
    "/updates": "the order with its progress and refusals, and who signed the releases",
    f"/devices?product={PRODUCT}&version={_OLD}": "the devices that keep the old release; their pages show why",
    "/devices": "the first three are boards whose flash the gateway reads: level C; the others claim what they run",
    "/warnings": "devices that lied, used a foreign number, or ran an image that no vendor published",
    "/ledger": "the gateway's log, and its anchors on the chain",
}
_FACE = """
[gateway.ddi]
listen = "{ddi}"
poll = "{poll}"

[gateway.groups.default]
policy = "ordered"
pauses = ["{pause}s", "{pause}s"]

[gateway.an3155]
retry = "1s"

[gateway.an3155.devices]
{boards}
"""
_FLASH_SIZE = 1 << 16


class CityDemo:
    """The demonstration of a city.

    Args:
        walk: runs the commands.
        count: the number of devices.
    """

    def __init__(self, walk: DemoWalk, count: int) -> None:
        self._walk, self._count = walk, count
        self._poll = max(count // _POLLS, 1)

    def run(self, publish: Callable[[str], None]) -> None:
        """Update the devices, and show the page until Ctrl-C.

        Args:
            publish: publishes a version of the product.
        """
        from blockota.chain.local import free_port

        walk = self._walk
        walk.heading("A local chain: a 2-of-3 Safe, the contract it owns, one product")
        walk.run("dev", "up", "--port", str(walk.port))
        walk.heading(f"The city admits a registrant, who registers {self._count:,} devices")
        admit_registrant(walk, blocks=-(-self._count // _BLOCK))
        serials = [f"SN-{number:06}" for number in range(1, self._count - len(BOARDS) + 1)]
        numbers = self._register([*BOARDS, *serials])
        for version in (_OLD, _NEW):
            publish(version)

        walk.heading(f"The gateway of the site, the page, and {self._count:,} simulated devices")
        ports = {number: free_port() for number in numbers[: len(BOARDS)]}
        state, ddi = self._found_gateway(ports)
        conducts = conducts_of(numbers[len(BOARDS) :])
        self._issue_tokens(conducts)
        url = make_room(walk, identity("gateway"), f"http://{state}")
        server = f"http://{ddi}/default"
        with stop_on_signals() as stop, suppress(KeyboardInterrupt), ExitStack() as stack:
            boards = zip(BOARDS, ports.values(), strict=True)
            services = [
                *(stack.enter_context(self._board(unique_id, port)) for unique_id, port in boards),
                stack.enter_context(walk.service(*_GATEWAY)),
                stack.enter_context(walk.service(*ROOM, place=PAGE)),
                stack.enter_context(walk.service("firmware_host.fleet", server, _FILE)),
            ]
            show_address(walk, url)

            watch = _Watch(walk, url, services, stop)
            watch.wait_for(_OLD, sum(one is not Conduct.MODIFIED for one in conducts.values()) + len(BOARDS))
            walk.heading("The operator orders the update")
            order_update(walk, _NEW)

            walk.heading("What to look at")
            for path, what in _SIGHTS.items():
                walk.say(f"{url}{path}  {what}")
            watch.wait_for(_NEW, sum(one not in _STAYING for one in conducts.values()) + len(BOARDS))
            walk.say("the update is over; the page stays until Ctrl-C", mark="✓ ", style="green")
            watch.wait_for_end()

    def _register(self, serials: Sequence[str]) -> list[int]:
        """Register devices, each in a transaction, and return their numbers.

        Running `blockota device register` for each device would take minutes.
        """
        from blockota.bindings.devices import DevicesContract
        from blockota.cli.keys import open_key
        from blockota.connection import Connection
        from blockota.model.device import registration_of
        from blockota.settings import load_settings

        settings = load_settings(self._walk.folder / FILE_NAME, network=None, environment={})
        contract = Connection(settings).open(DevicesContract)
        registrant, site = open_key(settings.chain_id, REGISTRANT, None), identity("gateway")
        numbers = []
        for serial in serials:
            wanted = registration_of([f"{ALIAS}/{serial}"], nonce=serial.encode(), data="", site=site, key=None)
            numbers.append(contract.register(registrant, wanted, payer=registrant).number)
        self._walk.say(f"devices {numbers[0]} to {numbers[-1]} are registered", mark="✓ ", style="green")
        return numbers

    def _found_gateway(self, ports: Mapping[int, int]) -> tuple[str, str]:
        """Set up the gateway.

        Args:
            ports: the TCP port of each board, by the number of the device.

        Returns:
            The listening addresses of the gateway's own server and of its DDI interface.
        """
        from blockota.chain.local import free_port

        state, ddi = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        walk, keys = self._walk, ".blockota/identities/gateway"
        options = ("--identity", str(identity("gateway")), "--key", account("gateway"), "--domain", "city.example")
        files = ("--identity-key", f"{keys}.pem", "--log-key", f"{keys}.log.pem")
        walk.run("gateway", "init", *options, *files, "--listen", state)
        minutes, seconds = divmod(self._poll, 60)
        pause = max(self._poll // 4, 1)
        boards = "\n".join(f'{number} = "rfc2217://127.0.0.1:{port}"' for number, port in ports.items())
        file = walk.folder / FILE_NAME
        text = file.read_text().replace("[gateway]\n", "[gateway]\nanchor_minutes = 1\n")
        file.write_text(text + _FACE.format(ddi=ddi, poll=f"00:{minutes:02}:{seconds:02}", pause=pause, boards=boards))
        return state, ddi

    def _board(self, unique_id: str, port: int) -> AbstractContextManager[DemoService]:
        """Simulate a board with the old release in its flash."""
        image = (self._walk.folder / f"bluepill-{_OLD}.bin").read_bytes()
        (self._walk.folder / f"{unique_id}.flash").write_bytes(image.ljust(_FLASH_SIZE, b"\xff"))
        options = ("--rfc2217", str(port), "--flash", f"{unique_id}.flash", "--unique-id", unique_id)
        return self._walk.service("firmware_host.simulator", *options)

    def _issue_tokens(self, conducts: Mapping[int, Conduct]) -> None:
        """Issue a token for each device, and write the input file of the fleet simulator."""
        from blockota.gateway.opening import STATE_NAME
        from blockota.gateway.settings import load_gateway
        from blockota.gateway.state import GatewayState

        folder = load_gateway(self._walk.folder / FILE_NAME, environment={}).folder
        image = hashlib.sha256((self._walk.folder / f"bluepill-{_OLD}.bin").read_bytes()).hexdigest()
        with GatewayState(folder / STATE_NAME) as state, (self._walk.folder / _FILE).open("w") as file:
            for number, conduct in conducts.items():
                line = {"number": number, "token": state.issue_token("ddi", [number])}
                file.write(json.dumps(line | {"image": image, "conduct": conduct}) + "\n")


def conducts_of(numbers: list[int]) -> dict[int, Conduct]:
    """Return the behaviour of each device in the update. A few devices, chosen with a fixed random seed, deviate."""
    draw = random.Random(len(numbers))  # noqa: S311 - a simulation
    exceptions = [one for one, share in _EXCEPTIONS.items() for _ in range(max(round(share * len(numbers) / 1000), 1))]
    chosen = dict(zip(draw.sample(numbers, len(exceptions)), exceptions, strict=True))
    return {number: chosen.get(number, Conduct.STEADY) for number in numbers}


class _Watch:
    """Polls the figures of the operations page, and raises an error if a service has ended.

    Args:
        walk: prints the figures.
        url: the page.
        services: the services.
        stop: ends the demonstration.
    """

    def __init__(self, walk: DemoWalk, url: str, services: Sequence[DemoService], stop: Stop) -> None:
        self._walk, self._url, self._services, self._stop = walk, url, services, stop

    def wait_for(self, version: str, count: int) -> None:
        """Wait until the page shows that `count` devices run a version, and print the number at each further quarter.

        Raises:
            KeyboardInterrupt: a stop was requested.
        """
        start, shown = time.monotonic(), 0
        while shown < count:
            self._pause()
            found = self._running(version)
            if found >= count or found - shown >= count / 4:
                seconds = time.monotonic() - start
                self._walk.say(f"{found:,} devices run {version} after {seconds:.0f} s", mark="✓ ", style="green")
                shown = found

    def wait_for_end(self) -> None:
        """Wait until a stop is requested.

        Raises:
            KeyboardInterrupt: a stop was requested.
        """
        while True:
            self._pause()

    def _pause(self) -> None:
        """Wait for a moment.

        Raises:
            KeyboardInterrupt: a stop was requested.
            BlockOTAError: a service ended.
        """
        self._stop.pause(_TICK)
        for service in self._services:
            service.check()

    def _running(self, version: str) -> int:
        """Return the number of devices that run a version; 0 if the page does not answer in time."""
        try:
            with urlopen(f"{self._url}/metrics", timeout=_ANSWER) as answer:  # noqa: S310 - the demonstration's page
                text = answer.read().decode()
        except OSError:
            return 0
        return sum(int(float(count)) for name, count in _RUNNING.findall(text) if name == version)
