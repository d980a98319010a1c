"""BlockOTA computes the same digest of an MCUboot image as MCUboot's own program imgtool."""

from __future__ import annotations

import base64
import re
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from blockota.formats.mcuboot import image_digest, security_counter
from blockota.formats.mcuboot_signature import ENCRYPTED, find_signature_fault
from blockota.formats.public_key import PublicKey, read_pem
from blockota.model.container import Container, find_content_fault
from scripts.peers import PACKAGES
from tests.support.programs import program

SIGN = (
    *("sign", "--header-size", "0x200", "--pad-header", "--slot-size", "0x8000", "--align", "4"),
    *("--version", "1.4.0"),
)
CASES = {
    "unsigned": (),
    "signed": ("-k", "key.pem"),
    "with a floor": ("-k", "key.pem", "--security-counter", "7"),
    "padded to its slot": ("-k", "key.pem", "--pad", "--confirm"),
}


def imgtool(*words: str, folder: Path) -> str:
    """Run imgtool in a folder, and return its output; it must succeed."""
    command = [str(PACKAGES / "imgtool"), *words]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_the_digest_is_the_one_of_imgtool(tmp_path: Path, options: tuple[str, ...]) -> None:
    """An image's digest equals the output of ``imgtool verify``, and the image is accepted as an MCUboot image."""
    (tmp_path / "app.bin").write_bytes(program(0x4200, after=bytes(5000)))
    imgtool("keygen", "-k", "key.pem", "-t", "ecdsa-p256", folder=tmp_path)
    imgtool(*SIGN, *options, "app.bin", "signed.bin", folder=tmp_path)
    image = (tmp_path / "signed.bin").read_bytes()
    assert find_content_fault(Container.MCUBOOT, image) == ""
    printed = imgtool("verify", "signed.bin", folder=tmp_path)
    digest = re.search(r"Image digest: ([0-9a-f]{64})", printed)
    assert digest
    assert image_digest(image).hex() == digest[1]


SIGNED = {
    "with the hash of the key": ("-k", "key.pem"),
    "with the key in full": ("-k", "key.pem", "--public-key-format", "full"),
    "with a counter": ("-k", "key.pem", "--security-counter", "7"),
    "with a counter of its version": ("-k", "key.pem", "--security-counter", "auto"),
    "with a padded signature": ("-k", "key.pem", "--pad-sig"),
    "padded to its slot": ("-k", "key.pem", "--security-counter", "7", "--pad", "--confirm"),
    "with other protected TLVs": ("-k", "key.pem", "-s", "7", "--custom-tlv", "0xa0", "hello", "--boot-record", "app"),
    "compressed": ("-k", "key.pem", "-s", "7", "--compression", "lzma2"),
}
COUNTERS = (None, None, 7, 1 << 24 | 4 << 16, None, 7, 7, 7)
"""The counters of these images. The counter ``auto`` has the version in 8, 8 and 16 bits."""


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make keys with imgtool, and a program that compresses well."""
    folder = tmp_path_factory.mktemp("keys")
    (folder / "app.bin").write_bytes(program(0x4200, after=bytes(5000)))
    for name in ("key", "other"):
        imgtool("keygen", "-k", f"{name}.pem", "-t", "ecdsa-p256", folder=folder)
        public = imgtool("getpub", "-k", f"{name}.pem", "-e", "pem", folder=folder)
        (folder / f"{name}.pub.pem").write_text(public)
    return folder


def public_key(keys: Path, name: str = "key") -> PublicKey:
    """Parse a public key that imgtool printed."""
    return read_pem((keys / f"{name}.pub.pem").read_text())


def make_image(keys: Path, *options: str) -> bytes:
    """Make an image by imgtool."""
    imgtool(*SIGN, *options, "app.bin", "made.bin", folder=keys)
    return (keys / "made.bin").read_bytes()


@pytest.mark.parametrize(("name", "counter"), zip(SIGNED, COUNTERS, strict=True))
def test_images_of_imgtool_are_verified(keys: Path, name: str, counter: int | None) -> None:
    """An image is accepted with its signer's key, and refused with another key.

    The program imgtool verifies the same image.
    """
    image = make_image(keys, *SIGNED[name])
    assert security_counter(image) == counter
    assert find_signature_fault(image, public_key(keys)) == ""
    assert "signed with another key" in find_signature_fault(image, public_key(keys, "other"))
    imgtool("verify", "-k", "key.pem", "made.bin", folder=keys)


def test_no_changed_byte_is_accepted(keys: Path) -> None:
    """A change of any byte of an image signed by imgtool is detected, in header, program, protected and other TLVs."""
    key, image = public_key(keys), bytearray(make_image(keys, *SIGNED["with a counter"]))
    for at in range(len(image)):
        image[at] ^= 1 << at % 8
        assert find_signature_fault(bytes(image), key), f"byte {at}"
        image[at] ^= 1 << at % 8


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ((), "it is not signed"),
        (("-k", "key.pem", "-E", "other.pub.pem", "--overwrite-only"), ENCRYPTED),
    ],
    ids=("unsigned", "encrypted"),
)
def test_images_that_cannot_be_verified(keys: Path, options: tuple[str, ...], why: str) -> None:
    """The error for an unsigned or an encrypted image states why its signature cannot be verified."""
    assert find_signature_fault(make_image(keys, *options), public_key(keys)) == why


def test_an_external_signature_of_imgtool_is_verified(keys: Path) -> None:
    """A signature from another tool that ``imgtool --fix-sig`` puts into the image is verified like any other."""
    imgtool(*SIGN, "--vector-to-sign", "digest", "app.bin", "digest.bin", folder=keys)
    digest = (keys / "digest.bin").read_bytes()
    private = load_pem_private_key((keys / "key.pem").read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    signature = private.sign(digest, ec.ECDSA(Prehashed(SHA256())))
    (keys / "signature").write_bytes(base64.b64encode(signature))
    image = make_image(keys, "--fix-sig", "signature", "--fix-sig-pubkey", "key.pub.pem")
    assert image_digest(image) == digest
    assert find_signature_fault(image, public_key(keys)) == ""
