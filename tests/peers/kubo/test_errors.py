"""Errors are clear for Kubo nodes that are old, stopped, full or protected, and for servers that are not Kubo."""

from __future__ import annotations

import io
import json
import socket
import subprocess
from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from blockota.errors import ContentError, StoreError, UsageError
from blockota.formats.cid import CHUNK_SIZE, CID, cid_of
from blockota.stores.kubo import KuboStore
from blockota.stores.store import open_store
from tests.peers.kubo.node import OWN_MOUNTS, Kind, Node, running_node
from tests.peers.kubo.samples import car_of, content
from tests.peers.kubo.wire import Answer, post, stranger

DATA = content("an image", 3 * CHUNK_SIZE)
CID_OF_DATA, OTHER_CID = cid_of(io.BytesIO(DATA)), cid_of(io.BytesIO(b"other"))
SECRET = "correct-horse"  # noqa: S105 - the node exists for one test
FORMS = (f"bearer:{SECRET}", f"basic:vendor:{SECRET}", "basic:" + b64encode(f"vendor:{SECRET}".encode()).decode())
AUTHORIZATIONS = {
    "ci": {"AuthSecret": f"bearer:{SECRET}", "AllowedPaths": ["/api/v0"]},
    "vendor": {"AuthSecret": f"basic:vendor:{SECRET}", "AllowedPaths": ["/api/v0"]},
    "reader": {"AuthSecret": "bearer:reader", "AllowedPaths": ["/api/v0/version", "/api/v0/block/stat"]},
}
TINY_DISK = "mkdir -p blocks && mount -t tmpfs -o size=6m tmpfs blocks"
NEW = json.dumps({"Version": "0.43.1"}).encode()


@pytest.fixture(scope="module")
def guarded_node(kubo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A Kubo node whose API requires authorization."""
    with running_node(
        kubo, tmp_path_factory.mktemp("guarded"), kind=Kind(config={"API.Authorizations": AUTHORIZATIONS})
    ) as node:
        yield node


@pytest.mark.parametrize("secret", FORMS, ids=["bearer", "basic", "base64"])
def test_an_authorization_opens_the_api(
    guarded_node: Node, secret: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The authorization secret in the environment is accepted in every form, and .netrc is ignored."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login mallory password nothing")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BLOCKOTA_KUBO_AUTHORIZATION", secret)
    assert open_store(f"kubo:{guarded_node.api}").put(io.BytesIO(DATA)) == CID_OF_DATA


@pytest.mark.parametrize("secret", ["", "bearer:wrong", "basic:vendor:wrong"], ids=["none", "bearer", "basic"])
def test_without_it_the_node_refuses(guarded_node: Node, secret: str) -> None:
    """The error for a missing or wrong secret contains the variable's name, but not the secret."""
    with pytest.raises(StoreError, match="Set BLOCKOTA_KUBO_AUTHORIZATION") as caught:
        KuboStore(guarded_node.api, authorization=secret).put(io.BytesIO(DATA))
    assert "status 403" in caught.value.why
    assert "wrong" not in str(caught.value)


def test_an_authorization_may_be_narrow(guarded_node: Node) -> None:
    """With a read-only secret the first write fails with an error."""
    reader = KuboStore(guarded_node.api, authorization="bearer:reader")
    assert not reader.has(cid_of(io.BytesIO(b"an unknown file")))
    with pytest.raises(StoreError, match="does not allow this request"):
        reader.put(io.BytesIO(DATA))


@pytest.mark.parametrize(
    "text", [SECRET, f"basic:{SECRET}", f"bearer: {SECRET}", f"digest:a:{SECRET}", f"bearer:ä{SECRET}\n"], ids=range(5)
)
def test_an_authorization_has_a_form(text: str) -> None:
    """A malformed authorization secret is refused without a request, and does not appear in the error."""
    with pytest.raises(UsageError, match="BLOCKOTA_KUBO_AUTHORIZATION") as caught:
        KuboStore("http://127.0.0.1:5001", authorization=text)
    assert SECRET not in str(caught.value)


def test_a_stopped_node_is_named() -> None:
    """The error for a stopped Kubo node contains its address and the command that starts it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(StoreError, match=f"{port} could not store the file: Connection refused. Check that `ipfs dae"):
        KuboStore(f"http://127.0.0.1:{port}").put(io.BytesIO(DATA))


def test_a_node_may_stop_in_the_midst(kubo: Path, tmp_path: Path) -> None:
    """A Kubo node that stops during an upload or a download is reported."""
    with running_node(kubo, tmp_path) as node:
        store = node.store
        with pytest.raises(StoreError, match="could not store the file"):
            store.put(io.BytesIO(DATA), on_progress=lambda _: node.kill())
    with pytest.raises(StoreError, match="could not read"):
        next(store.open(CID_OF_DATA))


def test_a_silent_node_is_given_up() -> None:
    """A Kubo node that accepts the connection but sends nothing causes a timeout error."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(StoreError, match=r"could not look for .*: the node did not respond in time. .*missing blocks"),
    ):
        KuboStore(f"http://127.0.0.1:{server.getsockname()[1]}", timeout=0.2).has(CID_OF_DATA)


