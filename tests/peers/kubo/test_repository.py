"""A repository serves copies from a Kubo node."""

from __future__ import annotations

import base64
import io
import time
from pathlib import Path

import requests

from blockota.stores.fetch import FileDestination, FileFetch
from blockota.stores.source import Source
from tests.peers.kubo.node import Node, running_node
from tests.support.car_samples import block_addresses
from tests.support.fetch_samples import IMAGE, ROOT, SMALL, SMALL_ROOT
from tests.support.repository_process import SECRET, Running, running


def test_a_repository_serves_from_kubo(node: Node, tmp_path: Path) -> None:
    """A repository serves only the blocks of its Kubo node for which it has serving rights."""
    for data in (IMAGE, SMALL):
        node.store.put(io.BytesIO(data))
    secret = node.store.put(io.BytesIO(SECRET))
    with running(tmp_path, store=f"kubo:{node.store.url}") as repository:
        with (tmp_path / "image").open("w+b") as file:
            FileFetch(ROOT, [Source(repository.url)], size=len(IMAGE), into=FileDestination(file)).run()
        assert (tmp_path / "image").read_bytes() == IMAGE
        assert repository.get(f"/ipfs/{SMALL_ROOT}?format=raw").content == SMALL
        assert repository.get(f"/ipfs/{secret}?format=raw").status_code == 404
        assert len(repository.get("/health").json()["missing"]) == 1


def test_a_repository_answers_as_kubos_gateway(node: Node, tmp_path: Path) -> None:
    """A repository returns the same blocks as Kubo's gateway, for every scope and text form of a CID."""
    node.store.put(io.BytesIO(IMAGE))
    whole = bytes(ROOT)
    forms = [f"f{whole.hex()}", f"F{whole.hex().upper()}", f"B{str(ROOT)[1:].upper()}"]
    forms.append("u" + base64.urlsafe_b64encode(whole).decode().rstrip("="))
    with running(tmp_path) as repository:
        for scope in ("all", "entity", "block"):
            path = f"/ipfs/{ROOT}?format=car&dag-scope={scope}&entity-bytes=0:10"
            ours, theirs = repository.get(path), requests.get(f"{node.gateway}{path}", timeout=30)
            assert block_addresses(ours.content) == block_addresses(theirs.content)
        for form in forms:
            path = f"/ipfs/{form}?format=raw"
            ours, theirs = repository.get(path), requests.get(f"{node.gateway}{path}", timeout=30)
            assert (ours.status_code, ours.content) == (theirs.status_code, theirs.content)
        asked = {"Origin": "https://page.example", "Access-Control-Request-Method": "GET"}
        for url in (node.gateway, repository.url):
            answer = requests.options(f"{url}/ipfs/{ROOT}?format=raw", headers=asked, timeout=30)
            assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, "*")


def test_a_node_that_stops_is_reported_at_once(kubo: Path, tmp_path: Path) -> None:
    """If the Kubo node stops, health fails, clients receive status 503, and the access log records it."""
    (tmp_path / "node").mkdir()
    with running_node(kubo, tmp_path / "node") as node:
        node.store.put(io.BytesIO(SMALL))
        with running(tmp_path, store=f"kubo:{node.store.url}", refresh=0.2) as repository:
            assert await_health(repository, "incomplete")["files"] == 1
            node.kill()
            health = await_health(repository, "failing")
            assert "Check that `ipfs daemon` runs" in str(health["storeTrouble"])
            assert (repository.get("/health").status_code, health["files"]) == (503, 1)
            refused = repository.get(f"/ipfs/{SMALL_ROOT}?format=raw")
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "60")
            deadline = time.monotonic() + 10
            while not any(line.get("part") == "store" for line in repository.lines):
                assert time.monotonic() < deadline
                time.sleep(0.1)


def await_health(repository: Running, status: str) -> dict[str, object]:
    """Wait until the repository has this health status, and return the health response."""
    deadline = time.monotonic() + 20
    while (found := repository.get("/health").json())["status"] != status:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return dict(found)
