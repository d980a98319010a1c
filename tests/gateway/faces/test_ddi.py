"""The DDI face serves hawkBit's clients with polls, actions, image ranges and feedback. It refuses strangers."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import json
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from blockota.errors import UsageError
from blockota.gateway.core import Core, Report
from blockota.gateway.face import FaceContext
from blockota.gateway.faces.ddi import DdiFace, DdiSettings
from blockota.model.delivery import Delivery, DeliveryPolicy, Stage
from blockota.model.receipt import EntryKind, EvidenceLevel
from blockota.model.target import GroupPolicy
from blockota.settings_table import SettingsTable
from tests.support.gateway import (
    TOKEN,
    FakeCore,
    GatewayCore,
    device_offer,
    gateway_core,
    known_device,
    release_facts,
    site_facts,
)
from tests.support.receipts import GATEWAY
from tests.support.waiting import eventually

IMAGE = bytes(range(256)) * 4096
ROOT = "/default/controller/v1"
Answer = TypeVar("Answer")


@dataclass
class DdiClient:
    """A device that speaks DDI: it opens a connection for each request, and uses only URLs from the gateway."""

    port: int
    token: str = TOKEN
    number: str = "256"

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, *, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes, dict[str, str]]:
        """Send a request, and return status, body and headers of the response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            kind = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(
                method, path, body, {"Authorization": f"TargetToken {self.token}", **kind, **(headers or {})}
            )
            answer = connection.getresponse()
            return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()

    def poll(self) -> dict[str, str]:
        """Poll, and return the links."""
        status, body, _ = self.ask(f"{ROOT}/{self.number}")
        assert status == 200, body
        return {name: link["href"].partition(str(self.port))[2] for name, link in json.loads(body)["_links"].items()}

    def artifact(self) -> dict[str, Any]:
        """Open the offered action, and return its artifact."""
        [artifact] = json.loads(self.ask(self.poll()["deploymentBase"])[1])["deployment"]["chunks"][0]["artifacts"]
        return {**artifact, "url": artifact["_links"]["download-http"]["href"].partition(str(self.port))[2]}

    def feedback(self, link: str, execution: str, finished: str, *details: str) -> int:
        """Send feedback about an action, and return the response's status."""
        status = {"execution": execution, "result": {"finished": finished}, "details": details}
        return self.ask(f"{link}/feedback", "POST", json.dumps({"id": "1", "status": status}).encode())[0]

    def attributes(self, **data: str) -> int:
        """Send attributes, and return the response's status."""
        body = {"mode": "merge", "data": {f"blockota.{name}": value for name, value in data.items()}}
        return self.ask(self.poll()["configData"], "PUT", json.dumps(body).encode())[0]


def serve(folder: Path, core: Core, use: Callable[[DdiClient], None], *, face: DdiFace | None = None) -> None:
    """Run a client in a thread against the face."""

    async def main() -> None:
        await served(folder, core, use, face=face)

    asyncio.run(main())


async def served(folder: Path, core: Core, use: Callable[[DdiClient], None], *, face: DdiFace | None = None) -> None:
    """Serve while a client is used."""
    served = face or DdiFace(DdiSettings("127.0.0.1", 0), context(folder))
    ready = asyncio.Event()
    task = asyncio.create_task(served.run(core, on_ready=ready.set))
    await ready.wait()
    try:
        await asyncio.to_thread(use, DdiClient(served.port))
    finally:
        task.cancel()
        await asyncio.wait([task])


def context(folder: Path) -> FaceContext:
    """Return the context of a face."""
    return FaceContext(GATEWAY, folder, lambda: 0, lambda *_, **__: None)


def test_an_offer_is_opened_downloaded_and_closed(tmp_path: Path) -> None:
    """The response to a poll links to the action and its image, and the device's success counts as a report."""
    core, offer = _Staged(), device_offer(tmp_path, IMAGE)

    def device(client: DdiClient) -> None:
        assert set(client.poll()) == {"configData"}
        core.now_offered[256] = [offer]
        link = client.poll()["deploymentBase"]
        artifact = client.artifact()
        assert artifact["size"] == len(IMAGE)
        assert artifact["hashes"] == {
            name: hashlib.new(name, IMAGE, usedforsecurity=False).hexdigest() for name in ("sha1", "md5", "sha256")
        }
        status, body, headers = client.ask(artifact["url"])
        assert (status, body, headers["etag"]) == (200, IMAGE, f'"{offer.image.hex()}"')
        core.stage = Stage.TRANSFER
        assert client.feedback(link, "proceeding", "none", "All Chunks Installed.") == 200
        assert not [call for call in core.calls if call[0] in ("outcome", "reported")]
        assert client.feedback(link, "closed", "success") == 200

    serve(tmp_path, core, device)
    assert [call for call in core.calls if call[0] in ("outcome", "reported")] == [
        ("reported", 256, Report(image=offer.image)),
    ]


