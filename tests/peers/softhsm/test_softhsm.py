"""SoftHSM tokens contain the keys of accounts, identities and logs.

Each mistake has its own error, and the PIN is never shown.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_keys.datatypes import PrivateKey

from blockota.chain import Chain
from blockota.errors import BlockOTAError, RefusedError, UsageError
from blockota.formats.mcuboot_signature import find_signature_fault
from blockota.formats.notes import Checkpoint
from blockota.formats.public_key import read_pem
from blockota.formats.tlog import TreeHead
from blockota.keys import account_of, open_token_key
from blockota.ledger.keys import open_log_key
from scripts.peers import PACKAGES
from tests.support.networks import rpc
from tests.support.programs import program

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
PIN, OFFICER = "271828", "31415926"
SECRET = "4f3edf983ac636a65a842ce7c78d9aa706d3b113bce9c46f30d7d21715b23b1d"  # noqa: S105 - a public test key
HALF_OF_P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551 // 2
P256 = ec.derive_private_key(7, ec.SECP256R1())
ED25519 = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEYS: tuple[tuple[str, str, PrivateKeyTypes], ...] = (
    ("account", "a1", ec.derive_private_key(int(SECRET, 16), ec.SECP256K1())),
    ("identity", "a2", P256),
    ("log", "a3", ED25519),
    ("twin", "a4", P256),
    ("twin", "a5", ec.derive_private_key(8, ec.SECP256R1())),
    ("rsa", "a6", rsa.generate_private_key(65537, 2048)),
)
"""The keys of the token: label, id and private key."""


@dataclass(frozen=True)
class SoftToken:
    """SoftHSM with the token ``gateway``, which has keys, and the token ``empty``; both have the same PIN."""

    folder: Path

    def uri(self, label: str, *, place: str = "gateway", module: str = MODULE, pin: str = "&pin-source=env:P") -> str:
        """Return the URI of a key."""
        return f"pkcs11:token={place};object={label}?module-path={module}{pin}"

    def run(self, *words: str, pin: str = PIN) -> subprocess.CompletedProcess[str]:
        """Run blockota with the PIN in the environment."""
        command = [sys.executable, "-m", "blockota", *words]
        environment = os.environ | {"P": pin}
        return subprocess.run(command, env=environment, cwd=self.folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftToken]:
    """Make the tokens and import the keys. SoftHSM reads its settings only once in each process."""
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "settings").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(folder / "settings"))
        patch.setenv("P", PIN)
        for name in ("gateway", "empty"):
            softhsm("--init-token", "--free", "--label", name, "--pin", PIN, "--so-pin", OFFICER)
        for label, number, key in KEYS:
            pem = folder / f"{number}.pem"
            pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            softhsm("--import", str(pem), "--token", "gateway", "--label", label, "--id", number, "--pin", PIN)
        yield SoftToken(folder)


def softhsm(*words: str) -> None:
    """Run SoftHSM's own tool."""
    subprocess.run(["softhsm2-util", *words], check=True, capture_output=True)


def refuse_to_ask(prompt: str) -> str:
    """Fail, because no test may ask for a PIN."""
    raise AssertionError(prompt)


def test_an_account_signs_messages_and_transactions(token: SoftToken, anvil: Chain) -> None:
    """A token's account has the address of the token's key.

    The account's address is recovered from its signatures, and a node accepts its transactions.
    """
    account = account_of(token.uri("account"), is_local_chain=False, ask_password=refuse_to_ask)
    assert account.address == Account.from_key(SECRET).address
    for number in range(8):  # both recovery ids
        message = encode_defunct(text=f"message {number}")
        assert Account.recover_message(message, signature=account.sign_message(message).signature) == account.address
    legacy = {"chainId": 5, "nonce": 1, "gas": 21_000, "gasPrice": 7, "value": 3, "data": "0x"}
    signed = account.sign_transaction(legacy)  # type: ignore[arg-type]
    assert Account.recover_transaction(signed.raw_transaction) == account.address

    rpc(anvil, "anvil_setBalance", account.address, hex(10**18))
    receipt = anvil.send(account, b"\x01\x02", to=account.address)
    assert receipt.succeeded


def test_the_key_of_an_identity_signs_with_low_s(token: SoftToken) -> None:
    """Half of SoftHSM's signatures have a high s. BlockOTA returns only signatures with a low s."""
    key = open_token_key(token.uri("identity"), environment=os.environ, curve="P-256")
    point = P256.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert b"\x04" + key.public_key == point
    assert all(int.from_bytes(key.sign_digest(bytes([n]) * 32)[32:]) <= HALF_OF_P256 for n in range(20))


def test_the_key_of_a_log_signs_checkpoints(token: SoftToken) -> None:
    """A checkpoint that a token signed is valid under the log's public key."""
    signer = open_log_key(token.uri("log"), "gateway.example/7", environment=os.environ)
    assert signer.key.key == ED25519.public_key().public_bytes_raw()
    note = Checkpoint("gateway.example/7", TreeHead(0, bytes(32))).signed(signer)
    assert note.is_signed_by(signer.key)