def test_a_search_on_the_network_is_limited(kubo: Path, tmp_path: Path) -> None:
    """A timeout limits how long an online Kubo node searches the network for a block."""
    with running_node(kubo, tmp_path, kind=Kind(is_online=True)) as node:
        store = KuboStore(node.api, timeout=0.5)
        assert not store.has(CID_OF_DATA)
        with pytest.raises(StoreError, match=r"could not read .*does not have all blocks"):
            next(store.open(CID_OF_DATA))
        with pytest.raises(StoreError, match=r"could not read .*missing blocks"):
            next(store.search(CID_OF_DATA))
        with pytest.raises(StoreError, match=r"could not pin .*does not have all blocks"):
            store.pin(CID_OF_DATA)


def test_a_full_disk_is_reported(kubo: Path, tmp_path: Path) -> None:
    """A full disk of the Kubo node is reported with a remedy, and stored files remain readable."""
    if subprocess.run([*OWN_MOUNTS, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system does not allow mounting a small disk in a namespace")
    with running_node(kubo, tmp_path, kind=Kind(before=TINY_DISK)) as node:
        small = node.store.put(io.BytesIO(b"fits"))
        with pytest.raises(StoreError, match=r"could not store the file: the node is full: .*no space left") as caught:
            node.store.put(io.BytesIO(content("too large", 8 << 20)))
        assert "ipfs repo gc" in caught.value.remedy
        assert b"".join(node.store.open(small)) == b"fits"


def test_storage_max_is_not_a_limit(kubo: Path, tmp_path: Path) -> None:
    """A Kubo node stores more than its setting ``Datastore.StorageMax``."""
    with running_node(kubo, tmp_path, kind=Kind(config={"Datastore.StorageMax": "1MB"})) as node:
        assert b"".join(node.store.open(node.store.put(io.BytesIO(DATA)))) == DATA


def test_the_gateway_is_not_the_api(node: Node) -> None:
    """If the store's URL is the node's gateway, the error requests the address of the RPC API."""
    with pytest.raises(StoreError, match=r"is not the RPC API of a Kubo node: the status is 404. Use .*Addresses.API"):
        KuboStore(node.gateway).put(io.BytesIO(DATA))


STRANGERS: Mapping[str, Answer] = {
    "a web page": Answer(200, b"<html>Welcome!</html>", "text/html"),
    "nothing": Answer(200, b""),
    "two answers": Answer(200, NEW + b"\n" + NEW),
    "a list": Answer(200, b"[]"),
    "a word": Answer(200, b'"0.43.1"'),
    "no version": Answer(200, b'{"version": "0.43.1"}'),
    "a number": Answer(200, b'{"Version": 43}'),
    "a name": Answer(200, b'{"Version": "newest"}'),
    "no UTF-8": Answer(200, b'{"Version": "\xff"}'),
    "an error page": Answer(502, b"<html>Bad Gateway</html>", "text/html"),
    "no method": Answer(405, b"405 - Method Not Allowed", "text/plain"),
}


@pytest.mark.parametrize("what", STRANGERS)
def test_something_else_is_not_kubo(what: str) -> None:
    """A server that is not a Kubo node is refused with an error that states this reason."""
    with (
        stranger({"version": STRANGERS[what]}) as url,
        pytest.raises(StoreError, match="is not the RPC API of a Kubo node"),
    ):
        KuboStore(url).has(CID_OF_DATA)


@pytest.mark.parametrize("version", ["0.4.23", "0.22.0", "0.39.0", "0.39.0-rc1"])
def test_an_old_node_is_refused(version: str) -> None:
    """A Kubo node that is too old is refused with its version and the required version."""
    answer = Answer(200, json.dumps({"Version": version}).encode())
    with (
        stranger({"version": answer}) as url,
        pytest.raises(StoreError, match=f"too old: .* version is {version}, but 0.40 or newer is needed. Update"),
    ):
        KuboStore(url).put(io.BytesIO(DATA))


@pytest.mark.parametrize("version", ["0.40.0", "0.44.0-dev", "1.0.0"])
def test_a_new_node_is_taken(version: str) -> None:
    """Any Kubo version from 0.40 on is accepted."""
    answers = {"version": Answer(200, json.dumps({"Version": version}).encode()), "block/stat": ABSENT}
    with stranger(answers) as url:
        assert not KuboStore(url).has(CID_OF_DATA)


ABSENT = Answer(500, json.dumps({"Message": "ipld: could not find it", "Code": 0, "Type": "error"}).encode())
"""Kubo's response for a block that the node does not have."""
UNKNOWN_ANSWERS: list[object] = [{}, {"Root": None}, {"Root": {"Cid": {}}}, [], "done"]


def imported(cid: CID, *, pin_error: str = "") -> object:
    """Return Kubo's response to an import."""
    return {"Root": {"Cid": {"/": str(cid)}, "PinErrorMsg": pin_error}}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (imported(OTHER_CID), f"stored another file: its root is {OTHER_CID}"),
        # Kubo reports a failed pin with status 200.
        (imported(CID_OF_DATA, pin_error="the pinner is closed"), "did not pin it: the pinner is closed. Run `ipfs p"),
        *((answer, "is not the RPC API of a Kubo node") for answer in UNKNOWN_ANSWERS),
    ],
    ids=["another root", "failed pin", "empty", "no root", "no CID", "list", "text"],
)
def test_a_wrong_answer_to_an_import_is_an_error(answer: object, message: str) -> None:
    """An import that returns another root, a failed pin or an unknown response raises an error."""
    response = Answer(200, json.dumps(answer).encode())
    answers = {"version": Answer(200, NEW), "block/get": ABSENT, "dag/import": response}
    with stranger(answers) as url, pytest.raises(StoreError, match=message):
        KuboStore(url).put(io.BytesIO(DATA))


