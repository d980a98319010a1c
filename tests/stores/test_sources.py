"""Tests of sources of blocks: allowed addresses, bearer tokens, certificates, and HTTP."""

from __future__ import annotations

import contextlib
import socket
import ssl
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from typing import Any

import h11
import pytest

from blockota.errors import UsageError
from blockota.stores.gateway import TrustlessClient, is_depth_first
from blockota.stores.http import Endpoint, allowed_endpoints, is_public, resolve, translated
from blockota.stores.source import Source, SourceError, Verdict
from tests.support.fetch_samples import LIMITS, SMALL, SMALL_BLOCKS, SMALL_ROOT, read_small
from tests.support.hostile_gateway import Handler, honest, redirects_to, serving, stalls
from tests.support.tls import LOCALHOST
from tests.support.waiting import DEADLINE


@pytest.mark.parametrize(
    "text",
    [
        *(
            "127.0.0.1",
            "127.8.8.8",
            "10.0.0.1",
            "172.16.5.5",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            str(IPv4Address(0)),
        ),
        *("224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fd00::1", "ff02::1", "::ffff:127.0.0.1"),
        *("::ffff:192.168.1.1", "2002:7f00:1::", "2002:c0a8:101::1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "192.0.2.1"),
        *("64:ff9b:1::1", "fec0::1", "::127.0.0.1", "::8.8.8.8", "3fff::1", "5f00::1", "100:0:0:1::1", "2001:db8::1"),
        *("2001:0:7f00:1::1", "::ffff:0:127.0.0.1", "4000::1", "198.18.0.1", "192.0.0.9", "192.88.99.1", "240.0.0.1"),
    ],
)
def test_private_addresses_are_known(text: str) -> None:
    """Loopback, private, link-local and reserved addresses are not public, even if embedded in IPv6 addresses."""
    assert not is_public(ip_address(text))


@pytest.mark.parametrize(
    "text", ["1.1.1.1", "2606:4700:4700::1111", "2a00::1", "2002:808:808::", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses_are_known(text: str) -> None:
    """Public addresses are recognised, even if they are embedded in IPv6 addresses."""
    assert is_public(ip_address(text))


def test_a_redirect_leads_to_public_addresses_or_to_the_source() -> None:
    """A gateway on this machine may redirect to this machine; a public gateway may not."""
    loopback, public = resolve("127.0.0.1", 80)[0], resolve("1.1.1.1", 80)[0]
    assert allowed_endpoints([loopback, public], own=[]) == [public]
    assert allowed_endpoints([loopback, public], own=[loopback.address]) == [loopback, public]
    assert isinstance(loopback, Endpoint)


def test_a_redirect_to_the_same_address_is_followed() -> None:
    """A redirect to another port of the same IP address is followed. Kubo redirects requests to its subdomains."""
    with serving(SMALL_BLOCKS) as there, serving({}) as here:
        here.vice = redirects_to(there.url + "{path}")
        here.blocks = SMALL_BLOCKS
        assert read_small(Source(here.url)) == SMALL
    assert not there.refused


@pytest.mark.parametrize(
    "path", ["http://127.0.0.2:80{path}", "//127.0.0.2{path}", "http://[::1]:80{path}", "http://0.0.0.0{path}"]
)
def test_a_redirect_into_our_machine_is_refused(path: str) -> None:
    """A redirect to another address of this machine is refused, in every spelling of the address."""
    with (
        serving(SMALL_BLOCKS, redirects_to(path)) as gateway,
        pytest.raises(SourceError, match="redirects to") as caught,
    ):
        read_small(Source(gateway.url))
    assert caught.value.verdict == Verdict.REFUSED


def test_a_second_address_of_the_source_s_name_is_not_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirect is followed to the source's connected address, but not to other addresses of its DNS name."""
    original = socket.getaddrinfo

    def lying(host: str, *words: Any, **more: Any) -> Any:
        hosts = ["127.0.0.2", "127.0.0.1"] if host == "gateway.example" else [host]
        return [found for host in hosts for found in original(host, *words, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", lying)
    with serving(SMALL_BLOCKS) as victim, serving(SMALL_BLOCKS, host="127.0.0.2") as gateway:
        gateway.vice = redirects_to(victim.url + "{path}")
        gateway.url = gateway.url.replace("127.0.0.2", "gateway.example")
        with pytest.raises(SourceError, match=r"redirects to 127\.0\.0\.1, which is in a private network"):
            read_small(Source(gateway.url))
    assert not victim.asked


SPELLINGS = ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "2130706433", "0x7f.1", "127.1", "0"]


@pytest.mark.parametrize("host", SPELLINGS)
def test_no_spelling_of_our_machine_leads_there(host: str) -> None:
    """A foreign source's redirect to this machine is refused, by name, by embedded IPv4 address and by number."""
    with serving(SMALL_BLOCKS) as victim, serving(SMALL_BLOCKS, host="127.0.0.2") as gateway:
        gateway.vice = redirects_to(f"http://{host}:{victim.url.rpartition(':')[2]}{{path}}")
        with pytest.raises(SourceError, match="in a private network or this machine") as caught:
            read_small(Source(gateway.url))
    assert caught.value.verdict is Verdict.REFUSED
    assert not victim.asked


@pytest.mark.parametrize("location", ["", "ftp://127.0.0.1/", "http://user@127.0.0.1/", "http://127.0.0.1:99999/"])
def test_a_redirect_to_nowhere_is_refused(location: str) -> None:
    """A redirect is refused if its location is missing, or has another scheme, a user name or an invalid port."""
    with serving(SMALL_BLOCKS, redirects_to(location)) as gateway, pytest.raises(SourceError, match="redirects"):
        read_small(Source(gateway.url))


def test_a_path_in_front_is_kept() -> None:
    """The path of a source's URL is part of each request."""
    with serving(SMALL_BLOCKS) as gateway:
        assert read_small(Source(gateway.url + "/sub/")) == SMALL
    assert list(gateway.asked) == [f"/sub/ipfs/{SMALL_ROOT}?format=raw"]


def test_a_token_is_sent_to_its_source_only() -> None:
    """A bearer token is sent to its source, but not after a redirect, and is never printed."""
    with serving(SMALL_BLOCKS, token="secret") as gateway, serving(SMALL_BLOCKS) as here:  # noqa: S106
        assert read_small(Source(gateway.url, token="secret")) == SMALL  # noqa: S106
        with pytest.raises(SourceError, match="status 401"):
            read_small(Source(gateway.url, token="other"))  # noqa: S106
        here.vice = redirects_to(gateway.url + "{path}")
        with pytest.raises(SourceError, match="status 401"):
            read_small(Source(here.url, token="secret"))  # noqa: S106
    assert "secret" not in repr(Source(gateway.url, token="secret"))  # noqa: S106


def test_a_certificate_is_checked() -> None:
    """A certificate is accepted if its authority is configured and its host name matches; others are refused."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(LOCALHOST)
    with serving(SMALL_BLOCKS, tls=server) as gateway:
        with pytest.raises(SourceError, match="certificate cannot be verified") as caught:
            read_small(Source(gateway.url))
        assert caught.value.verdict == Verdict.REFUSED
        known = ssl.create_default_context(cafile=str(LOCALHOST))
        assert read_small(Source(gateway.url, tls=known)) == SMALL
        with pytest.raises(SourceError, match="certificate cannot be verified"):
            read_small(Source(gateway.url.replace("localhost", "127.0.0.1"), tls=known))


def test_tls_is_never_given_up() -> None:
    """A redirect from https to http is refused."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(LOCALHOST)
    known = ssl.create_default_context(cafile=str(LOCALHOST))
    with (
        serving(SMALL_BLOCKS) as plain,
        serving(SMALL_BLOCKS, redirects_to(plain.url + "{path}"), tls=server) as gateway,
    ):
        source = Source(gateway.url, tls=known)
        with pytest.raises(SourceError, match="which is not followed"):
            read_small(source)
    assert not plain.asked


def test_a_plain_server_in_the_place_of_tls_is_reported() -> None:
    """The error for a plain HTTP server at an https URL has a readable TLS reason, without a C source location."""
    with serving(SMALL_BLOCKS, honest) as gateway, pytest.raises(SourceError, match=r"TLS: [a-z ]+") as caught:
        read_small(Source(gateway.url.replace("http:", "https:")))
    assert caught.value.verdict is Verdict.FAILED
    assert "_ssl.c" not in str(caught.value)


def test_a_name_that_leads_nowhere_is_gone() -> None:
    """A host name that cannot be resolved raises a `SourceError` with the reason."""
    with pytest.raises(SourceError, match="its name cannot be resolved"):
        read_small(Source("http://nowhere.invalid"))


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "host",
            "ftp://host",
            "https://",
            "https://user:password@host",
            "https://host?query",
            "https://host#part",
            "https://host/?",
            "https://host/#",
            "https://host/x?#",
        ),
        *(
            "https://host:0",
            "https://host:99999",
            "https://ho st",
            "https://host/\r\nX: y",
            "https://[::1",
            "https://höst",
        ),
    ],
)
def test_an_invalid_gateway_url_is_refused(url: str) -> None:
    """An invalid gateway URL is refused when the `Source` is created, not when the URL is requested."""
    with pytest.raises(UsageError, match="is not the URL of a gateway"):
        Source(url)


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("broker.example", "does not begin with https:// or http://"),
        ("ftp://host", "does not begin with https:// or http://"),
        ("https://me:geheim@host", "a user name"),
        ("https://host?a=geheim", "a query or a fragment"),
        ("https://höst", "characters outside ASCII"),
        ("https://ho st", "a space or a control character"),
        ("https://host:99999", "the host or the port is not valid"),
        ("https://", "the host or the port is not valid"),
    ],
)
def test_the_fault_of_a_url_is_named_without_its_secrets(url: str, fault: str) -> None:
    """The error for an invalid URL describes the fault and does not print parts of the URL that may be secret."""
    with pytest.raises(UsageError, match=fault) as caught:
        Source(url)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://host", "host"),
        ("http://host:80/", "host"),
        ("https://host:80", "host:80"),
        ("http://[::1]:8080", "[::1]:8080"),
    ],
)
def test_the_host_header_is_as_it_should_be(url: str, authority: str) -> None:
    """The Host header omits the default port, and has IPv6 addresses in brackets."""
    assert Source(url).origin.authority == authority


