"""The DDI face and goosebit respond to a device with the same links, hashes, ranges and statuses.

SWUpdate installs from both.
The references for DDI are hawkBit's documentation and goosebit.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from scripts.peers import PACKAGES
from tests.gateway.faces.test_ddi import ROOT, DdiClient
from tests.peers.swupdate.device import PAYLOAD, Device, make_signer, make_swu
from tests.peers.swupdate.test_swupdate import Site, at_site
from tests.support.waiting import eventually

HARDWARE = {"hw_boardname": "default", "hw_revision": "1.0"}
"""The attributes by which goosebit finds the software for a device."""
ONGOING = ("proceeding", "scheduled", "resumed", "download", "downloaded")


@dataclass
class Goosebit:
    """A goosebit that serves.

    Attributes:
        port: its port on loopback.
        token: the token of its administrator.
    """

    port: int
    token: str = ""

    def manage(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        """Send a request to goosebit's management API, and return the answer."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        url = f"http://127.0.0.1:{self.port}{path}"
        answer = requests.request(method, url, headers=headers, timeout=60, **body)
        assert answer.ok, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def roll_out(self, swu: bytes) -> None:
        """Upload a .swu, and offer it to all devices."""
        user = {"username": "a@b.example", "password": "x"}
        self.token = self.manage("POST", "/setup", data=user)["access_token"]
        software = self.manage("PUT", "/api/v1/software", files={"file": ("hub.swu", swu)})["id"]
        rollout = {"name": "all", "feed": "default", "software_id": software}
        assert self.manage("PUT", "/api/v1/rollouts", json=rollout)["success"]


@contextmanager
def goosebit(folder: Path) -> Iterator[Goosebit]:
    """Run goosebit in a folder."""
    folder.mkdir()
    command = [str(PACKAGES / "python"), str(Path(__file__).with_name("server.py"))]
    with (
        (folder / "goosebit.log").open("w") as log,
        subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout
            port = next((line for line in process.stdout if line.strip().isdecimal()), None)
            assert port, (folder / "goosebit.log").read_text()
            yield Goosebit(int(port))
        finally:
            process.terminate()


@dataclass(frozen=True)
class Walk:
    """The answers that a device received during one update.

    Attributes:
        polls: the answers to three polls: before the attributes were sent, with the update, and after the success.
        deployment: the action.
        part: status and Content-Range of the answer to a request for a range.
        statuses: the class of the HTTP status (2 or 4), by the feedback's execution and result.
    """

    polls: list[dict[str, Any]]
    deployment: dict[str, Any]
    part: tuple[int, str]
    statuses: dict[tuple[str, str], int]


def walk(client: DdiClient, swu: bytes) -> Walk:
    """Update a device, and check the parts of the answers that the device needs."""
    polls = []

    def poll() -> dict[str, str]:
        status, body, _ = client.ask(f"{ROOT}/256")
        assert status == 200
        polls.append(json.loads(body))
        assert re.fullmatch(r"\d\d:\d\d:\d\d", polls[-1]["config"]["polling"]["sleep"])
        return {name: one["href"].partition(str(client.port))[2] for name, one in polls[-1]["_links"].items()}

    attributes = json.dumps({"mode": "merge", "data": HARDWARE}).encode()
    assert client.ask(poll()["configData"], "PUT", attributes)[0] == 200
    link = poll()["deploymentBase"]
    deployment = json.loads(client.ask(link)[1])
    assert deployment["id"] == link.rpartition("/")[2].partition("?")[0]
    [chunk] = deployment["deployment"]["chunks"]
    [artifact] = chunk["artifacts"]
    assert artifact["hashes"]["sha1"] == hashlib.sha1(swu, usedforsecurity=False).hexdigest()
    assert artifact["size"] == len(swu)
    url = artifact["_links"]["download"]["href"].partition(str(client.port))[2]
    assert client.ask(url)[1] == swu
    status, part, headers = client.ask(url, headers={"Range": "bytes=1000-"})
    assert part == swu[1000:]

    words = [(execution, "none") for execution in ONGOING]
    words += [("done", "none"), ("closed", "skip"), ("closed", "success")]
    statuses = {one: client.feedback(link, *one, "a line") // 100 for one in words}
    assert "deploymentBase" not in poll()
    return Walk(polls, deployment, (status, headers["content-range"]), statuses)


def shape(value: Any) -> Any:
    """Return the shape of a JSON value: each value is replaced by its type, and a list has one item."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items()}
    return [shape(value[0])] if isinstance(value, list) else type(value)


def has(ours: Any, theirs: Any) -> bool:
    """Whether our shape has every field of the other shape, with the same type."""
    if isinstance(theirs, dict):
        return isinstance(ours, dict) and all(name in ours and has(ours[name], one) for name, one in theirs.items())
    return has(ours[0], theirs[0]) if isinstance(theirs, list) else bool(ours == theirs)


def test_a_device_gets_the_same_from_both(tmp_path: Path) -> None:
    """In an update, our answers have every field of goosebit's answers, and the same statuses."""
    walks = []

    async def use(site: Site) -> None:
        swu = (tmp_path / "image.swu").read_bytes()
        with goosebit(tmp_path / "goosebit") as other:
            other.roll_out(swu)
            walks.append(await asyncio.to_thread(walk, DdiClient(other.port), swu))
        client = DdiClient(site.face.port, token=site.device.token)
        walks.append(await asyncio.to_thread(walk, client, swu))

    at_site(tmp_path, use)
    theirs, ours = walks
    for mine, other in zip(ours.polls[:2], theirs.polls[:2], strict=True):
        assert has(shape(mine), shape(other)), (mine, other)
    assert has(shape(ours.deployment), shape(theirs.deployment)), (ours.deployment, theirs.deployment)
    modes = [{name: one.deployment["deployment"][name] for name in ("download", "update")} for one in (ours, theirs)]
    assert modes[0] == modes[1] == {"download": "forced", "update": "forced"}
    assert ours.part == theirs.part
    assert ours.part[0] == 206
    assert ours.statuses == theirs.statuses
    assert set(ours.statuses.values()) == {2, 4}


def test_swupdate_installs_from_goosebit_as_from_us(tmp_path: Path) -> None:
    """The unchanged device of the other tests installs an update from goosebit."""
    home = tmp_path / "device"
    home.mkdir()
    make_signer(home)
    device = Device(home, "", "none", attributes=HARDWARE)
    swu = make_swu(home, PAYLOAD, version="1.1.0", path=device.installed)
    with goosebit(tmp_path / "goosebit") as other:
        other.roll_out(swu)
        device.server = f"http://127.0.0.1:{other.port}"
        with device.running():
            eventually(lambda: "Update successful, executing post-update" in device.log, what="the installation")
        assert device.installed.read_bytes() == PAYLOAD
        device.attributes = HARDWARE | {"sw_version": "1.1.0"}  # of the new system; goosebit compares it with the offer
        with device.running("-c", "2"):
            client = DdiClient(other.port)
            eventually(lambda: "deploymentBase" not in client.poll(), what="the end of the offer")
