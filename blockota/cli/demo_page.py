"""The end of ``blockota demo --page``: the operations page, with the devices of the demonstration."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from blockota.cli.demo_walk import DemoWalk, demo_environment
from blockota.settings import FILE_NAME

_ALIAS, _MODEL, _PRODUCT = "acme/thermo2", "thermo2", "acme-thermo2"
_REGISTRANT = "dev:3"
_PAGE = "page"
"""The folder of the page in the folder of the demonstration. A settings file has one log, and the bench has one too."""
_LOGS = "[operations.logs]\n"


def register_boards(walk: DemoWalk, boards: Sequence[str]) -> None:
    """Register boards as devices of the city, and make the bench that of the enrolled technician.

    Args:
        walk: runs the commands.
        boards: the unique ids of the boards.
    """
    from blockota.vendor.example import IDENTITIES

    uuids = {one.kind: one.uuid for one in IDENTITIES}
    walk.heading("The city admits a registrant, who registers the boards as devices")
    (walk.folder / _PAGE).mkdir()
    (walk.folder / _PAGE / FILE_NAME).write_bytes((walk.folder / FILE_NAME).read_bytes())
    key = walk.run("key", "public", _REGISTRANT, result=False).split()[-1]
    walk.run("device", "registrant", "admit", "acme", "--public-key", key, "-o", "admit.json", result=False)
    walk.approve("admit.json")
    walk.run("device", "site", "give", str(uuids["gateway"]), "-o", "numbers.json", result=False)
    walk.approve("numbers.json")
    walk.run("device", "spec", "add", _MODEL, "--key", _REGISTRANT, result=False)
    walk.run("device", "spec", "allow", _MODEL, "--product", _PRODUCT, "--key", _REGISTRANT, result=False)
    for board in boards:
        walk.run("device", "register", f"{_ALIAS}/{board}", "--site", str(uuids["gateway"]), "--key", _REGISTRANT)
    technician = uuids["technician"]
    settings = f"""
[bench]
identity = "{technician}"
device_alias = "{_ALIAS}"

[log]
folder = ".blockota/log"
origin = "city.example/technician/{technician.hex}"
key = "file:.blockota/identities/technician.log.pem"
"""
    with (walk.folder / FILE_NAME).open("a") as file:
        file.write(settings)


def show_page(walk: DemoWalk) -> None:
    """Anchor the log of the bench, and run the operations room until Ctrl-C."""
    from blockota.chain.local import free_port
    from blockota.vendor.example import IDENTITIES

    example = {one.kind: one for one in IDENTITIES}
    walk.heading("The log of the bench is anchored, and the operator orders the update")
    walk.run("log", "anchor", "--all", "--key", f"dev:{example['technician'].account}")
    operator = f"dev:{example['operator'].account}"
    walk.run("order", "group", "berlin", "--site", str(example["gateway"].uuid), "--key", operator)
    order = ("--group", "berlin", "--product", _PRODUCT, "--version", "1.1.0", "--key", operator)
    walk.run("order", "update", "--producer", "acme", *order)

    walk.heading("The operations page")
    url = f"127.0.0.1:{free_port()}"
    cloud = example["cloud"]
    options = ("--identity", str(cloud.uuid), "--key", f"dev:{cloud.account}", "--listen", url)
    log_key = ("--log-key", "../.blockota/identities/cloud.log.pem")
    walk.run("operations", "init", "--domain", "city.example", *options, *log_key, place=_PAGE)
    file = walk.folder / _PAGE / FILE_NAME
    place = f'"{example["technician"].uuid}" = "../.blockota/log"\n'
    file.write_text(file.read_text().replace(_LOGS, _LOGS + place))
    walk.say("blockota operations run", mark="$ ", style="bold cyan")
    _run(walk, file.parent, f"http://{url}", operator)


def _run(walk: DemoWalk, folder: Path, url: str, operator: str) -> None:
    """Run the room, and print its address when it serves."""
    command = [sys.executable, "-m", "blockota", "operations", "run", "--events", "events.jsonl"]
    with subprocess.Popen(
        command, cwd=folder, env=demo_environment(), stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as room:
        try:
            line = room.stdout.readline() if room.stdout else ""
            if "operations room is at" in line:
                walk.say(f"the operations page is at {url}; Ctrl-C ends it", mark="✓ ", style="green")
                walk.say(f"To sign in, run in {folder}: blockota operations sign-in --key {operator}")
            room.wait()
        finally:
            room.send_signal(signal.SIGTERM)
