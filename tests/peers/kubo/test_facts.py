"""Kubo behaves as the store assumes, and as docs/broker.md describes."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from blockota.formats.car import read_car
from blockota.formats.cid import CHUNK_SIZE, CID, RAW, cid_of
from blockota.stores.store import read_whole
from tests.peers.kubo.node import Kind, Node, running_node
from tests.peers.kubo.samples import SIZES, car_of, content, padded
from tests.peers.kubo.wire import get, post

EXPLICIT = ("--cid-version=1", "--raw-leaves", "--chunker=size-1048576", "--max-file-links=1024", "--hash=sha2-256")
ODD_IMPORT = {
    "Import.CidVersion": 0,
    "Import.UnixFSRawLeaves": False,
    "Import.UnixFSChunker": "size-65536",
    "Import.UnixFSFileMaxLinks": 7,
}
WHOLE = 1 << 26
"""A size in bytes that no file in these tests exceeds."""


@pytest.fixture(scope="module")
def odd_node(kubo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A Kubo node whose import settings produce other DAGs than BlockOTA."""
    with running_node(kubo, tmp_path_factory.mktemp("odd"), kind=Kind(config=ODD_IMPORT)) as node:
        yield node


@pytest.fixture(scope="module")
def profiled_node(kubo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A Kubo node with the profile that docs/broker.md recommends."""
    with running_node(kubo, tmp_path_factory.mktemp("profiled"), kind=Kind(profile="unixfs-v1-2025")) as node:
        yield node


@pytest.mark.parametrize("shape", SIZES)
def test_imports_pin_the_root(node: Node, shape: str) -> None:
    """Importing our CAR, with blocks of 1 MiB, pins its root recursively."""
    data = content(f"imported {shape}", SIZES[shape])
    root, car = car_of(data)
    answer = json.loads(node.ipfs("dag", "import", "--enc=json", data=car))
    assert answer == {"Root": {"Cid": {"/": str(root)}, "PinErrorMsg": ""}}
    assert node.pins()[str(root)] == "recursive"


def test_a_failed_pin_is_a_success_on_the_wire(node: Node) -> None:
    """Kubo reports a failed pin only in the field PinErrorMsg of a successful response."""
    root, car = car_of(content("never sent", 2 * CHUNK_SIZE))
    answer = json.loads(node.ipfs("dag", "import", "--enc=json", data=car[: 1 + car[0]]))
    assert answer["Root"]["Cid"]["/"] == str(root)
    assert "could not find" in answer["Root"]["PinErrorMsg"]


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("settings", ["new", "odd"])
def test_explicit_options_give_our_address(request: pytest.FixtureRequest, settings: str, shape: str) -> None:
    """``ipfs add`` with explicit options computes BlockOTA's CID, whatever the node's import settings are."""
    node: Node = request.getfixturevalue({"new": "node", "odd": "odd_node"}[settings])
    data = content(f"added {shape}", SIZES[shape])
    assert node.ipfs("add", "-Q", *EXPLICIT, data=data).strip() == str(cid_of(io.BytesIO(data)))


@pytest.mark.parametrize("shape", SIZES)
def test_the_profile_gives_our_address(profiled_node: Node, shape: str) -> None:
    """With the profile unixfs-v1-2025, ``ipfs add`` without options computes BlockOTA's CID."""
    data = content(f"profiled {shape}", SIZES[shape])
    assert profiled_node.ipfs("add", "-Q", data=data).strip() == str(cid_of(io.BytesIO(data)))


def test_defaults_give_another_address(node: Node) -> None:
    """Without a profile, ``ipfs add`` computes our CID only with ``--cid-version=1``, and only up to 256 KiB."""
    small, large = content("small", 256 << 10), content("large", (256 << 10) + 1)
    assert node.ipfs("add", "-Q", data=small).startswith("Qm")
    assert node.ipfs("add", "-Q", "--cid-version=1", data=small).strip() == str(cid_of(io.BytesIO(small)))
    assert node.ipfs("add", "-Q", "--cid-version=1", data=large).strip() != str(cid_of(io.BytesIO(large)))


def test_settings_do_not_touch_what_we_push(odd_node: Node) -> None:
    """Files that BlockOTA uploads have our CID, whatever the node's import settings are."""
    data = content("pushed", 3 * CHUNK_SIZE)
    assert odd_node.store.put(io.BytesIO(data)) == cid_of(io.BytesIO(data))


def test_pythons_booleans_are_accepted(node: Node) -> None:
    """Kubo accepts the parameter value ``True``, and refuses a text that is not a boolean."""
    cid = node.store.put(io.BytesIO(b"booleans"))
    assert post(f"{node.api}/api/v0/block/stat?arg={cid}&offline=True").status == 200
    refused = post(f"{node.api}/api/v0/block/stat?arg={cid}&offline=Ja")
    assert refused.status == 400
    assert b"could not convert" in refused.body


@pytest.mark.parametrize("command", ["cat", "dag/export"])
def test_an_error_in_the_midst_is_a_trailer(node: Node, command: str) -> None:
    """If a block is missing, Kubo ends a response with status 200 early and puts the error into a trailer."""
    data = content(f"hole for {command}", 4 * CHUNK_SIZE)
    cid = node.store.put(io.BytesIO(data))
    node.store.unpin(cid)
    node.ipfs("block", "rm", str(CID.of(RAW, data[2 * CHUNK_SIZE : 3 * CHUNK_SIZE])))
    answer = post(f"{node.api}/api/v0/{command}?arg={cid}")
    assert answer.status == 200
    assert len(answer.body) < 3 * CHUNK_SIZE
    assert answer.trailer.startswith("X-Stream-Error: ")


def test_export_is_depth_first_without_repetition(node: Node) -> None:
    """The output of ``dag/export`` equals our CAR with ``dups=n``, depth first and with each block once."""
    data = padded("exported")
    cid = node.store.put(io.BytesIO(data))
    assert post(f"{node.api}/api/v0/dag/export?arg={cid}").body == car_of(data, repeat=False)[1]


@pytest.mark.parametrize("repeats", [True, False], ids=["dups", "no-dups"])
def test_the_gateway_names_its_order(node: Node, repeats: bool) -> None:  # noqa: FBT001 - a parametrized value
    """Kubo's gateway serves the CAR that the Accept header requests, and its headers confirm the order."""
    data = padded("served")
    cid = node.store.put(io.BytesIO(data))
    wanted = f"application/vnd.ipld.car; version=1; order=dfs; dups={'y' if repeats else 'n'}"
    headers, body = get(f"{node.gateway}/ipfs/{cid}?dag-scope=entity", accept=wanted)
    assert headers["Content-Type"] == wanted
    assert headers["X-Ipfs-Roots"] == str(cid)
    assert headers["Content-Length"] is None
    assert body == car_of(data, repeat=repeats)[1]


def test_the_gateway_serves_blocks(node: Node) -> None:
    """Kubo's gateway serves one block for ``?format=raw``, with its length and an ETag."""
    data = content("a raw block", 64 << 10)
    cid = node.store.put(io.BytesIO(data))
    headers, body = get(f"{node.gateway}/ipfs/{cid}?format=raw")
    assert headers["Content-Type"] == "application/vnd.ipld.raw"
    assert headers["Content-Length"] == str(len(data))
    assert headers["ETag"] == f'"{cid}.raw"'
    assert hashlib.sha256(body).digest() == cid.digest


def test_a_car_of_the_gateway_is_read(node: Node) -> None:
    """Our CAR reader verifies the default CAR of Kubo's gateway."""
    data = padded("read back")
    cid = node.store.put(io.BytesIO(data))
    _, body = get(f"{node.gateway}/ipfs/{cid}?format=car")
    blocks = read_car([body], cid, size=WHOLE, earlier=node.store.read_block)
    assert b"".join(block.data for block in blocks if block.cid.codec == RAW) == data


def test_what_add_stores_is_read(node: Node) -> None:
    """The store reads a file that ``ipfs add`` stored with explicit options."""
    data = content("added by hand", 3 * CHUNK_SIZE)
    node.ipfs("add", "-Q", *EXPLICIT, data=data)
    assert read_whole(node.store, cid_of(io.BytesIO(data)), size=len(data)) == data
