"""A vendor's or broker's repository serves exactly the files that the chain allows."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import socket
import time
from pathlib import Path

import pytest

from blockota.bindings.block_ota import revoke_call
from blockota.bindings.replication import ReplicationContract, decision_call
from blockota.broker.agreements import find_agreement
from blockota.formats.cid import CID, RAW, cid_of
from blockota.model.release import Version
from blockota.stores.local import LocalStore
from blockota.vendor.propose import Reason
from blockota.vendor.propose import propose as propose_to_safe
from tests.conftest import IMAGES
from tests.stories.conftest import PRODUCT, Workshop, execute_signed
from tests.stories.repositories import CAR, serving
from tests.stories.test_bad_input import USAGE, refused
from tests.stories.test_replication import propose
from tests.support.car_samples import unpack_car
from tests.support.networks import rpc
from tests.support.tls import CERTIFICATE, LOCKED_KEY, OTHER_CERTIFICATE

SECRET = b"a release of another vendor, or one that was never published"


@pytest.fixture
def stocked(workshop: Workshop) -> Workshop:
    """Return a test workshop whose store has two releases and a file that is not a release."""
    return workshop.after(stock)


def stock(workshop: Workshop) -> None:
    """Publish two releases, and store a file that is not a release."""
    for version in ("1.0.0", "1.1.0"):
        workshop.publish(version, image(version))
    LocalStore(workshop.folder / ".blockota" / "store").put(io.BytesIO(SECRET))


def image(version: str) -> Path:
    """Return the path of a release's image file."""
    return IMAGES / f"bluepill-{version}.bin"


def address(version: str) -> CID:
    """Return the CID of a release's image."""
    with image(version).open("rb") as file:
        return cid_of(file)


def decide(workshop: Workshop, decision: str, number: int = 1) -> None:
    """Have the Safe accept, decline or terminate an agreement."""
    deployed = json.loads((workshop.folder / "deployments" / "1337.json").read_text())
    replication = ReplicationContract(workshop.chain, deployed["replication"])
    call = decision_call(decision, find_agreement(replication, number))
    reason = Reason("a story", int(time.time()), 3600)
    proposal = propose_to_safe(workshop.contract, call, reason=reason, target=replication.address)
    execute_signed(proposal, workshop.chain, cast=workshop.cast)


def test_a_vendor_serves_its_releases_and_nothing_else(stocked: Workshop) -> None:
    """A vendor's repository serves its releases, and no other file in its store."""
    with serving(stocked.folder) as served:
        for version in ("1.0.0", "1.1.0"):
            assert served.block(address(version)).content == image(version).read_bytes()
        secret = CID(RAW, hashlib.sha256(SECRET).digest())
        answer = served.block(secret)
        assert (answer.status_code, SECRET in answer.content) == (404, False)
        assert "not yet known here: the file does not belong to a release that this" in answer.text


def test_a_revoked_release_is_gone(stocked: Workshop) -> None:
    """A repository answers requests for a revoked release with status 410, and still serves other releases."""
    with serving(stocked.folder) as served:
        assert served.block(address("1.0.0")).status_code == 200
        stocked.decide(revoke_call(PRODUCT, Version(1, 0, 0), reason="recalled"))
        served.await_status(address("1.0.0"), 410)
        assert served.block(address("1.1.0")).status_code == 200


def test_a_broker_serves_what_it_has_agreed_to(stocked: Workshop) -> None:
    """A broker's repository serves a release only while its agreement is accepted."""
    broker = stocked.cast.broker.address
    with serving(stocked.folder, "--as", "broker", "--broker", broker) as served:
        assert propose(stocked).status == 0
        assert served.block(address("1.0.0")).status_code == 404
        decide(stocked, "accept")
        served.await_status(address("1.0.0"), 200)
        assert served.block(address("1.1.0")).status_code == 404
        decide(stocked, "terminate")
        served.await_status(address("1.0.0"), 410)


def test_an_expired_agreement_serves_nothing(stocked: Workshop) -> None:
    """A broker's repository stops serving a release when the agreement expires, without a transaction."""
    words = ("replica", "propose", "--product", PRODUCT, "--version", "1.0.0", "--expires-in", "30m", "--key", "dev:4")
    assert stocked.run(*words).status == 0
    decide(stocked, "accept")
    with serving(stocked.folder, "--as", "broker", "--broker", stocked.cast.broker.address) as served:
        assert served.block(address("1.0.0")).status_code == 200
        rpc(stocked.chain, "evm_increaseTime", 1801)
        rpc(stocked.chain, "evm_mine")
        served.await_status(address("1.0.0"), 410)