class _Staged(FakeCore):
    """A fake core in which each delivery has one settable stage."""

    stage = Stage.OFFERED

    def state(self, number: int, product: str | None = None) -> Delivery:
        """Return a state in the stage."""
        del number, product
        return Delivery(self.stage)


RANGES: tuple[tuple[dict[str, str], int, bytes], ...] = (
    ({"Range": "bytes=1000000-"}, 206, IMAGE[1_000_000:]),
    ({"Range": "bytes=0-0"}, 206, IMAGE[:1]),
    ({"Range": "bytes=-5"}, 206, IMAGE[-5:]),
    ({"Range": "bytes=5-99999999"}, 206, IMAGE[5:]),
    ({"Range": "bytes=1048576-"}, 416, b""),
    ({"Range": "bytes=-0"}, 416, b""),
    ({"Range": "bytes=9-3"}, 200, IMAGE),
    ({"Range": "bytes=0-1,4-5"}, 200, IMAGE),
    ({"Range": "lines=0-1"}, 200, IMAGE),
    ({"Range": "bytes=5-", "If-Range": '"another image"'}, 200, IMAGE),
)


def test_a_range_of_the_image_is_sent(tmp_path: Path) -> None:
    """A download can be resumed by a `Range` request, but parts of different images are never joined."""
    core = FakeCore()
    core.now_offered[256] = [device_offer(tmp_path, IMAGE)]

    def device(client: DdiClient) -> None:
        url = client.artifact()["url"]
        for headers, status, part in RANGES:
            got, body, answered = client.ask(url, headers=headers)
            assert (got, body) == (status, part), headers
            if got == 206:
                start = len(IMAGE) - len(part) if not headers["Range"].endswith("0-0") else 0
                assert answered["content-range"] == f"bytes {start}-{start + len(part) - 1}/{len(IMAGE)}"
        assert client.ask(url, "HEAD")[2]["content-length"] == str(len(IMAGE))

    serve(tmp_path, core, device)


def test_images_are_served_by_their_hash(tmp_path: Path) -> None:
    """Only images and deltas can be downloaded, by their SHA-256; a client can also download ranges."""
    digests = []
    for folder in ("images", "deltas"):
        (tmp_path / folder).mkdir()
        digests.append(hashlib.sha256(folder.encode()).hexdigest())
        (tmp_path / folder / digests[-1]).write_bytes(folder.encode())
    (tmp_path / "images" / f"{digests[0]}.source").write_text("secret")

    def device(client: DdiClient) -> None:
        client.token = ""
        assert [client.ask(f"/images/{one}")[:2] for one in digests] == [(200, b"images"), (200, b"deltas")]
        assert client.ask(f"/images/{digests[0]}", headers={"Range": "bytes=2-"})[:2] == (206, b"ages")
        for path in (f"{digests[0]}.source", "a" * 64, "..%2Fimages%2F" + digests[0], ""):
            assert client.ask(f"/images/{path}")[0] == 404

    serve(tmp_path, FakeCore(), device)


def unstalled(ask: Callable[[], Answer]) -> Answer:
    """Repeat a request until it is answered, because the face may disconnect a client that a busy machine delays."""

    def asked() -> Answer | None:
        with suppress(OSError, http.client.HTTPException):
            return ask()
        return None

    answer = eventually(asked)
    assert answer is not None
    return answer