def test_twins_are_told_apart_by_their_id(token: SoftToken) -> None:
    """If two keys have the same label, the id in the URI selects one."""
    keys = [
        open_token_key(token.uri(f"twin;id=%{number}"), environment=os.environ).public_key for number in ("A4", "A5")
    ]
    assert len(set(keys)) == 2


@pytest.mark.parametrize(
    ("uri", "error", "text"),
    [
        (lambda t: t.uri("none"), UsageError, "the key 'none' cannot be found: the token 'gateway' has 0 private keys"),
        (lambda t: t.uri("twin"), UsageError, "the key 'twin' is not the only one of this name: .* has 2 private keys"),
        (lambda t: t.uri("log", place="gone"), UsageError, "the token 'gone' cannot be found: the module has 2 tokens"),
        (lambda t: t.uri("log", module="/lib/none.so"), UsageError, "the PKCS #11 module /lib/none.so cannot be used"),
        (lambda t: t.uri("identity"), RefusedError, "secp256k1 is required, and this is a key of the curve P-256"),
        (lambda t: t.uri("rsa"), RefusedError, "secp256k1 is required, and this is another key"),
    ],
)
def test_a_key_that_cannot_be_used_is_refused(
    token: SoftToken, uri: Callable[[SoftToken], str], error: type[BlockOTAError], text: str
) -> None:
    """A missing token or key, a duplicate label, a wrong module and a key of another kind each have their own error."""
    with pytest.raises(error, match=text):
        account_of(uri(token), is_local_chain=False, ask_password=refuse_to_ask)


def test_commands_take_the_uri(token: SoftToken) -> None:
    """`key address` and `key public` open a token's key. A wrong PIN is refused with status 3, and never printed."""
    done = token.run("key", "address", token.uri("account"))
    assert (done.returncode, done.stdout) == (0, f"{Account.from_key(SECRET).address}\n")
    pem = ED25519.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert token.run("key", "public", token.uri("log")).stdout == pem.decode()
    public = PrivateKey(bytes.fromhex(SECRET)).public_key.to_compressed_bytes().hex()
    assert token.run("key", "public", token.uri("account")).stdout == f"{public}\n"

    wrong = token.run("key", "address", token.uri("account"), "--debug", pin="161803")
    assert (wrong.returncode, wrong.stdout) == (3, "")
    assert "the token 'gateway' was not opened; nothing was signed: the PIN is wrong" in wrong.stderr
    assert "161803" not in wrong.stderr
    unset = token.run("key", "address", token.uri("account", pin=""))
    assert unset.returncode == 2
    assert "PIN of the token 'gateway'" in unset.stderr


def imgtool(*words: str, folder: Path) -> None:
    """Run MCUboot's imgtool."""
    subprocess.run([str(PACKAGES / "imgtool"), *words], cwd=folder, check=True, capture_output=True)


def unsigned_image(token: SoftToken, name: str, *words: str) -> None:
    """Make an unsigned image with imgtool."""
    (token.folder / "app.bin").write_bytes(program(0x4200))
    sizes = ("--header-size", "0x200", "--pad-header", "--slot-size", "0x8000", "--align", "4", "--version", "1.4.0")
    imgtool("sign", *sizes, *words, "app.bin", name, folder=token.folder)


def test_a_token_signs_an_image(token: SoftToken) -> None:
    """An image that a token signed is verified by imgtool, and by BlockOTA with the token's public key."""
    unsigned_image(token, "unsigned.bin", "--security-counter", "3")
    assert token.run("key", "public", token.uri("identity"), "-o", "image.pem").returncode == 0
    words = ("key", "sign-image", "unsigned.bin", "--key", token.uri("identity"))
    done = token.run(*words, "-o", "signed.bin")
    assert done.returncode == 0, done.stderr
    imgtool("verify", "-k", "image.pem", "signed.bin", folder=token.folder)
    key = read_pem((token.folder / "image.pem").read_text())
    assert find_signature_fault((token.folder / "signed.bin").read_bytes(), key) == ""

    again = token.run("key", "sign-image", "signed.bin", "--key", token.uri("identity"), "-o", "again.bin")
    assert (again.returncode, "the image cannot be signed: it is signed already" in again.stderr) == (3, True)
    kept = token.run(*words, "-o", "signed.bin")
    assert (kept.returncode, "signed.bin already exists" in kept.stderr) == (2, True)
    assert not (token.folder / "again.bin").exists()


@pytest.mark.parametrize(
    ("label", "pin", "status", "why"),
    [
        ("account", PIN, 3, "a key of the curve P-256 is required, and this is a key of the curve secp256k1"),
        ("identity", "161803", 3, "the PIN is wrong"),
        ("none", PIN, 2, "the key 'none' cannot be found"),
        ("", PIN, 2, "it is not in a PKCS #11 token"),
    ],
)
def test_a_key_that_cannot_sign_an_image(token: SoftToken, label: str, pin: str, status: int, why: str) -> None:
    """A key of another curve, a wrong PIN and a key in a file are refused, and no file is written."""
    unsigned_image(token, "other.bin")
    uri = token.uri(label) if label else "keystore:image.json"
    failed = token.run("key", "sign-image", "other.bin", "--key", uri, "-o", "failed.bin", pin=pin)
    assert (failed.returncode, failed.stdout) == (status, "")
    assert why in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (token.folder / "failed.bin").exists()