def test_an_image_comes_as_a_car(stocked: Workshop) -> None:
    """A repository serves a release's image as a CAR file, from which the image can be verified."""
    with serving(stocked.folder) as served:
        answer = served.get(f"/ipfs/{address('1.0.0')}?format=car", headers=CAR)
        assert answer.headers["Content-Type"] == "application/vnd.ipld.car; version=1; order=dfs; dups=y"
        assert int(answer.headers["Content-Length"]) == len(answer.content)
        parts = unpack_car([answer.content], address("1.0.0"), size=1 << 20)
        assert b"".join(parts) == image("1.0.0").read_bytes()


def test_a_manifest_is_served_with_its_release(workshop: Workshop) -> None:
    """A repository serves a release's manifest, and answers with status 410 after the release is revoked."""
    words = ("--product", PRODUCT, "--version", "1.0.0", "--metadata", "build=7", "-o", "1.0.0.json")
    assert workshop.run("release", "publish", str(image("1.0.0")), *words).status == 0
    for key in ("dev:1", "dev:2"):
        assert workshop.run("proposal", "sign", "1.0.0.json", "--key", key, "--yes").status == 0
    assert workshop.run("proposal", "execute", "1.0.0.json", "--key", "dev:0").status == 0
    release = workshop.contract.latest(PRODUCT)
    assert release
    manifest = workshop.contract.manifest_address(release)
    with serving(workshop.folder) as served:
        assert served.block(manifest).json()["metadata"] == {"build": "7"}
        workshop.decide(revoke_call(PRODUCT, Version(1, 0, 0), reason="recalled"))
        served.await_status(manifest, 410)


def test_an_operators_mistakes_are_refused(workshop: Workshop) -> None:
    """Each mistake in a ``repository`` command is refused with its own error before anything is served."""
    LocalStore(Path(".blockota/store")).put(io.BytesIO(SECRET))
    run, serve = workshop.run, ("repository", "serve", ".blockota/store")
    refused(run(*serve, "--listen", "nowhere"), USAGE, "HOST:PORT")
    foreign = run(*serve, "--listen", "192.0.2.1:80")
    refused(foreign, USAGE, "192.0.2.1 port 80: Cannot assign requested address. Choose an address of this computer")
    taken = workshop.chain.url.removeprefix("http://")
    refused(run(*serve, "--listen", taken), USAGE, "Address already in use. ", "choose another", "ss -ltnp")
    refused(run(*serve, "--as", "broker"), USAGE, "Pass both, or neither")
    first = ("--as", "broker", "--broker", workshop.cast.broker.address)
    refused(
        run("repository", "serve", *first, "--store", "file:copies"), USAGE, "`blockota broker sync`, which creates"
    )
    refused(run(*serve, "--access-log", "missing/log"), USAGE, "access log")
    refused(run(*serve, "--proxy-headers", "127.0.0.1,*"), USAGE, "'*' is not a proxy")
    refused(run("repository", "token", "two words"), USAGE, "cannot name a token")
    token = run("repository", "token", "plant-7", "--json").json
    assert token["line"] == f"plant-7 {hashlib.sha256(token['token'].encode()).hexdigest()}"
    Path("tokens").write_text("plant-7")
    refused(run(*serve, "--tokens", "tokens"), USAGE, "line 1")


@pytest.mark.parametrize(
    ("store", "status", "sentence"),
    [
        ("https://gateway.example", USAGE, "belongs to another repository or to a gateway"),
        ("nowhere", USAGE, "the folder does not exist"),
        ("n" * 300, USAGE, "the folder does not exist"),
        ("blockota.toml", USAGE, "it is not a folder"),
        ("kubo:http://127.0.0.1:9", 5, "Connection refused. Check that `ipfs daemon` runs"),
    ],
    ids=["gateway", "missing", "too long", "file", "stopped"],
)
def test_a_store_that_cannot_be_served_is_reported_at_the_start(
    workshop: Workshop, store: str, status: int, sentence: str
) -> None:
    """``repository serve`` does not start on a store that is missing, unreachable or unsuitable."""
    refused(workshop.run("repository", "serve", store, "--listen", "127.0.0.1:0"), status, sentence)