def test_redirects_are_not_followed(node: Node) -> None:
    """A redirect of the Kubo API is reported as an error, and not followed."""
    with stranger({"version": Answer(307, b"", location=f"{node.api}/api/v0/version")}) as url:
        assert post(f"{node.api}/api/v0/version").status == 200
        with pytest.raises(StoreError, match="the status is 307"):
            KuboStore(url).has(CID_OF_DATA)


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:5001", "ftp://127.0.0.1:5001", "http://", "http://:5001", "http://[::1", "http://a:b"]
)
def test_an_address_has_a_form(url: str) -> None:
    """An invalid URL of a Kubo node is refused without a request."""
    with pytest.raises(UsageError, match="not the URL of a Kubo node"):
        KuboStore(url)


@pytest.mark.parametrize("url", [f"http://vendor:{SECRET}@127.0.0.1:5001", f"http://{SECRET}@127.0.0.1:5001"])
def test_a_secret_does_not_stand_in_a_url(url: str) -> None:
    """A URL that contains a secret is refused, and the error does not repeat the secret."""
    with pytest.raises(UsageError, match="BLOCKOTA_KUBO_AUTHORIZATION") as caught:
        open_store(f"kubo:{url}")
    assert SECRET not in str(caught.value)


def test_addresses_of_every_kind(node: Node) -> None:
    """The URL of a Kubo node may contain a host name, an IP address or a path prefix."""
    port = node.api.rpartition(":")[2]
    assert not KuboStore(f"http://localhost:{port}").has(cid_of(io.BytesIO(b"by name")))
    with pytest.raises(StoreError, match="not the RPC API"):
        KuboStore(f"http://127.0.0.1:{port}/behind/a/proxy").has(CID_OF_DATA)


def test_a_lying_node_is_refused() -> None:
    """A block from the Kubo node that does not match its CID is refused."""
    car = car_of(DATA)[1].replace(DATA[:100], DATA[:99] + b"\x00")
    answers = {"version": Answer(200, NEW), "dag/export": Answer(200, car, "application/vnd.ipld.car")}
    with stranger(answers) as url, pytest.raises(ContentError, match="corrupt"):
        next(KuboStore(url).open(CID_OF_DATA))
