"""BlockOTA never prints the secrets in a node's URL, even if a hostile node repeats the secrets."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import IMAGES
from tests.stories.conftest import PRODUCT, Outcome, Workshop
from tests.support.networks import stand_in

SECRETS = ("k3y-in-the-path", "k3y-in-the-query", "n4me", "p4ssword")
SAFE_WORDS = ("publish", str(IMAGES / "bluepill-1.0.0.bin"), "--product", PRODUCT, "--version", "1.0.0")
COMMANDS = {
    "release list": ("release", "list"),
    "release show": ("release", "show", "--product", PRODUCT, "--version", "1.0.0"),
    "release verify": ("release", "verify", str(IMAGES / "bluepill-1.0.0.bin"), "--product", PRODUCT),
    "release fetch": ("release", "fetch", "--product", PRODUCT, "--version", "1.0.0", "-o", "image.bin"),
    "release publish": ("release", *SAFE_WORDS, "-o", "another.json"),
    "release revoke": ("release", "revoke", "--product", PRODUCT, "--version", "1.0.0", "-o", "no.json"),
    "product list": ("product", "list"),
    "contract show": ("contract", "show"),
    "contract pause": ("contract", "pause", "-o", "pause.json"),
    "safe owners": ("safe", "owners"),
    "proposal show": ("proposal", "show", "pair.json"),
    "proposal list": ("proposal", "list"),
    "proposal sign": ("proposal", "sign", "pair.json", "--key", "dev:1", "--yes"),
    "proposal simulate": ("proposal", "simulate", "pair.json"),
    "proposal execute": ("proposal", "execute", "pair.json", "--key", "dev:0"),
    "replica list": ("replica", "list"),
    "replica propose": ("replica", "propose", "--product", PRODUCT, "--version", "1.0.0", "--key", "dev:4"),
    "broker sync": ("broker", "sync", "--key", "dev:4", "--announce", "https://broker.example"),
    "transaction list": ("transaction", "list"),
    "flash": ("flash", "--product", PRODUCT, "--port", "socket://127.0.0.1:9"),
    "proposal export-view": ("proposal", "export-view", "-o", "view.json"),
    "proposal reject": ("proposal", "reject", "--nonce", "1", "-o", "no.json"),
    "repository serve": ("repository", "serve", "--listen", "127.0.0.1:0"),
}


OFF_LINE = {"proposal show"}
"""Commands that succeed without a node."""


def says(status: int, text: Callable[[str], bytes]) -> Callable[[bytes], tuple[int, bytes]]:
    """Return a node that answers every request with this status and the secrets of its URL."""
    secrets = "https://n4me:p4ssword@host/v3/k3y-in-the-path?key=k3y-in-the-query k3y-in-the-path n4me p4ssword"
    return lambda _: (status, text(secrets))


def as_error(code: int) -> Callable[[str], bytes]:
    """Return an encoder of JSON-RPC errors whose message and data are the secrets."""

    def body(secrets: str) -> bytes:
        error = {"code": code, "message": secrets, "data": secrets}
        return json.dumps({"jsonrpc": "2.0", "id": 1, "error": error}).encode()

    return body


def as_result(secrets: str) -> bytes:
    """Return a JSON-RPC result that has the secrets in place of a number or data."""
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": secrets}).encode()


ANSWERS = {
    "401": says(401, str.encode),
    "429": says(429, as_error(-32005)),
    "503": says(503, str.encode),
    "text": says(200, str.encode),
    "an error": says(200, as_error(-32000)),
    "a limit": says(200, as_error(-32005)),
    "a revert": says(200, as_error(3)),
    "a result": says(200, as_result),
}


@pytest.fixture
def vendor(workshop: Workshop) -> Workshop:
    """Return a test workshop with an unsigned proposal."""
    words = ("acme-gate", "--oem", "acme", "--chip", "0x410", "--region", "0x08000000:64K", "-o", "pair.json")
    assert workshop.run("product", "pair", *words).status == 0
    return workshop


@pytest.mark.parametrize("answer", ANSWERS)
def test_no_command_prints_a_secret_of_the_nodes_url(
    vendor: Workshop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, answer: str
) -> None:
    """No command prints a secret of the node's URL, whether as text, as JSON or in a traceback."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("blockota.chain.rpc.PAUSES", ())
    with stand_in(ANSWERS[answer]) as url:
        place = url.removeprefix("http://")
        monkeypatch.setenv("BLOCKOTA_URL", f"http://n4me:p4ssword@{place}/v3/k3y-in-the-path?key=k3y-in-the-query")
        for name, command in COMMANDS.items():
            for options in ((), ("--json",), ("--debug",)):
                outcome = vendor.run(*command, *options)
                assert outcome.status in {3, 5} or name in OFF_LINE, (name, outcome)
                assert not leaked(outcome, caplog), (name, options, leaked(outcome, caplog))
    assert Path("pair.json").exists()


def test_a_node_out_of_reach_or_with_another_scheme_is_named_without_its_secrets(
    vendor: Workshop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A URL with an unreachable host or an invalid scheme is reported without its secrets."""
    tail = "/v3/k3y-in-the-path?key=k3y-in-the-query"
    for start in ("http://n4me:p4ssword@127.0.0.1:9", "http://n4me:p4ssword@nowhere.invalid", "wss://n4me:p4ssword@x"):
        monkeypatch.setenv("BLOCKOTA_URL", start + tail)
        for options in ((), ("--json",), ("--debug",)):
            outcome = vendor.run("release", "list", *options)
            assert outcome.status
            assert not leaked(outcome, caplog), (start, options)


def leaked(outcome: Outcome, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the lines of a command's output and log that contain a secret."""
    lines = (outcome.out + outcome.err + caplog.text).splitlines()
    return [line for line in lines if any(secret in line for secret in SECRETS)]
