"""The compared servers, each in its own process: our repository, and Debian's nginx with the plain files.

``python -m benchmarks.servers FOLDER`` starts our repository, which serves the images in the folder's store. The file
``sizes.json`` in the folder lists the images that may be served; in production, the chain determines these images.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from benchmarks.figure import ROOT
from blockota.bindings.serving_rights import Reading
from blockota.chain.local import free_port
from blockota.formats.cid import CID, DAG_PB
from blockota.model.release import Release, Status, Version
from blockota.model.rights import Claim
from blockota.repository.access_log import open_log
from blockota.repository.catalogue import Catalogue
from blockota.repository.release_site import ReleaseSite
from blockota.repository.server import Listening, serve
from blockota.stores.local import LocalStore
from scripts import install_kubo

START_SECONDS = 20.0
_NGINX = """worker_processes auto; daemon off; pid {folder}/pid; error_log {folder}/error.log; user {user} {group};
events {{ worker_connections 1024; }}
http {{
  sendfile on; tcp_nopush on; access_log {folder}/access.log; client_body_temp_path {folder}/body;
  server {{ listen 127.0.0.1:{port}; root {folder}; }}
  {tls}
}}
"""


@dataclass(frozen=True)
class Image:
    """An image that both servers have; `name` is the file's path below nginx's root."""

    name: str
    size: int
    sha256: str
    cid: CID


def filled(folder: Path, sizes: Mapping[str, int]) -> dict[str, Image]:
    """Write files with random contents into a folder and into a store; `sizes` has the size of each file by name."""
    store, images = LocalStore(folder / "store"), {}
    for name, size in sizes.items():
        data = hashlib.shake_128(name.encode()).digest(size)
        (folder / name).write_bytes(data)
        with (folder / name).open("rb") as file:
            images[name] = Image(name, size, hashlib.sha256(data).hexdigest(), store.put(file))
    # The images that the repository may serve.
    (folder / "sizes.json").write_text(json.dumps({str(image.cid): image.size for image in images.values()}))
    return images


@contextmanager
def repository(folder: Path) -> Iterator[str]:
    """Start our repository; yield its URL."""
    command = [sys.executable, "-m", "benchmarks.servers", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip() if process.stdout else ""
        finally:
            process.terminate()


@contextmanager
def nginx(folder: Path, *, certificate: Path | None = None) -> Iterator[str]:
    """Start nginx with one worker for each processor; yield its URL, which uses TLS if a certificate is given."""
    url, user = f"http://127.0.0.1:{(port := free_port())}", getpass.getuser()
    tls, secure_port = "", free_port()
    if certificate:
        keys = f"ssl_certificate {certificate}; ssl_certificate_key {certificate};"
        tls = f"server {{ listen 127.0.0.1:{secure_port} ssl; root {folder}; {keys} }}"
    settings = _NGINX.format(folder=folder, port=port, user=user, group=folder.group(), tls=tls)
    (folder / "nginx.conf").write_text(settings)
    with subprocess.Popen([nginx_program(), "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + START_SECONDS
            while True:
                try:
                    with urlopen(f"{url}/nginx.conf"):  # noqa: S310 - the URL of our own server
                        break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
            yield f"https://127.0.0.1:{secure_port}" if certificate else url
        finally:
            process.terminate()


def nginx_program() -> str:
    """Return the path of ``nginx``; exit with an error if nginx is not installed."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        sys.exit("nginx not found: install Debian's nginx-light.")
    return program


def kubo_program() -> Path:
    """Return the path of Kubo; exit with an error if Kubo is not installed."""
    program = install_kubo.find()
    if program is None:
        sys.exit("Kubo not found: build it with `make kubo`.")
    return program


def main(folder: Path) -> None:
    """Serve the images in a folder, with an access log in nginx's format."""

    def read() -> Reading:
        """Return claims for the images in ``sizes.json``, in place of claims from the chain."""
        facts: dict[str, Any] = {"load_address": 0, "active_from": 0, "chip_id": 0, "status": Status.ACTIVE}
        claims = []
        for number, (text, size) in enumerate(json.loads((folder / "sizes.json").read_text()).items()):
            cid = CID.parse(text)
            root = cid.digest if cid.codec == DAG_PB else None
            release = Release("measured", Version(1, number, 0), cid.digest, size, dag_root=root, **facts)
            claims.append(Claim(release, None))
        return Reading(1, tuple(claims))

    catalogue = Catalogue(read, LocalStore(folder / "store"))
    log = open_log(folder / "access.jsonl")
    serve(ReleaseSite(catalogue), Listening("127.0.0.1", 0), log=log, on_ready=lambda url: print(url, flush=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
