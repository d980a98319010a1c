"""A bearer token is read from an environment variable or a file, and sent to one source only."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from blockota.errors import StoreError, UsageError
from blockota.model.agreement import Agreement, AgreementStatus
from blockota.model.release import Version
from blockota.stores.gateway import RAW_TYPE
from blockota.stores.http import HttpClient, resolve
from blockota.stores.search import announced, named
from blockota.stores.source import Credentials, Source, SourceError, SourceReport, Verdict
from blockota.stores.store import open_store, read_whole
from tests.support.fetch_samples import LIMITS, SMALL, SMALL_BLOCKS, SMALL_ROOT, read_small
from tests.support.hostile_gateway import Handler, honest, redirects_to, serving

TOKEN = "a-Token_that.is~long+enough/=="  # noqa: S105 - no secret: it opens the tests' own gateways


def known(url: str, reference: str = "env:T", **variables: str) -> Credentials:
    """Return credentials with one token."""
    return Credentials({url: reference}, variables or {"T": TOKEN})


def test_a_token_comes_from_a_variable_or_a_file(tmp_path: Path) -> None:
    """A token is read from an environment variable or a file, and the white space around it is removed."""
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    with serving(SMALL_BLOCKS, token=TOKEN) as gateway:
        for credentials in (known(gateway.url), known(gateway.url, f"file:{path}"), known(gateway.url, T=f" {TOKEN} ")):
            assert read_small(credentials.source(gateway.url)) == SMALL
        assert read_whole(open_store(gateway.url, credentials=known(gateway.url)), SMALL_ROOT, size=len(SMALL)) == SMALL


@pytest.mark.parametrize(
    ("named_url", "url", "is_shown"),
    [
        ("https://host", "https://host", True),
        ("https://host/", "https://HOST:443/", True),
        ("https://host/acme", "https://host/acme/ipfs", True),
        ("https://host", "https://host/mallory", False),
        ("https://host/acme", "https://host/acme/../mallory", False),
        ("https://host/acme", "https://host/acmes", False),
        ("https://host", "https://host:8443", False),
        ("https://host", "http://host", False),
        ("https://host", "https://host.", False),
        ("https://host", "https://other", False),
    ],
    ids=range(10),
)
def test_a_token_belongs_to_one_source(named_url: str, url: str, *, is_shown: bool) -> None:
    """A token is used only for URLs with the same scheme, host, port and path."""
    assert bool(known(named_url).source(url).token) is is_shown


def test_an_announced_source_gets_the_token_of_its_address() -> None:
    """For a URL that a broker announced, a token is sent only if the settings contain a token for this URL."""
    agreements = [
        Agreement(1, "0x", "p", Version(1, 0, 0), 0, AgreementStatus.ACCEPTED, uri)
        for uri in ("https://host/ipfs", "https://host/mallory")
    ]
    found = announced(agreements, is_local_chain=False, credentials=known("https://host"))
    assert [isinstance(one, Source) and (one.token, one.public_only) for one in found] == [(TOKEN, True), ("", True)]


@pytest.mark.parametrize(
    "url", ["http://host", "http://192.168.1.5:8080", "http://[2001:db8::1]", "http://localhost.x"]
)
def test_a_token_goes_over_tls_or_to_this_machine(url: str) -> None:
    """A token for a plain HTTP URL is accepted if the host is this machine, and refused for other hosts."""
    with pytest.raises(UsageError, match=r"no token can be sent .*could read the token\. Use .*https://"):
        known(url)
    for mine in ("http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"):
        assert known(mine).source(mine).token == TOKEN


def test_a_name_of_this_machine_that_leads_elsewhere_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token is not sent unencrypted if DNS resolves ``localhost`` to an address that is not loopback."""
    elsewhere = "192.0.2.1"
    with serving(SMALL_BLOCKS) as gateway:
        url = "http://localhost:" + gateway.url.rpartition(":")[2]
        client = HttpClient(Source(url, token=TOKEN), LIMITS, resolver=lambda _, port: resolve("127.0.0.1", port))
        # Not every machine that runs the tests has an address that is not loopback.
        monkeypatch.setattr(socket.socket, "getpeername", lambda _: (elsewhere, 80))
        with pytest.raises(
            SourceError, match=f"it leads to {elsewhere}, and the token would be sent there unencrypted"
        ):
            client.has(f"/ipfs/{SMALL_ROOT}?format=raw", accept=RAW_TYPE)
        client.close()
    assert not gateway.asked


def test_a_token_is_not_kept_across_a_redirect() -> None:
    """A token is not sent after a redirect, whether to another port, to another path, or back to the source."""

    def beside(handler: Handler, data: bytes) -> None:
        (honest if handler.path.startswith("/sub") else redirects_to("/sub{path}"))(handler, data)

    with serving(SMALL_BLOCKS, token=TOKEN) as other, serving(SMALL_BLOCKS, beside) as here:
        source = known(here.url).source(here.url)
        assert read_small(source) == SMALL
        here.vice = redirects_to(other.url + "{path}")
        with pytest.raises(SourceError, match="status 401"):
            read_small(source)
        other.token, other.vice, here.vice = "", redirects_to(here.url + "/sub{path}"), beside
        assert read_small(known(other.url).source(other.url)) == SMALL
        assert (len(here.shown), len(other.shown), here.asked.total()) == (2, 1, 4)


def test_a_wrong_token_is_reported_without_its_value() -> None:
    """The error for a wrong token names the settings section ``[tokens]``, and does not contain the token."""
    with serving(SMALL_BLOCKS, token=TOKEN) as gateway:
        for source in (Source(gateway.url), Source(gateway.url, token="wrong")):  # noqa: S106
            with pytest.raises(SourceError, match=r"status 401: add a valid token to \[tokens\]") as caught:
                read_small(source)
            assert "wrong" not in str(caught.value)
            assert caught.value.verdict is Verdict.REFUSED
        with pytest.raises(StoreError, match="401"):
            read_whole(open_store(gateway.url), SMALL_ROOT, size=len(SMALL))


SECRETS = {
    "unset": ("env:UNSET", r"environment variable UNSET, which is not set"),
    "empty": ("env:EMPTY", r"environment variable EMPTY, which is not set"),
    "two words": ("env:TWO", r"env:TWO does not contain a token"),
    "a missing file": ("file:/nowhere/token", r"/nowhere/token cannot be read \(No such file"),
    "a folder": ("file:/", r"/ is not a regular file"),
    "an endless file": ("file:/dev/zero", r"/dev/zero is not a regular file"),
}


@pytest.mark.parametrize(("reference", "why"), SECRETS.values(), ids=SECRETS)
def test_a_token_that_cannot_be_read_leaves_its_source_out(reference: str, why: str) -> None:
    """A source whose token cannot be read is skipped.

    If the token of the store cannot be read, an error is raised. No token is printed.
    """
    credentials = known("https://host", reference, EMPTY=" ", TWO="secret words")
    report, other = named(["https://host", "https://other"], credentials)
    assert isinstance(report, SourceReport)
    assert isinstance(other, Source)
    with pytest.raises(UsageError, match=rf"the token for https://host cannot be read: .*{why}") as caught:
        open_store("https://host", credentials=credentials)
    assert "secret" not in f"{caught.value} {report}"


def test_nothing_prints_a_token() -> None:
    """The Python representations (`repr`) of sources, credentials and errors do not contain the token."""
    credentials = known("https://host")
    assert TOKEN not in f"{credentials!r} {credentials.source('https://host')!r}"
    with pytest.raises(UsageError, match="is not the URL of a gateway") as caught:
        Source("https://user:password@host")
    assert "password" not in str(caught.value)
