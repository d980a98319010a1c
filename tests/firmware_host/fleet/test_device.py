"""A simulated device verifies its downloads, polls the server, and reports unusable settings in a sentence."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from firmware_host.fleet.__main__ import main
from firmware_host.fleet.device import Conduct, FleetMember, SimulatedDevice

ROOT, ACTION, IMAGE = "/default/controller/v1/256", "/default/controller/v1/256/deploymentBase/7", b"image 1.1.0"
OLD = hashlib.sha256(b"image 1.0.0").hexdigest()
NEW = hashlib.sha256(IMAGE).hexdigest()


class DdiServer(BaseHTTPRequestHandler):
    """A server that offers one action, and records what the device sends."""

    image: ClassVar[bytes] = IMAGE
    sent: ClassVar[list[Any]] = []

    def do_GET(self) -> None:
        """Answer a poll, an action, or the request for an image."""
        links = {"deploymentBase": {"href": f"http://server{ACTION}"}, "configData": {"href": f"http://server{ROOT}"}}
        artifact = {"hashes": {"sha256": NEW}, "_links": {"download-http": {"href": "http://server/image"}}}
        answers: dict[str, Any] = {
            ROOT: {"config": {"polling": {"sleep": "01:02:03"}}, "_links": links},
            ACTION: {"id": "7", "deployment": {"chunks": [{"version": "1.1.0", "artifacts": [artifact]}]}},
        }
        self._answer(json.dumps(answers[self.path]).encode() if self.path in answers else self.image)

    def do_PUT(self) -> None:
        """Record a document."""
        self.sent.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._answer(b"")

    do_POST = do_PUT  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Write nothing."""

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(image: bytes) -> Iterator[tuple[str, list[Any]]]:
    """Serve an action with an image. Yields the server's URL, and the record of what the device sent."""
    sent = list[Any]()

    class Handler(DdiServer):
        pass

    Handler.image, Handler.sent = image, sent
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/default", sent
        finally:
            server.shutdown()


def outcomes(sent: list[Any]) -> list[tuple[str, str]]:
    """Return the execution and the result of each feedback."""
    return [(one["status"]["execution"], one["status"]["result"]["finished"]) for one in sent if "status" in one]


def images(sent: list[Any]) -> list[str]:
    """Return the images that the device reported, in order."""
    return [one["data"]["blockota.image"] for one in sent if "data" in one]


def test_a_device_installs_an_image_after_its_restart() -> None:
    """The device reports its old image, downloads the new image, and reports the new image after the restart."""
    with serving(IMAGE) as (url, sent):
        device = SimulatedDevice(url, FleetMember(256, "token", OLD))
        assert 0 < device.visit() <= 3723
        assert (outcomes(sent), images(sent)) == ([("proceeding", "none")], [OLD])
        assert device.visit() == 3723
        assert (outcomes(sent)[1:], images(sent)) == ([("closed", "success")], [OLD, NEW])


def test_a_device_refuses_another_image() -> None:
    """An image with another SHA-256 is not installed."""
    with serving(b"another image") as (url, sent):
        assert SimulatedDevice(url, FleetMember(256, "token", OLD)).visit() == 3723
    assert (outcomes(sent), images(sent)) == ([("closed", "failure")], [OLD])


@pytest.mark.parametrize(
    ("conduct", "outcome", "image"),
    [
        (Conduct.BROKEN, ("closed", "failure"), OLD),
        (Conduct.FLAKY, ("closed", "failure"), OLD),
        (Conduct.REVERTING, ("closed", "success"), OLD),
        (Conduct.REFUSING, ("rejected", "failure"), OLD),
        (Conduct.LYING, ("closed", "success"), OLD),
        (Conduct.POSING, ("closed", "success"), NEW),
        (Conduct.MODIFIED, ("closed", "success"), NEW),
    ],
)
def test_exceptions_behave_as_they_are_described(conduct: Conduct, outcome: tuple[str, str], image: str) -> None:
    """For each kind of misbehaviour, the device's first try ends with the expected result and the expected image."""
    with serving(IMAGE) as (url, sent):
        device = SimulatedDevice(url, FleetMember(256, "token", OLD, conduct))
        device.visit()
        if ("proceeding", "none") in outcomes(sent):
            device.visit()
    assert outcomes(sent)[-1] == outcome
    assert (images(sent)[0] == OLD) is (conduct is not Conduct.MODIFIED)
    assert images(sent)[-1] == image


def test_a_lost_server_is_visited_again() -> None:
    """If the server does not answer, the device polls again after 5 to 10 seconds."""
    with serving(IMAGE) as (url, _):
        device = SimulatedDevice(url, FleetMember(256, "token", OLD))
    assert 5 <= device.visit() <= 10


LINE = json.dumps({"number": 256, "token": "t", "image": OLD, "conduct": "steady"})


@pytest.mark.parametrize(
    ("url", "text", "part"),
    [
        ("ftp://127.0.0.1:1", LINE, "is not the URL of a server"),
        ("http://[::1", LINE, "is not the URL of a server"),
        ("http://127.0.0.1:8443", LINE + "\n{", "line 2 of"),
        ("http://127.0.0.1:8443", "[]", "the field 'number' is missing"),
        ("http://127.0.0.1:8443", LINE.replace("steady", "idle"), "'idle' is not a valid Conduct"),
        ("http://127.0.0.1:8443", None, "cannot be read"),
    ],
)
def test_bad_input_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str, text: str | None, part: str
) -> None:
    """An unusable URL or file ends the program with status 2 and one sentence."""
    file = tmp_path / "fleet.jsonl"
    if text is not None:
        file.write_text(text)
    assert main([url, str(file)]) == 2
    error = capsys.readouterr().err
    assert part in error
    assert "Traceback" not in error
    assert main([]) == 2
