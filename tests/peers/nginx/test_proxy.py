"""A repository works behind nginx, which terminates TLS."""

from __future__ import annotations

import getpass
import io
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from blockota.chain.local import free_port
from blockota.repository.tokens import new_token
from blockota.stores.fetch import FileDestination, FileFetch
from blockota.stores.source import Source, Verdict
from scripts.peers import find_program
from tests.support.fetch_samples import IMAGE, ROOT, SMALL, SMALL_ROOT
from tests.support.repository_process import Running, running
from tests.support.tls import CERTIFICATE, PRIVATE_KEY

CONFIGURATION = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; user {user} {group}; worker_processes 1;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen 127.0.0.2:{port} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};
    location /firmware/ {{
      proxy_pass {upstream}/; proxy_http_version 1.1;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto https;
    }}
  }}
}}
"""
RAW = f"/ipfs/{SMALL_ROOT}?format=raw"


@dataclass(frozen=True)
class Site:
    """A repository and the nginx proxy in front of it.

    Attributes:
        repository: the repository.
        url: the URL of the repository through the proxy.
        authority: the path of the proxy's certificate.
        token: the token that the repository requires.
    """

    repository: Running
    url: str
    authority: Path
    token: str

    def get(self, path: str, **headers: str) -> requests.Response:
        """Send a request through the proxy."""
        sent = {"Authorization": f"Bearer {self.token}"} | headers
        return requests.get(self.url + path, headers=sent, verify=str(self.authority), timeout=10)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A repository that requires a token, under a path of nginx."""
    folder = tmp_path_factory.mktemp("site")
    token, line = new_token("plant-7")
    (folder / "tokens").write_text(line)
    with running(folder, proxies=["127.0.0.1"], tokens=str(folder / "tokens")) as repository:
        facts = {"user": getpass.getuser(), "group": folder.group(), "upstream": repository.url}
        facts |= {"certificate": str(CERTIFICATE), "key": str(PRIVATE_KEY)}
        (folder / "nginx.conf").write_text(CONFIGURATION.format(folder=folder, port=(port := free_port()), **facts))
        with subprocess.Popen(
            [find_program("nginx"), "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL
        ) as proxy:
            try:
                found = Site(repository, f"https://127.0.0.2:{port}/firmware", CERTIFICATE, token)
                await_answer(found)
                yield found
            finally:
                proxy.terminate()


def await_answer(site: Site) -> None:
    """Wait until the repository answers through the proxy."""
    deadline = time.monotonic() + 20
    while True:
        try:
            assert site.get("/health").status_code == 200
        except requests.ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


def test_an_image_is_fetched_through_a_proxy(site: Site) -> None:
    """An image is downloaded through nginx with TLS, a path prefix and a token.

    The download works with nginx as the only source, and with a second source.
    """
    source = Source(site.url, token=site.token, tls=ssl.create_default_context(cafile=str(site.authority)))
    direct = Source(site.repository.url, token=site.token)
    for sources in ([source], [source, direct]):
        file = io.BytesIO()
        report = FileFetch(ROOT, sources, size=len(IMAGE), into=FileDestination(file)).run()
        assert file.getvalue() == IMAGE
        assert not report.bad
        assert report.sources[0].verdict is Verdict.SERVED


def test_what_clients_and_caches_need_passes_a_proxy(site: Site) -> None:
    """Byte ranges, ETags and the refusal of a wrong token work through nginx."""
    answer = site.get(RAW, Range="bytes=10-19")
    assert (answer.status_code, answer.content) == (206, SMALL[10:20])
    etag = answer.headers["ETag"]
    assert site.get(RAW, **{"If-None-Match": etag}).status_code == 304
    refused = site.get(RAW, Authorization="Bearer wrong")
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, 'Bearer realm="repository"')


def test_the_log_has_the_client_and_not_the_proxy(site: Site) -> None:
    """The access log contains the client's address as seen by nginx, whatever the client sends."""
    before = len(site.repository.lines)
    command = ["curl", "--silent", "--fail", "--interface", "127.0.0.9", "--cacert", str(site.authority)]
    command += ["--header", f"Authorization: Bearer {site.token}", "--header", "X-Forwarded-For: 203.0.113.66"]
    assert subprocess.run([*command, site.url + RAW], check=True, capture_output=True).stdout == SMALL
    line = site.repository.line(before)
    assert (line["client"], line["holder"]) == ("127.0.0.9", "plant-7")