def test_hints_before_the_answer_are_passed_over() -> None:
    """Interim responses, such as 102 and 103 (RFC 8297), are skipped."""

    def vice(handler: Handler, data: bytes) -> None:
        hints = b"Link: </style.css>; rel=preload\r\n\r\n"
        handler.body(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n" + hints
        )
        honest(handler, data)

    with serving(SMALL_BLOCKS, vice) as gateway:
        assert read_small(Source(gateway.url)) == SMALL


@pytest.mark.parametrize(
    ("size", "why"),
    [
        *((size, "chunk") for size in ("-1", "+5", "5_0", " 5", "", "0x5", "1" * 21, "\u0665", "5\x0b")),
        ("1" * 17, "larger than the"),
    ],
)
def test_a_chunk_of_an_invalid_or_absurd_size_is_refused(size: str, why: str) -> None:
    """A chunk size that is too large, or has other characters than hexadecimal digits (RFC 9112, 7.1), is refused."""

    def vice(handler: Handler, data: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.body(f"{size}\r\n".encode() + data)
        with contextlib.suppress(OSError):
            while True:
                handler.body(bytes(1 << 16))

    with serving(SMALL_BLOCKS, vice) as gateway, pytest.raises(SourceError, match=why):
        read_small(Source(gateway.url))


@pytest.mark.parametrize("form", ["{:x}", "{:X}", "{:016x}", "{:x};name=value", "{:x} "])
def test_a_chunk_s_size_may_have_extensions(form: str) -> None:
    """Chunk extensions are ignored (RFC 9112, section 7.1)."""

    def vice(handler: Handler, data: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.body(form.format(len(data)).encode() + b"\r\n" + data + b"\r\n0\r\n\r\n")

    with serving(SMALL_BLOCKS, vice) as gateway:
        assert read_small(Source(gateway.url)) == SMALL


@pytest.mark.parametrize(
    ("count", "size", "why"), [(101, 10, "more than 100 header fields"), (1, 1 << 17, "buffer too long")]
)
def test_the_number_and_size_of_header_fields_are_limited(count: int, size: int, why: str) -> None:
    """A response with more than 100 header fields, or with more than 64 KiB of header, is refused."""

    def vice(handler: Handler, data: bytes) -> None:
        handler.head(len(data), **{f"X_Padding_{number}": "x" * size for number in range(count)})
        handler.body(data)

    with serving(SMALL_BLOCKS, vice) as gateway, pytest.raises(SourceError, match=why):
        read_small(Source(gateway.url))


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (TimeoutError(), Verdict.STALLED),
        (ssl.SSLCertVerificationError(), Verdict.REFUSED),
        (socket.gaierror(), Verdict.FAILED),
        (ConnectionResetError(), Verdict.FAILED),
        (h11.LocalProtocolError("?"), Verdict.FAILED),
        (h11.RemoteProtocolError("?"), Verdict.FAILED),
        (UnicodeError(), Verdict.FAILED),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_exception_of_sockets_tls_and_http_is_translated(error: Exception, verdict: Verdict) -> None:
    """Every exception of sockets, TLS and HTTP is translated to a `SourceError` with a verdict."""
    if isinstance(error, ssl.SSLCertVerificationError):
        error.verify_message = "expired"
    with pytest.raises(SourceError) as caught, translated(Source("https://host")):
        raise error
    assert caught.value.verdict is verdict


def test_a_source_may_take_so_long_in_total() -> None:
    """A source is abandoned if its requests take too long in total, even if each single response is fast enough."""

    def answers_twice(handler: Handler, data: bytes) -> None:
        (honest if handler.gateway.asked.total() < 3 else stalls)(handler, data)

    limits = replace(LIMITS, silence=DEADLINE, grace=DEADLINE, total=1.0)
    with (
        serving(SMALL_BLOCKS, answers_twice) as gateway,
        TrustlessClient(Source(gateway.url), limits) as client,
        pytest.raises(SourceError, match="too slow"),
    ):
        list(map(client.block, [SMALL_ROOT] * 3))


@pytest.mark.parametrize(
    ("content_type", "is_it"),
    [
        ("application/vnd.ipld.car; version=1; order=dfs; dups=y", True),
        ('application/vnd.ipld.car;order="dfs";version=1', True),
        ("application/vnd.ipld.car", False),
        ("application/vnd.ipld.car; version=1; order=unk", False),
        ("application/vnd.ipld.car; version=2; order=dfs", False),
        ("text/html", False),
        ("", False),
    ],
)
def test_only_a_promised_order_counts(content_type: str, *, is_it: bool) -> None:
    """A CAR is read only if its Content-Type announces version 1 and depth-first order."""
    assert is_depth_first(content_type) is is_it
