"""Shows the operations page with the devices of the demonstration, at the end of ``blockota demo --page``."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from blockota.cli.demo_walk import DemoWalk
from blockota.errors import missing_package
from blockota.settings import FILE_NAME

ALIAS, PRODUCT = "acme/thermo2", "acme-thermo2"
"""The beginning of the devices' names, and the product of `blockota dev up`."""
BOARDS = ("424c4f434b4f544100000001", "424c4f434b4f544100000002", "424c4f434b4f544100000003")
"""The unique ids of the simulated boards behind the page; the first is that of the simulator."""
REGISTRANT = "dev:3"
PAGE = "page"
"""The folder of the page in the folder of the demonstration. A settings file has one log, and the page has its own."""
ROOM = ("blockota", "operations", "run", "--events", "events.jsonl")
"""The module and the arguments of the operations room."""
_LIBRARIES = ("alembic", "jinja2", "prometheus_client", "sqlalchemy", "starlette")
_MODEL, _LOGS, _TICK = "thermo2", "[operations.logs]\n", 0.5


def require_services() -> None:
    """Check that the libraries of the services are installed, before the demonstration begins.

    Raises:
        UsageError: a library is not installed.
    """
    for name in _LIBRARIES:
        if importlib.util.find_spec(name) is None:
            raise missing_package("the operations page cannot be shown", name, "gateway", "operations")


def admit_registrant(walk: DemoWalk, *, blocks: int = 1) -> None:
    """Let the city admit a registrant and assign device numbers to the gateway, and register a device model.

    Args:
        walk: runs the commands.
        blocks: how many blocks of 256 device numbers the gateway gets.
    """
    (walk.folder / PAGE).mkdir()
    (walk.folder / PAGE / FILE_NAME).write_bytes((walk.folder / FILE_NAME).read_bytes())
    key = walk.run("key", "public", REGISTRANT, result=False).split()[-1]
    walk.run("device", "registrant", "admit", "acme", "--public-key", key, "-o", "admit.json", result=False)
    walk.approve("admit.json")
    given = ("--blocks", str(blocks)) if blocks > 1 else ()
    walk.run("device", "site", "give", str(identity("gateway")), *given, "-o", "numbers.json", result=False)
    walk.approve("numbers.json")
    walk.run("device", "spec", "add", _MODEL, "--key", REGISTRANT, result=False)
    walk.run("device", "spec", "allow", _MODEL, "--product", PRODUCT, "--key", REGISTRANT, result=False)


def register_boards(walk: DemoWalk, boards: Sequence[str]) -> None:
    """Register boards as devices of the city, and write the technician's identity into the settings of the bench.

    Args:
        walk: runs the commands.
        boards: the unique ids of the boards.
    """
    walk.heading("The city admits a registrant, who registers the boards as devices")
    admit_registrant(walk)
    for board in boards:
        walk.run("device", "register", f"{ALIAS}/{board}", "--site", str(identity("gateway")), "--key", REGISTRANT)
    technician = identity("technician")
    settings = f"""
[bench]
identity = "{technician}"
device_alias = "{ALIAS}"

[log]
folder = ".blockota/log"
origin = "city.example/technician/{technician.hex}"
key = "file:.blockota/identities/technician.log.pem"
"""
    with (walk.folder / FILE_NAME).open("a") as file:
        file.write(settings)


def show_page(walk: DemoWalk) -> None:
    """Anchor the log of the bench, and run the operations room until Ctrl-C."""
    from blockota.shutdown import stop_on_signals

    walk.heading("The log of the bench is anchored, and the operator orders the update")
    walk.run("log", "anchor", "--all", "--key", account("technician"))
    order_update(walk, "1.1.0")

    walk.heading("The operations page")
    url = make_room(walk, identity("technician"), "../.blockota/log")
    with stop_on_signals() as stop, suppress(KeyboardInterrupt), walk.service(*ROOM, place=PAGE) as room:
        show_address(walk, url)
        while not stop.wait(_TICK):
            room.check()


def order_update(walk: DemoWalk, version: str) -> None:
    """Let the operator order a release for all devices of the gateway."""
    walk.run("order", "group", "berlin", "--site", str(identity("gateway")), "--key", account("operator"))
    order = ("--group", "berlin", "--product", PRODUCT, "--version", version, "--key", account("operator"))
    walk.run("order", "update", "--producer", "acme", *order)


def make_room(walk: DemoWalk, keeper: UUID, log: str) -> str:
    """Set up an operations room that reads a log.

    Args:
        walk: runs the commands.
        keeper: who keeps the log.
        log: the log's folder or URL.

    Returns:
        The URL of the page.
    """
    from blockota.chain.local import free_port

    place = f"127.0.0.1:{free_port()}"
    options = ("--identity", str(identity("cloud")), "--key", account("cloud"), "--listen", place)
    log_key = ("--log-key", "../.blockota/identities/cloud.log.pem")
    walk.run("operations", "init", "--domain", "city.example", *options, *log_key, place=PAGE)
    file = walk.folder / PAGE / FILE_NAME
    file.write_text(file.read_text().replace(_LOGS, f'{_LOGS}"{keeper}" = "{log}"\n'))
    return f"http://{place}"


def show_address(walk: DemoWalk, url: str) -> None:
    """Print the address of the page, and how to sign in."""
    walk.say(f"the operations page is at {url}; Ctrl-C ends it", mark="✓ ", style="green")
    program = "blockota" if shutil.which("blockota") else Path(sys.executable).with_name("blockota")
    sign_in = f"{program} operations sign-in --key {account('operator')}"
    walk.say(f"To sign in: `cd {walk.folder / PAGE} && {sign_in}`")


def identity(kind: str) -> UUID:
    """Return the UUID of an identity of `blockota dev up`."""
    from blockota.vendor.example import IDENTITIES

    return next(one.uuid for one in IDENTITIES if one.kind == kind)


def account(kind: str) -> str:
    """Return the URI of the account of an identity of `blockota dev up`."""
    from blockota.vendor.example import IDENTITIES

    return f"dev:{next(one.account for one in IDENTITIES if one.kind == kind)}"
