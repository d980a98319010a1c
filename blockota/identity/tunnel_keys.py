"""Files with the private X25519 keys of tunnels, in base64, as ``wg genkey`` prints them."""

from __future__ import annotations

import base64
import binascii
import stat
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from blockota.errors import Action, RefusedError, UsageError
from blockota.files import write_new
from blockota.model.identity import TUNNEL_KEY_SIZE


def create_key(path: Path) -> str:
    """Create a key, and write it to a new file that only its owner can read. Returns the public key in base64.

    Raises:
        UsageError: the file exists, or cannot be written.
    """
    key = X25519PrivateKey.generate()
    try:
        write_new(path, base64.b64encode(key.private_bytes_raw()) + b"\n", mode=0o600)
    except FileExistsError as error:
        why, remedy = "it exists, and may be the key of a tunnel in use", "name a new file"
        raise UsageError(f"{path} is not overwritten", why=why, remedy=remedy) from error
    except OSError as error:
        why = error.strerror or str(error)
        raise UsageError(f"{path} cannot be written", why=why, remedy="choose a file in another folder") from error
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def read_private_key(path: Path) -> str:
    """Read a private key, in base64.

    Raises:
        UsageError: the file cannot be read, or does not contain an X25519 key in base64.
        RefusedError: other users can read the file.
    """
    try:
        mode, text = path.stat().st_mode, path.read_text("ascii").strip()
        is_key = len(base64.b64decode(text, validate=True)) == TUNNEL_KEY_SIZE
    except OSError as error:
        what, why = f"the tunnel key {path} cannot be read", error.strerror or str(error)
        raise UsageError(what, why=why, remedy="make the key", action=Action.MAKE_TUNNEL_KEY) from error
    except (UnicodeDecodeError, binascii.Error):
        is_key = False

    if not is_key:
        raise UsageError(f"{path} has no tunnel key", why="a key has 32 bytes in base64, as `wg genkey` prints it")
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        why, remedy = "other users can read it", f"run chmod 600 {path}, and make a new key if others had access"
        raise RefusedError(f"the tunnel key {path} is not secret", why=why, remedy=remedy)
    return text