def test_clients_that_stall_are_dropped(tmp_path: Path) -> None:
    """A client that sends no complete request, or does not read its download, is disconnected.

    Other clients are still served.
    """
    core, large = FakeCore(), bytes(32 << 20)
    core.now_offered[256] = [device_offer(tmp_path, large)]
    face = DdiFace(DdiSettings("127.0.0.1", 0), context(tmp_path), stall_seconds=0.2)

    def device(client: DdiClient) -> None:
        url = unstalled(lambda: str(client.artifact()["url"]))
        request = f"GET {url} HTTP/1.1\r\nHost: x\r\nAuthorization: TargetToken {TOKEN}\r\n".encode()
        with socket.create_connection(("127.0.0.1", client.port)) as download:
            download.sendall(request + b"\r\n")
            for sent in (b"", request):
                with socket.create_connection(("127.0.0.1", client.port), timeout=30) as connection:
                    connection.sendall(sent)
                    assert connection.recv(1) == b""
            assert len(download.makefile("rb").read()) < len(large)
        assert unstalled(lambda: client.ask(url)[1]) == large

    serve(tmp_path, core, device, face=face)


def test_strangers_get_nothing(tmp_path: Path) -> None:
    """A request with a missing or foreign token, or with an unknown or malformed device id, gets status 401."""
    core = FakeCore()
    core.tokens[257] = "another"

    def device(client: DdiClient) -> None:
        good = f"{ROOT}/256"
        for path, token in (
            (good, ""),
            (good, "another"),
            (f"{ROOT}/257", TOKEN),
            (f"{ROOT}/999", TOKEN),
            (f"{ROOT}/0256", TOKEN),
            (f"{ROOT}/%2b", TOKEN),
            (f"{ROOT}/²", TOKEN),
            (f"{ROOT}/{'9' * 30}", TOKEN),
        ):
            client.token = token
            status, body, _ = client.ask(path.replace("²", "%C2%B2"))
            assert (status, json.loads(body)) == (401, {"message": "the device or its token is not known"})
        client.token = TOKEN
        assert client.ask("/other/controller/v1/256")[0] == 404
        assert client.ask(good, headers={"Authorization": f"Basic {TOKEN}"})[0] == 401
        assert client.ask(good, headers={"Authorization": f"GatewayToken {TOKEN}"})[0] == 200

    serve(tmp_path, core, device)


def test_no_device_is_refused_before_the_first_reading(tmp_path: Path) -> None:
    """Until the gateway has read its devices, it answers with status 503, and logs no warning."""
    core = FakeCore()
    core.devices.clear()

    def device(client: DdiClient) -> None:
        status, body, _ = client.ask(f"{ROOT}/256")
        assert (status, json.loads(body)) == (503, {"message": "the gateway has not read its devices yet"})

    serve(tmp_path, core, device)
    assert not core.calls


def test_bad_messages_are_refused_and_warned_of(tmp_path: Path) -> None:
    """Malformed DDI messages and feedback for unknown actions are refused and change nothing."""
    core = _Staged()
    core.now_offered[256] = [device_offer(tmp_path, IMAGE)]

    def device(client: DdiClient) -> None:
        link = client.poll()["deploymentBase"]
        before = len(core.calls)
        for body, why in (
            (b"", "it is empty"),
            (b"[]", "not a JSON object"),
            (b'{"status": 1}', "status is 1"),
            (b'{"status": {}, "status": {}}', "repeated"),
            (b'{"status": {"execution": "done", "result": {}}}', "unknown status"),
            (b'{"status": {"execution": "closed", "result": {"finished": "skip"}}}', "unknown status"),
            (b'{"status": {"execution": "closed", "result": {"finished": "success"}}}', "did not fetch the image"),
        ):
            assert client.ask(f"{link}/feedback", "POST", body)[0] == 400, body
            assert why in core.calls[-1][2]
        assert {call[0] for call in core.calls[before:]} == {"warn"}
        other = link.replace("/7", "/8")
        assert client.feedback(other, "closed", "success") == 410
        assert client.ask(other)[0] == client.ask(link.replace("/7", "/x"))[0] == 404
        assert client.ask(client.artifact()["url"].replace(".img", ".swu"))[0] == 404
        assert client.ask(f"{link}/feedback", "POST", b"x" * 70_000)[0] == 413
        assert client.ask(f"{link}/feedback", "POST", b"", headers={"Content-Length": str(1 << 30)})[0] == 413
        assert client.ask(f"{link}/feedback", "POST", b"{}", headers={"Content-Type": "text/xml"})[0] == 415
        assert client.ask(link, "DELETE")[0] == 405
        for value in ("zz", "A" * 64):
            assert client.attributes(image=value) == 400
        assert not [call for call in core.calls if call[0] in ("outcome", "reported")]

    serve(tmp_path, core, device)


