"""An operations room reads a gateway's log through a real tunnel, and its page shows the tunnel."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from blockota.ledger.log import TileLog
from blockota.model.identity import ban_reason
from blockota.model.receipt import EntryKind, LogEntry
from tests.conftest import ROOT
from tests.peers.wireguard.conftest import End, TunnelCity, log_signer
from tests.support.waiting import eventually

LOG_PORT = 8472


def write_log(end: End) -> str:
    """Make the log of a tunnel end with two entries, and return the log's folder."""
    folder = end.folder / "log"
    log = TileLog(folder)
    log.append(
        [
            LogEntry(kind=EntryKind.EVENT, time=1_795_000_000 + number, gateway=end.uuid, source="door opened").encode()
            for number in range(2)
        ]
    )
    log.publish(log_signer(end.uuid))
    return str(folder)


def write_room_settings(tunnels: TunnelCity) -> None:
    """Write the settings of the room, which follows the log of a gateway at its virtual IP."""
    city, room, gateway = tunnels.city, tunnels.room, tunnels.gateways[0]
    known = city.deployment
    contracts = {"contract": known.contract, "replication": known.replication, **known.registries}
    lines = ['producer_network = "room"', 'gateway_network = "room"', "[networks.room]", f'url = "{tunnels.node}"']
    lines += [f"chain_id = {city.chain.chain_id}", "confirmations = 0", f"first_block = {known.block_number}"]
    lines += [f'{name} = "{address}"' for name, address in contracts.items() if address]
    lines += ["[operations]", f'tunnels = "{room.interface}"']
    lines += ["[operations.logs]", f'{gateway.uuid} = "http://{gateway.address}:{LOG_PORT}"']
    (room.folder / "room.toml").write_text("\n".join(lines) + "\n")


@contextmanager
def started(end: End, *command: str) -> Iterator[None]:
    """Run a program on the host of a tunnel end while the ``with`` block runs."""
    with (end.folder / "program.txt").open("w") as output:
        process = subprocess.Popen(end.host.command(*command), stdout=output, stderr=output, cwd=ROOT)
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)


def page(room: End, path: str) -> str:
    """Return the text of a page that a browser on the room's host gets; empty if the room does not answer."""
    command = room.host.command("curl", "-s", "-m", "10", f"http://127.0.0.1:8480{path}")
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", found))


def has(room: End, path: str, pattern: str) -> bool:
    """Whether a page has a text."""
    return re.search(pattern, page(room, path)) is not None


def test_the_room_reads_logs_through_its_tunnel_and_shows_it(tunnels: TunnelCity) -> None:
    """The page shows the verified log, the newest handshake and the bytes of the tunnel, and then the ban."""
    room, gateway = tunnels.room, tunnels.gateways[0]
    gateway.comes_to_reach(room)
    write_room_settings(tunnels)
    serve = (
        "python3",
        "-m",
        "http.server",
        str(LOG_PORT),
        "--bind",
        gateway.address,
        "--directory",
        write_log(gateway),
    )
    name = f"{str(gateway.uuid)[:8]}…{str(gateway.uuid)[-4:]}"
    run = (".venv/bin/python", "-m", "blockota", "operations", "run", "--config", str(room.folder / "room.toml"))
    shows = partial(has, room)
    with started(gateway, *serve), started(room, *run):
        eventually(lambda: shows("/ledger", r"Verified 2 entries, read \d+ s ago"), what="the log of the gateway")
        row = rf"{re.escape(gateway.address)} gateway {name} \d+ (s|min) ago [\d,]+ [\d,]+ enrolled"
        eventually(lambda: shows("/network", row), what="the tunnel of the gateway")

        tunnels.city.decide("identities", "ban", gateway.uuid.bytes, ban_reason("stolen"))
        banned = rf"gateway {name} banned .{{0,30}}: banned by the Safe: stolen {re.escape(gateway.address)}"
        eventually(lambda: shows("/network", banned), what="the ban")
        eventually(lambda: not shows("/network", row), what="the end of the tunnel")
        eventually(lambda: shows("/ledger", "does not answer"), what="the log out of reach")
        assert shows("/ledger", "Verified 2 entries")

        tunnels.city.decide("identities", "unban", gateway.uuid.bytes)
        gateway.comes_to_reach(room)
        eventually(lambda: shows("/network", row), what="the tunnel after the ban was lifted")
