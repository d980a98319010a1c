"""Keys in a PKCS #11 token: a hardware security module, a smart card, or SoftHSM.

Source: RFC 7512. A URI names the module, the token, the key and the place of the PIN::

    pkcs11:token=gateway;object=log?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=env:GATEWAY_PIN

The attribute ``object`` (a label) or ``id`` names the key, and ``token`` (a label) or ``serial`` names the token. The
PIN is in an environment variable (``env:NAME``) or in the first line of a file (``file:PATH``). Without ``pin-source``,
the operator is asked for the PIN. Private keys never leave the token.

The library python-pkcs11 is optional, so `blockota.keys` imports this module only for a ``pkcs11:`` URI.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

import pkcs11
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from pkcs11 import Attribute, Mechanism, ObjectClass, PKCS11Error, TokenFlag, UserAlreadyLoggedIn, exceptions

from blockota.errors import RefusedError, UsageError
from blockota.files import home_path, read_input

_PATH_ATTRIBUTES = {"token", "serial", "model", "manufacturer", "object", "id", "type"}
_QUERY_ATTRIBUTES = {"module-path", "pin-source"}
_EXAMPLE = "pkcs11:token=NAME;object=NAME?module-path=FILE&pin-source=env:NAME"
_VARIABLE = re.compile(r"[A-Za-z_]\w{0,79}", re.ASCII)
_MAX_PIN_FILE = 4096
_OTHERS = 0o077
"""The permission bits of group and others."""
_WORD = 32


Curve = Literal["P-256", "secp256k1", "Ed25519"]
_CURVES: dict[str, Curve] = {
    "06082a8648ce3d030107": "P-256",
    "06052b8104000a": "secp256k1",
    "06032b6570": "Ed25519",  # the OID of RFC 8410
    "130c656477617264733235353139": "Ed25519",  # the name "edwards25519" of PKCS #11 3.0
}
"""The curves by the hexadecimal value of the attribute CKA_EC_PARAMS."""
_ORDERS: dict[Curve, int] = {
    "P-256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "secp256k1": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
}
_REASONS: Mapping[type[Exception], str] = {
    exceptions.PinIncorrect: "the PIN is wrong; a token locks itself after some wrong PINs",
    exceptions.PinInvalid: "the PIN is wrong; a token locks itself after some wrong PINs",
    exceptions.PinLenRange: "the PIN is wrong: its length is not that of a PIN of this token",
    exceptions.PinLocked: "the PIN is locked after too many wrong PINs; the token's security officer sets a new one",
    exceptions.PinExpired: "the PIN has expired; set a new one with the token's own tool",
    exceptions.UserPinNotInitialized: "the token has no PIN yet; set one with the token's own tool",
    exceptions.AnotherUserAlreadyLoggedIn: "another user has logged in to the token",
    exceptions.TokenNotPresent: "the token was removed",
    exceptions.TokenNotRecognised: "the token in the slot cannot be read",
    exceptions.DeviceRemoved: "the token was removed",
    exceptions.DeviceError: "the token reports a fault",
    exceptions.FunctionRejected: "the operator refused on the token",
    exceptions.KeyTypeInconsistent: "the key is not allowed to sign in this way",
    exceptions.MechanismInvalid: "the token cannot sign with a key of this kind",
    exceptions.FunctionNotSupported: "the token cannot sign with a key of this kind",
    exceptions.UserNotLoggedIn: "the token ended the session",
    exceptions.SessionClosed: "the token ended the session",
    exceptions.SessionHandleInvalid: "the token ended the session",
    exceptions.SessionCount: "other programs use all sessions of the token",
}
"""The meaning of the errors of python-pkcs11. Other errors are reported by the name of their class."""


@dataclass(frozen=True)
class KeyName:
    """The parts of a key's URI.

    Attributes:
        path: the attributes of the token and the key, by their names in the URI.
        module: the file of the PKCS #11 module.
        pin_source: ``env:NAME`` or ``file:PATH``; empty if the operator is asked for the PIN.
    """

    path: Mapping[str, bytes]
    module: Path
    pin_source: str

    @classmethod
    def parse(cls, uri: str) -> KeyName:
        """Parse a URI.

        Errors do not repeat the URI, because it may contain a PIN by mistake.

        Raises:
            UsageError: the URI is not valid, names no token or key, or contains a PIN.
        """
        before, _, after = uri.removeprefix("pkcs11:").partition("?")
        path, query = _attributes(before.split(";")), _attributes(after.split("&"))

        if "pin-value" in {*path, *query}:
            raise UsageError(
                "the URI contains a PIN, which is not used",
                why="other users can see the command line, so this PIN is no longer secret: set a new PIN",
                remedy="name the place of the PIN: pin-source=env:NAME or pin-source=file:PATH",
            )

        why = ""
        if path.keys() - _PATH_ATTRIBUTES or query.keys() - _QUERY_ATTRIBUTES:
            known = ", ".join(sorted(_PATH_ATTRIBUTES | _QUERY_ATTRIBUTES))
            why = f"only these attributes are supported: {known}"
        elif not path.keys() & {"token", "serial"}:
            why = "it names no token"
        elif not path.keys() & {"object", "id"}:
            why = "it names no key in the token"
        elif path.get("type", b"private") != b"private":
            why = "it does not name a private key"
        elif "module-path" not in query:
            why = "it does not name the module of the token, which its manufacturer supplies"
        if why:
            raise UsageError("the PKCS #11 URI cannot be used", why=why, remedy=f"write {_EXAMPLE}")

        texts = {name: value.decode(errors="replace") for name, value in query.items()}
        return cls(path, home_path(texts["module-path"]), texts.get("pin-source", ""))

    @property
    def token(self) -> str:
        """The token, as errors name it."""
        return "the token " + self._shown("token", "serial")

    @property
    def key(self) -> str:
        """The key, as errors name it."""
        return "the key " + (self._shown("object") if "object" in self.path else f"with the id {self.path['id'].hex()}")

    def _shown(self, *names: str) -> str:
        return next(repr(self.path[name].decode(errors="replace")) for name in names if name in self.path)


class TokenKey:
    """An open key in a token. Several threads may share one key.

    Args:
        name: the parsed URI.
        pin: the PIN.
        curve: the required curve; None accepts every curve.

    Attributes:
        curve: the key's curve.
        public_key: the public key: x and y of 32 bytes each, or the 32 bytes of an Ed25519 key.

    Raises:
        UsageError: python-pkcs11 is not installed, the module cannot be loaded, the token or the key is missing, or
            several tokens or keys match the URI.
        RefusedError: the PIN is wrong or locked, or the key cannot be used.
    """

    def __init__(self, name: KeyName, pin: str, *, curve: Curve | None = None) -> None:
        # The session is not closed before the process ends: closing it would log out all keys of the token.
        self.name = name
        self._private, public = _find_key_pair(_log_in(name, pin), name)
        self.curve, self.public_key = _public_key(public, name, wanted=curve)

    def sign_digest(self, digest: bytes) -> bytes:
        """Sign a hash of 32 bytes with an ECDSA key.

        Returns:
            r and s, 32 bytes each. Two values of s are valid. The lower value of s is returned, because contracts
            refuse the higher value.

        Raises:
            RefusedError: the token did not sign, or its signature does not match the public key.
        """
        order = _ORDERS[self.curve]
        signature = self._sign(digest, Mechanism.ECDSA)
        r, s = int.from_bytes(signature[:_WORD]), int.from_bytes(signature[_WORD:])
        s = min(s, order - s)

        curve = ec.SECP256R1() if self.curve == "P-256" else ec.SECP256K1()
        try:
            public = ec.EllipticCurvePublicKey.from_encoded_point(curve, b"\x04" + self.public_key)
            public.verify(encode_dss_signature(r, s), digest, ec.ECDSA(Prehashed(SHA256())))
        except (InvalidSignature, ValueError) as error:
            raise self._unusable() from error
        return r.to_bytes(_WORD) + s.to_bytes(_WORD)

    def sign_message(self, message: bytes) -> bytes:
        """Sign a message with an Ed25519 key. Returns the 64 bytes of the signature.

        Raises:
            RefusedError: the token did not sign, or its signature does not match the public key.
        """
        signature = self._sign(message, Mechanism.EDDSA)
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, message)
        except InvalidSignature as error:
            raise self._unusable() from error
        return signature

    def _sign(self, data: bytes, mechanism: pkcs11.Mechanism) -> bytes:
        try:
            return bytes(self._private.sign(data, mechanism=mechanism))
        except PKCS11Error as error:
            raise RefusedError(f"{self.name.token} did not sign", why=_reason(error)) from error

    def _unusable(self) -> RefusedError:
        return RefusedError(
            f"the signature of {self.name.key} in {self.name.token} is not used",
            why="it does not match the public key of the same name in the token",
            remedy="name the key by its id, or store the right public key in the token",
        )


def find_pin(name: KeyName, environment: Mapping[str, str], ask: Callable[[str], str] | None) -> str:
    """Read the PIN of a token.

    Args:
        name: the URI, which names the place of the PIN.
        environment: the environment of ``pin-source=env:NAME``.
        ask: called with a prompt if the URI has no ``pin-source``. With None, a URI without a ``pin-source`` is
            refused.

    Raises:
        UsageError: the PIN cannot be found.
        RefusedError: other users can read the PIN's file.
    """
    kind, _, place = name.pin_source.partition(":")
    if not name.pin_source and ask:
        return ask(f"PIN of {name.token}: ")

    if kind == "env" and _VARIABLE.fullmatch(place):
        if place not in environment:
            why = "the environment has no variable of this name"
            raise UsageError(f"the PIN in env:{place} is not set", why=why, remedy="export the variable")
        return environment[place]
    if kind == "file" and place:
        return _pin_in_file(home_path(place))

    raise UsageError(
        "the PIN of the token cannot be found",
        why="the URI must name its place, a variable or a file",
        remedy="write pin-source=env:NAME or pin-source=file:PATH",
    )


def _attributes(parts: Iterable[str]) -> dict[str, bytes]:
    pairs = [part.partition("=") for part in parts if part]
    return {name: unquote_to_bytes(value) for name, _, value in pairs}


def _pin_in_file(path: Path) -> str:
    content = read_input(path, limit=_MAX_PIN_FILE)
    if path.stat().st_mode & _OTHERS:
        raise RefusedError(
            f"the PIN in {path} is not used",
            why="other users of this computer may read the file",
            remedy=f"run `chmod 600 {path}`, and set a new PIN if others have access to this computer",
        )
    return content.partition(b"\n")[0].strip().decode(errors="replace")


def _log_in(name: KeyName, pin: str) -> pkcs11.Session:
    try:
        library = pkcs11.lib(os.fspath(name.module))
        tokens = [slot.get_token() for slot in library.get_slots(token_present=True)]
        tokens = [token for token in tokens if TokenFlag.TOKEN_INITIALIZED in token.flags]
    except PKCS11Error as error:
        raise UsageError(
            f"the PKCS #11 module {name.module} cannot be used",
            why=str(error).removeprefix("OS exception while loading ") or _reason(error),
            remedy="correct module-path, or install the token's software",
        ) from error

    found = [token for token in tokens if _is_named(token, name.path)]
    if len(found) != 1:
        what, remedy = "cannot be found", "connect the token, or correct its name"
        if found:
            what, remedy = "is not the only one of this name", "name the token by its serial number"
        why = f"the module has {len(tokens)} tokens, and {len(found)} of them match the URI"
        raise UsageError(f"{name.token} {what}", why=why, remedy=remedy)

    try:
        try:
            return found[0].open(user_pin=pin)
        except UserAlreadyLoggedIn:  # for another key of this process
            return found[0].open()
    except PKCS11Error as error:
        raise RefusedError(f"{name.token} was not opened; nothing was signed", why=_reason(error)) from error


def _is_named(token: pkcs11.Token, path: Mapping[str, bytes]) -> bool:
    values: dict[str, Any] = {"token": token.label, "serial": token.serial}
    values |= {"model": token.model, "manufacturer": token.manufacturer_id}
    raw = {name: value if isinstance(value, bytes) else value.encode() for name, value in values.items()}
    return all(raw[name].rstrip(b" \0") == path[name] for name in raw.keys() & path.keys())


def _find_key_pair(session: pkcs11.Session, name: KeyName) -> tuple[Any, Any]:
    """Find the private key, and the public key with the same id."""
    wanted: dict[Attribute, Any] = {}
    if "object" in name.path:
        wanted[Attribute.LABEL] = name.path["object"].decode(errors="replace")
    if "id" in name.path:
        wanted[Attribute.ID] = name.path["id"]

    try:
        private: list[Any] = list(session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, **wanted}))
        if len(private) != 1:
            found, remedy = "cannot be found", "correct its name, or make a key with the token's own tool"
            if private:
                found, remedy = "is not the only one of this name", "add the key's id to the URI"
            why = f"{name.token} has {len(private)} private keys that match the URI"
            raise UsageError(f"{name.key} {found}", why=why, remedy=remedy)
        if private[0].id:
            wanted = {Attribute.ID: private[0].id}
        public = list(session.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY, **wanted}))
    except PKCS11Error as error:
        raise RefusedError(f"{name.token} cannot be searched", why=_reason(error)) from error

    if len(public) != 1:
        raise UsageError(
            f"the public key of {name.key} cannot be found",
            why=f"{name.token} has {len(public)} public keys with the id of the private key",
            remedy="store one public key in the token, with the id of the private key",
        )
    return private[0], public[0]


def _public_key(public: Any, name: KeyName, *, wanted: Curve | None) -> tuple[Curve, bytes]:
    try:
        curve = _CURVES.get(bytes(public[Attribute.EC_PARAMS]).hex())
        point = bytes(public[Attribute.EC_POINT])
    except PKCS11Error:  # it is not a key of an elliptic curve
        curve, point = None, b""

    # The point is an OCTET STRING in DER. Some tokens omit the two bytes of its tag and length.
    size, prefix = (_WORD, b"") if curve == "Ed25519" else (1 + 2 * _WORD, b"\x04")
    point = point.removeprefix(bytes((4, size))) if len(point) == 2 + size else point
    is_usable = curve is not None and len(point) == size and point.startswith(prefix)

    if curve is None or not is_usable or wanted not in {None, curve}:
        raise RefusedError(
            f"{name.key} in {name.token} is not used",
            why=f"a key of the curve {wanted or 'P-256, secp256k1 or Ed25519'} is required, and this is "
            + (f"a key of the curve {curve}" if is_usable else "another key"),
            remedy="name another key, or make a key in the token",
        )
    return curve, point.removeprefix(prefix)


def _reason(error: PKCS11Error) -> str:
    return _REASONS.get(type(error), f"its module reports {type(error).__name__}")
