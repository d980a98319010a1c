"""The gateway as a process.

A device that speaks DDI is updated although the gateway is killed between the steps of the update.
"""

from __future__ import annotations

import http.client
import json
import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from blockota.chain.local import free_port
from blockota.ledger.log import TileLog
from tests.gateway.faces.test_ddi import DdiClient
from tests.stories.conftest import Workshop
from tests.stories.test_devices import done
from tests.stories.test_gateway import OLD, site
from tests.support import forks
from tests.support.waiting import DEADLINE, eventually

__all__ = ["site"]
STEPS = ("polled", "opened", "half loaded", "loaded", "proceeding", "closed")
SAMPLED = ("half loaded", "closed")
"""The steps after which the gateway is killed here. In `make deep`, it is killed after every step."""
Result = TypeVar("Result")


@dataclass
class GatewayProcess:
    """``blockota gateway run`` in a folder, which can be killed and started again.

    Attributes:
        folder: the folder.
        process: the process.
        starts: how often the gateway was started.
    """

    folder: Path
    stack: ExitStack
    process: forks.Process = field(init=False)
    starts: int = 0

    def start(self) -> None:
        """Start the gateway, and wait until it serves."""
        words = ["-m", "blockota", "gateway", "run", "--json", "--events", f"events-{self.starts}.jsonl"]
        self.process = self.stack.enter_context(forks.started(words, folder=self.folder))
        self.starts += 1
        text = ""
        for line in self.process.stdout:
            text += line
            if line == "}\n":
                return
        raise AssertionError(self.process.errors + text)

    def kill(self) -> None:
        """Kill the gateway, and start it again."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)
        self.start()


@contextmanager
def running(folder: Path, port: int) -> Iterator[GatewayProcess]:
    """Run the gateway with the face DDI on a port."""
    path = folder / "blockota.toml"
    text = path.read_text().replace('listen = "127.0.0.1:8091"\n', "")
    path.write_text(f'{text}\n[gateway.ddi]\nlisten = "127.0.0.1:{port}"\n')
    with ExitStack() as stack:
        gateway = GatewayProcess(folder, stack)
        gateway.start()
        yield gateway


def patiently(ask: Callable[[], Result | None], what: str) -> Result:
    """Repeat a request until it succeeds. The gateway may be out of reach in the meantime."""

    def tried() -> Result | None:
        try:
            return ask()
        except (OSError, http.client.HTTPException, KeyError, AssertionError):
            return None

    found = eventually(tried, what=what)
    assert found is not None
    return found


def update(client: DdiClient, image: bytes, after: Callable[[str], None]) -> None:
    """Install the offered image, as a device with hawkBit's protocol does. `after` is called after each step."""
    link = patiently(lambda: client.poll()["deploymentBase"], "an offer")
    after("polled")
    artifact = patiently(client.artifact, "the artifact")
    after("opened")

    def load(first: int, last: int) -> bytes | None:
        status, part, _ = client.ask(artifact["url"], headers={"Range": f"bytes={first}-{last}"})
        return part if status == 206 else None

    half = artifact["size"] // 2
    loaded = patiently(lambda: load(0, half - 1), "the first half")
    after("half loaded")
    loaded += patiently(lambda: load(half, artifact["size"] - 1), "the second half")
    assert loaded == image
    after("loaded")
    patiently(lambda: client.feedback(link, "proceeding", "none") == 200 or None, "an answer")
    after("proceeding")
    patiently(lambda: client.feedback(link, "closed", "success") in (200, 410) or None, "an answer")
    after("closed")


def check_killed_after(site: Workshop, steps: Collection[str]) -> None:
    """Update a device, and kill the gateway after some steps. The receipt of the update must be logged exactly once."""
    with running(site.folder, free_port()) as gateway:
        eventually(lambda: done(site, "gateway", "status")["running"], what="the gateway")
        port = int((site.folder / "blockota.toml").read_text().rpartition("127.0.0.1:")[2].partition('"')[0])
        client = DdiClient(port, token=done(site, "gateway", "device", "256", "--token", "ddi")["secret"])
        update(client, OLD.read_bytes(), lambda step: gateway.kill() if step in steps else None)

        def history() -> list[dict[str, object]]:
            outcome = site.run("gateway", "device", "256", "--json")
            return list(outcome.json.get("history", [])) if outcome.status == 0 else []

        eventually(lambda: len(TileLog(site.folder / "gateway" / "log")), what="a receipt")
        assert patiently(lambda: "deploymentBase" not in client.poll() or None, "the end of the offer")
        assert gateway.starts == 1 + len(steps)

        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(DEADLINE) == 0
    [entry] = history()
    assert (entry["kind"], entry["version"], entry["level"]) == ("claimed", "1.0.0", "B")
    events = [json.loads(line) for line in (site.folder / "events-0.jsonl").read_text().splitlines()]
    assert [one["file"] for one in events if one.get("event") == "found"] == ["the image of acme-thermo2 1.0.0"]


def test_a_killed_gateway_loses_nothing(site: Workshop) -> None:
    """The gateway is killed while a device loads the image, and after the device's last message."""
    check_killed_after(site, SAMPLED)
