"""Secrets in configured URLs, such as API keys and passwords, are hidden in output."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockota.url_secrets import PrivateUrl, shown_url, without_secrets

URL = "https://vendor:pass%21word@node.example:8443/v3/0123456789abcdef?token=tell-no-one#frag-ment"


def test_scheme_host_and_port_are_shown() -> None:
    """Only the scheme, host and port of a configured URL are shown."""
    assert PrivateUrl(URL).place == "https://node.example:8443"
    assert PrivateUrl("http://127.0.0.1:8545").place == "http://127.0.0.1:8545"
    assert PrivateUrl("https://[::1]:8545/key").place == "https://[::1]:8545"


@pytest.mark.parametrize(
    "text",
    [
        f"cannot open {URL}",
        "project 0123456789abcdef is over its limit",
        "no route for /v3/0123456789abcdef?token=tell-no-one",
        "vendor may not do that",
        "wrong password pass!word or pass%21word",
        "Authorization: Basic dmVuZG9yOnBhc3Mhd29yZA==",
        "token tell-no-one is unknown",
        "#frag-ment",
    ],
)
def test_what_a_server_repeats_is_hidden(text: str) -> None:
    """If a server's message contains a configured URL, its path, query, fragment, user and password are hidden."""
    hidden = PrivateUrl(URL).hide_in(text)
    for secret in ("0123456789abcdef", "tell-no-one", "pass!word", "pass%21", "vendor", "frag-ment", "dmVuZG9y"):
        assert secret not in hidden
    assert "…" in hidden


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (URL, "https://node.example:8443/…"),
        ("vendor:pass@node.example/abcdef", "node.example/…"),
        ("htp//vendor:pass@node.example/abcdef", "htp/…"),
        ("http:/vendor:pass@node.example", "http:/…"),
        ("https://vendor:pa/ss@node.example", "https://…/…"),
        ("vendor:pass@node.example?to=https://x", "node.example/…"),
        ("https://[::1]:8545/abcdef", "https://[::1]:8545/…"),
        ("depot", "depot"),
    ],
)
def test_a_mistyped_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    """The secrets of a mistyped URL, such as a URL without a scheme, are hidden as well."""
    assert shown_url(url) == shown


def test_other_words_stay() -> None:
    """Short parts of a URL, such as `v3`, and text without secrets are not hidden."""
    assert PrivateUrl("http://127.0.0.1:8545").hide_in("nothing / is hidden") == "nothing / is hidden"
    assert PrivateUrl("https://node.example/v3/abcdef").hide_in("v3 is old") == "v3 is old"


@given(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=4), st.text(), st.text())
def test_a_path_is_never_left(secret: str, before: str, after: str) -> None:
    """The path of a URL is hidden in a message, whatever text surrounds the path."""
    assert (
        secret
        not in PrivateUrl(f"https://node.example/{secret}").hide_in(f"{before}…{secret}…{after}")[
            len(before) : -len(after) or None
        ]
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"GET {URL}: refused", "GET https://node.example:8443/…: refused"),
        ("('https://vendor:pass@node.example')", "('https://node.example')"),
        ("<https://node.example?key=0123456789>.", "<https://node.example/…>."),
        ("http://127.0.0.1:8545, http://[::1]:8545/", "http://127.0.0.1:8545, http://[::1]:8545"),
        ("Max retries exceeded with url: /v3/0123 (Caused by", "Max retries exceeded with url: … (Caused by"),
    ],
)
def test_a_foreign_text_is_shown_without_secrets(text: str, shown: str) -> None:
    """In any text, the path, the query and the credentials of each URL are hidden, in every combination."""
    assert without_secrets(text) == shown