def test_a_port_that_only_root_may_use_names_the_right(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a normal user cannot listen on port 443, the error names the capability that a service needs."""
    Path(".blockota/store").mkdir(parents=True)

    def deny(*_: object, **__: object) -> socket.socket:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "create_server", deny)
    outcome = workshop.run("repository", "serve", ".blockota/store", "--listen", "127.0.0.1:443")
    refused(outcome, USAGE, "cannot listen on 127.0.0.1 port 443: Permission denied.", "CAP_NET_BIND_SERVICE")


def test_an_unusable_certificate_is_reported(workshop: Workshop) -> None:
    """An unusable TLS certificate or key is refused with an error that names the file and the reason."""
    for name, file in (("one", CERTIFICATE), ("two", OTHER_CERTIFICATE)):
        Path(f"{name}.pem").write_bytes(file.read_bytes())
        Path(f"{name}.key").write_bytes(file.with_suffix(".key").read_bytes())
    Path("locked.key").write_bytes(LOCKED_KEY.read_bytes())
    Path("broken.pem").write_text(Path("one.pem").read_text().replace("MII", "MIX"))
    for certificate, key, sentence in (
        ("one.pem", "two.key", "they do not belong together"),
        ("one.key", "one.pem", "one.key cannot be used: the file does not contain a PEM block with the certificate"),
        (
            "one.pem",
            "two.pem",
            "two.pem cannot be used: the file does not contain a PEM block with the unencrypted private key",
        ),
        (
            "one.pem",
            "locked.key",
            "locked.key cannot be used: the file does not contain a PEM block with the unencrypted private key",
        ),
        ("broken.pem", "one.key", "broken.pem and one.key cannot be used: OpenSSL reports"),
        ("missing.pem", "one.key", "missing.pem cannot be read: No such file"),
        (".", "one.key", ". is not a regular file"),
    ):
        words = ["--certificate", certificate, "--private-key", key]
        refused(workshop.run("repository", "serve", ".", *words), USAGE, sentence)
    refused(workshop.run("repository", "serve", ".", "--certificate", "one.pem"), USAGE, "--private-key")


def test_reasons_why_clients_are_not_served_are_reported(workshop: Workshop) -> None:
    """``repository serve`` prints a warning if no release may be served yet.

    An empty file of tokens causes a warning too.
    """
    Path(".blockota/store").mkdir(parents=True)
    Path("tokens").touch()
    broker = workshop.cast.broker.address
    with serving(workshop.folder, "--as", "broker", "--broker", broker, "--tokens", "tokens") as served:
        served.stop()
        printed = served.process.errors
    assert f"Nothing may be served yet: {broker} has no accepted agreement that is still valid." in printed
    assert "No client is accepted yet: the file of tokens is empty." in printed
    workshop.publish("1.0.0", image("1.0.0"))
    LocalStore(Path(".blockota/store")).remove_block(address("1.0.0"))
    with serving(workshop.folder) as served:
        served.stop()
        assert f"{PRODUCT} 1.0.0 is not served yet: the store" in served.process.errors


def test_a_release_is_served_when_the_settings_believe_it(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository serves a release only after the confirmations that the settings require."""
    stock(workshop)  # not from a saved chain, of which anvil lacks the state of older blocks
    newest = workshop.chain.head().number
    with Path("blockota.toml").open("a") as file:
        file.write("confirmations = 4\n")
    rpc(workshop.chain, "anvil_mine", hex(3))
    with serving(workshop.folder) as served:
        assert (served.get("/health").json()["chainBlock"], served.block(address("1.1.0")).status_code) == (
            newest - 1,
            404,
        )
        assert served.block(address("1.0.0")).status_code == 200
        rpc(workshop.chain, "anvil_mine", hex(1))
        served.await_status(address("1.1.0"), 200)
        rpc(workshop.chain, "anvil_reorg", 5, [])
        rpc(workshop.chain, "anvil_mine", hex(1))
        served.await_status(address("1.1.0"), 404)
        assert served.block(address("1.0.0")).status_code == 200
    monkeypatch.setenv("BLOCKOTA_FIRST_BLOCK", str(newest + 2))
    outcome = workshop.run("repository", "serve", ".blockota/store", "--listen", "127.0.0.1:0")
    refused(outcome, 5, f"first block is {newest + 2}", "when 4 blocks follow it")


def test_without_the_chain_nothing_is_served(workshop: Workshop) -> None:
    """``repository serve`` does not start if the chain is unreachable."""
    Path("blockota.toml").write_text('[networks.local]\nurl = "http://127.0.0.1:9"\n')
    outcome = workshop.run("repository", "serve", ".blockota/store", "--listen", "127.0.0.1:0")
    refused(outcome, 5, "127.0.0.1:9")