def test_a_body_of_1_gib_is_refused_at_its_beginning(tmp_path: Path) -> None:
    """A chunked body is read only up to the limit, its connection is closed, and other requests are served."""
    core = FakeCore()
    core.now_offered[256] = [device_offer(tmp_path, IMAGE)]
    chunk = b"10000\r\n" + bytes(1 << 16) + b"\r\n"

    def device(client: DdiClient) -> None:
        link = client.poll()["deploymentBase"]
        head = f"POST {link}/feedback HTTP/1.1\r\nHost: x\r\nAuthorization: TargetToken {TOKEN}\r\n"
        sent = 0
        with socket.create_connection(("127.0.0.1", client.port), timeout=60) as connection:
            connection.sendall(f"{head}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
            with contextlib.suppress(ConnectionError):
                while sent < 1 << 30:
                    connection.sendall(chunk)
                    sent += 1 << 16
        assert sent < 1 << 26  # what lay in the buffers of the two sockets
        assert client.poll()["deploymentBase"] == link

    serve(tmp_path, core, device)


def test_failures_and_refusals_are_told_apart(tmp_path: Path) -> None:
    """The face logs the text of a failed try, ends a rejected try, and refuses feedback for ended actions."""
    core, offer = FakeCore(), device_offer(tmp_path, IMAGE)
    core.now_offered[256] = [offer]

    def device(client: DdiClient) -> None:
        link = client.poll()["deploymentBase"]
        client.ask(link)
        assert client.feedback(link, "closed", "failure", "no  space", "left\n") == 200
        assert client.feedback(link, "rejected", "failure") == 200
        core.now_offered[256] = []
        assert client.feedback(link, "rejected", "failure") == 200  # repeated, because the answer was lost
        assert client.feedback(link, "closed", "failure", "another one") == 410
        assert client.feedback(link.replace("/7", "/9"), "closed", "failure") == 410

    serve(tmp_path, core, device)
    assert [call[2:] for call in core.calls if call[0] == "outcome"] == [
        (7, False, "no space left", False),
        (7, False, "the device answers rejected, failure", True),
    ]


def test_a_withdrawn_action_is_cancelled(tmp_path: Path) -> None:
    """If a device has opened an action that is withdrawn, the device must cancel it before the next offer."""
    core = FakeCore()
    core.now_offered[256] = [device_offer(tmp_path, IMAGE)]

    def device(client: DdiClient) -> None:
        client.artifact()
        core.now_offered[256] = [device_offer(tmp_path, IMAGE + b"2", version="1.2.0", job=8)]
        links = client.poll()
        assert "deploymentBase" not in links
        asked = json.loads(client.ask(links["cancelAction"])[1])
        assert asked["cancelAction"] == {"stopId": "7"}
        assert client.ask(links["cancelAction"].replace("/7", "/8"))[0] == 404
        assert client.feedback(links["cancelAction"], "closed", "success") == 200
        assert client.poll()["deploymentBase"].endswith("/8")

    serve(tmp_path, core, device)


def test_a_real_core_logs_a_claim_only_after_the_success(tmp_path: Path) -> None:
    """A success reported before the download is refused; a success after the download is logged as a claim."""
    new = release_facts(tmp_path, "1.1.0")
    policy = GroupPolicy(delivery=DeliveryPolicy(pauses=()))

    async def main() -> None:
        async with gateway_core(
            tmp_path, site_facts([known_device(256), known_device(257)], new), policy=policy
        ) as one:
            await _update(one, tmp_path, new.release.sha256)

    asyncio.run(main())


async def _update(gateway: GatewayCore, folder: Path, image: bytes) -> None:
    token = gateway.state.issue_token("ddi", [256])

    def device(client: DdiClient) -> None:
        assert client.ask(f"{ROOT}/256")[0] == 401
        client.token = token
        assert client.ask(f"{ROOT}/257")[0] == 401
        assert client.attributes(hardware="rev-b") == 200
        assert "configData" not in client.poll()
        link = client.poll()["deploymentBase"]
        assert client.feedback(link, "closed", "success") == 400
        assert hashlib.sha256(client.ask(client.artifact()["url"])[1]).digest() == image
        assert gateway.core.state(256).stage is Stage.TRANSFER
        assert EntryKind.CLAIMED not in {one.kind for one in gateway.entries()}
        assert client.feedback(link, "closed", "success") == 200
        assert set(client.poll()) == {"configData"}  # what the device runs may have changed
        client.attributes(hardware="rev-b")
        assert not client.poll()
        links.append(link)

    def repeats(client: DdiClient) -> None:
        client.token = token
        assert client.feedback(links[0], "closed", "success") == 200
        assert client.feedback(links[0] + "1", "closed", "success") == 410

    links: list[str] = []
    await served(folder, gateway.core, device)
    await served(folder, gateway.core, repeats)  # the gateway was restarted, and its answer had been lost
    claimed = [one for one in gateway.entries() if one.kind is EntryKind.CLAIMED]
    assert [(one.device, one.image, one.level) for one in claimed] == [(256, image, EvidenceLevel.B)]
    assert {one.kind for one in gateway.entries()} == {EntryKind.CLAIMED, EntryKind.WARNING}


def test_a_device_that_names_its_image_is_believed_only_then(tmp_path: Path) -> None:
    """For a device that reports its image in its attributes, success feedback alone causes no log entry.

    After the device's restart, its attributes cause a log entry or reveal a rollback.
    """
    old, new = release_facts(tmp_path, "1.0.0"), release_facts(tmp_path, "1.1.0")

    async def main() -> None:
        async with gateway_core(tmp_path, site_facts([known_device(256), known_device(257)], old, new)) as gateway:
            token = gateway.state.issue_token("ddi", [256, 257])

            def device(client: DdiClient, number: str, runs: bytes) -> None:
                client.token, client.number = token, number
                assert client.attributes(image=old.release.sha256.hex()) == 200
                client.ask(client.artifact()["url"])
                link = client.poll()["deploymentBase"]
                assert client.feedback(link, "closed", "success") == 200
                assert gateway.core.state(int(number)).stage is Stage.TRIAL
                assert client.attributes(image=runs.hex()) == 200

            await served(tmp_path, gateway.core, lambda client: device(client, "256", new.release.sha256))
            await served(tmp_path, gateway.core, lambda client: device(client, "257", old.release.sha256))
            assert [gateway.core.state(number).stage for number in (256, 257)] == [Stage.SETTLED, Stage.STOPPED]
            claims = [(one.device, one.image) for one in gateway.entries() if one.kind is EntryKind.CLAIMED]
            before = [(number, old.release.sha256) for number in (256, 257)]
            assert sorted(claims) == sorted([*before, (256, new.release.sha256)])

    asyncio.run(main())


def test_a_success_before_the_device_starts_the_image_is_no_report(tmp_path: Path) -> None:
    """If a device reports its image in its attributes, a success starts a trial, also after a gateway restart."""
    old, new = release_facts(tmp_path, "1.0.0"), release_facts(tmp_path, "1.1.0")

    async def main() -> None:
        async with gateway_core(tmp_path, site_facts([known_device(256)], old, new)) as gateway:
            token, links = gateway.state.issue_token("ddi", [256]), list[str]()

            def begin(client: DdiClient) -> None:
                client.token = token
                assert client.attributes(image=old.release.sha256.hex()) == 200
                client.ask(client.artifact()["url"])
                links.append(client.poll()["deploymentBase"])

            def end(client: DdiClient) -> None:
                client.token = token
                assert client.feedback(links[0], "closed", "success") == 200
                assert gateway.core.state(256).stage is Stage.TRIAL
                assert client.feedback(links[0], "closed", "failure", "it does not start") == 200

            await served(tmp_path, gateway.core, begin)
            await served(tmp_path, gateway.core, end)
            assert gateway.core.state(256).stage is Stage.PAUSED
            found = [(one.kind, one.image, one.source) for one in gateway.entries()]
            claim = (EntryKind.CLAIMED, old.release.sha256, "https://firmware.acme.example")
            assert found == [claim, (EntryKind.EVENT, new.release.sha256, "it does not start")]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"listen": "0.0.0.0:8443"}, "loopback only"),
        ({"listen": "127.0.0.1:8443", "certificate": "no.pem"}, "is not a PEM file"),
        ({"poll": "5m"}, "such as 00:05:00"),
        ({"tenants": "x"}, "unknown setting 'tenants'"),
    ],
)
def test_a_wrong_setting_is_reported(tmp_path: Path, values: dict[str, Any], why: str) -> None:
    """The error for an invalid setting of the DDI face states the reason."""
    with pytest.raises(UsageError, match=why):
        DdiSettings.read(SettingsTable("gateway.ddi", values, tmp_path))
