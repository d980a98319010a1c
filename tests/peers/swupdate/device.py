"""A Linux device with Debian's SWUpdate, and the signed .swu files that it installs."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from scripts.peers import find_program

PAYLOAD = random.Random(1).randbytes(3 << 20)  # noqa: S311 - a filler
_DESCRIPTION = """software = {{
  version = "{version}";
  hardware-compatibility: [ "1.0" ];
  files: ({{ filename = "payload.bin"; path = "{path}"; sha256 = "{digest}"; }});
}};
"""


@dataclass
class Device:
    """A Linux device with SWUpdate, in a folder.

    Attributes:
        folder: the device's files; `installed` is written by SWUpdate.
        server: URL of the DDI face.
        token: the device's token.
        authority: file with the CA certificate that the device trusts for the server; None for the system's
            certificates.
        number: the device's number.
        attributes: the attributes that the device reports.
    """

    folder: Path
    server: str
    token: str
    authority: Path | None = None
    number: int = 256
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def installed(self) -> Path:
        """The file that an update replaces."""
        return self.folder / "installed.bin"

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Run SWUpdate until the end of the ``with`` block, with further options of its client."""
        client = ["-t", "default", "-u", self.server, "-i", str(self.number), "-k", self.token]
        client += ["-p", "1", "-r", "5", "-w", "1"]
        command = [find_program("swupdate"), "-k", str(self.folder / "signer.pem"), "-m", "-v", "-H", "thermo2:1.0"]
        command += ["-u", " ".join([*client, *words])]
        (self.folder / "swupdate.cfg").write_text(self._settings())
        command += ["-f", str(self.folder / "swupdate.cfg")]
        # SWUpdate has its sockets in the temporary folder.
        environment = os.environ | {"TMPDIR": str(self.folder)}
        with (
            (self.folder / "swupdate.log").open("a") as log,
            subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log, text=True) as process,
        ):
            try:
                yield process
            finally:
                process.kill()

    def _settings(self) -> str:
        """Return the text of SWUpdate's configuration, which must have a section of global settings."""
        parts = ["globals: { verbose = true; };"]
        if self.authority:
            parts.append(f'suricatta: {{ cafile = "{self.authority}"; }};')
        if self.attributes:
            items = (f'{{ name = "{name}"; value = "{value}"; }}' for name, value in self.attributes.items())
            parts.append(f"identify: ({', '.join(items)});")
        return "\n".join(parts) + "\n"

    @property
    def log(self) -> str:
        """What SWUpdate printed."""
        return (self.folder / "swupdate.log").read_text(errors="replace")


def make_signer(folder: Path) -> None:
    """Make the certificate of the firmware's signer."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=acme", "-days", "36500"]
    command += ["-addext", "extendedKeyUsage=emailProtection", "-keyout", "signer.key", "-out", "signer.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def make_swu(folder: Path, payload: bytes, *, version: str, path: Path) -> bytes:
    """Return a signed .swu that writes a payload to a path."""
    digest = hashlib.sha256(payload).hexdigest()
    (folder / "sw-description").write_text(_DESCRIPTION.format(version=version, path=path, digest=digest))
    (folder / "payload.bin").write_bytes(payload)
    sign = ["openssl", "cms", "-sign", "-in", "sw-description", "-out", "sw-description.sig", "-signer", "signer.pem"]
    sign += ["-inkey", "signer.key", "-outform", "DER", "-nosmimecap", "-binary"]
    subprocess.run(sign, cwd=folder, check=True, capture_output=True)
    names = ("sw-description", "sw-description.sig", "payload.bin")
    files = {name: (folder / name).read_bytes() for name in names}
    return b"".join(_member(name, data) for name, data in files.items()) + _member("TRAILER!!!", b"")


def _member(name: str, data: bytes) -> bytes:
    """Return a member of a cpio archive in the format that SWUpdate requires (``newc`` with checksums)."""
    mode = 0 if name == "TRAILER!!!" else 0o100644
    numbers = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, sum(data) & 0xFFFFFFFF)
    header = b"070702" + b"".join(b"%08X" % one for one in numbers) + name.encode() + b"\0"
    return header + bytes(-len(header) % 4) + data + bytes(-len(data) % 4)
