"""Sign-in with a text (EIP-4361) that an enrolled person signs with the key of an account.

The room and the command build the text independently from the same values. The text is therefore never parsed, and the
command never signs a text that a server wrote.

The room stores no unsigned texts, so a flood of requests for texts uses no storage. Each nonce ends with a MAC over the
text, by which the room recognises its own texts. A text can be used for one sign-in, within five minutes and before the
room's next restart.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from blockota.errors import AccessRefusedError
from blockota.ethereum import is_address, is_checksum_address, to_checksum_address
from blockota.operations.archive import RoomArchive

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

NONCE_TIME, TICKET_TIME, SESSION_TIME = 300, 120, 12 * 3600
"""Seconds for which a nonce, the one-time address of a sign-in, and a session are valid."""
STATEMENT = "Sign in to the operations room. This signature sends no transaction and costs no gas."
_SALT_SIZE, _MAC_SIZE, _SIGNATURE_SIZE = 16, 16, 65
_NONCE = re.compile(rf"[0-9a-f]{{{2 * (_SALT_SIZE + _MAC_SIZE)}}}", re.ASCII)
_MAX_USED = 100_000
"""The number of used nonces that are remembered. Only enrolled persons use nonces up, far fewer in five minutes."""


@dataclass(frozen=True)
class SignInText:
    """The values of a sign-in text.

    Attributes:
        url: the URL of the operations room, without a path.
        account: the address of the person's account, checksummed.
        chain_id: id of the gateway chain.
        nonce: 64 lower-case hexadecimal digits.
        issued_at: Unix time.
    """

    url: str
    account: str
    chain_id: int
    nonce: str
    issued_at: int

    def __str__(self) -> str:
        """The text of EIP-4361."""
        scheme, _, domain = self.url.partition("://")
        return "\n".join(
            (
                f"{scheme}://{domain} wants you to sign in with your Ethereum account:",
                self.account,
                "",
                STATEMENT,
                "",
                f"URI: {self.url}/sign-in",
                "Version: 1",
                f"Chain ID: {self.chain_id}",
                f"Nonce: {self.nonce}",
                f"Issued At: {_time(self.issued_at)}",
                f"Expiration Time: {_time(self.issued_at + NONCE_TIME)}",
            )
        )

    @property
    def has_nonce(self) -> bool:
        """Whether the nonce is 64 hexadecimal digits. A nonce of another form could add lines to the text."""
        return _NONCE.fullmatch(self.nonce) is not None


@dataclass(frozen=True)
class SignedIn:
    """The session of a person.

    Attributes:
        account: the address of the account.
        csrf: the token that each form of the session must send.
        since: Unix time of the sign-in.
        number: index of the sign-in in the room's log.
    """

    account: str
    csrf: str
    since: int
    number: int


class SignIns:
    """Manages sign-in texts, one-time addresses and sessions.

    The archive stores the secrets of one-time addresses and sessions only as hashes. The MAC key exists only in memory.
    After a restart, the room therefore rejects all earlier texts.

    Args:
        archive: the archive.
        url: the URL of the page.
        chain_id: id of the gateway chain.
    """

    def __init__(self, archive: RoomArchive, url: str, chain_id: int) -> None:
        self._archive, self._url, self._chain_id = archive, url, chain_id
        self._key = secrets.token_bytes(32)
        self._used: dict[str, None] = {}
        self._lock = threading.Lock()

    def challenge(self, account: str, *, now: int) -> SignInText:
        """Return a new text for an account, whose address may be in lower case.

        Raises:
            AccessRefusedError: the address is not valid.
        """
        if is_address(account) and account == account.lower():
            account = to_checksum_address(account)
        if not is_checksum_address(account):
            raise _refused(f"{account!r:.60} is not the address of an account")
        salted = self.text(account, secrets.token_hex(_SALT_SIZE), now)
        return replace(salted, nonce=salted.nonce + self._mac(salted))

    def text(self, account: str, nonce: str, issued_at: int) -> SignInText:
        """Build the sign-in text of this room from the values that a client sent."""
        return SignInText(self._url, account, self._chain_id, nonce, issued_at)

    def accept(self, text: SignInText, signature: bytes, *, now: int) -> None:
        """Verify a signed text. `give_ticket` then marks the text as used.

        Raises:
            AccessRefusedError: this room did not write the text, or wrote it before its last restart; the text is too
                old; or another account signed it.
        """
        # (1) This room wrote the text: the second half of the nonce is a MAC over the rest of the text.
        is_open = abs(now - text.issued_at) < NONCE_TIME and text.has_nonce
        salted = replace(text, nonce=text.nonce[: 2 * _SALT_SIZE])
        if not is_open or not hmac.compare_digest(text.nonce[2 * _SALT_SIZE :], self._mac(salted)):
            raise _refused("the room did not write its text since its last start, or wrote it over five minutes ago")

        # (2) The account signed the text.
        if _signer(str(text), signature) != text.account:
            raise _refused(f"the account {text.account} did not sign the text")

    def give_ticket(self, text: SignInText, signature: bytes, *, now: int) -> str:
        """Return the secret of a one-time address, which opens one session. A text is accepted for one address only.

        Raises:
            AccessRefusedError: the text was used before.
        """
        with self._lock:
            if text.nonce in self._used:
                raise _refused("its text was used before")
            self._used[text.nonce] = None
            # By number and not by age: a text in the log of the room stays used, also if the clock is set back.
            if len(self._used) > _MAX_USED:
                del self._used[next(iter(self._used))]

        ticket = secrets.token_urlsafe(24)
        with self._archive.changing() as database:
            database.execute("DELETE FROM ticket WHERE until <= ?", (now,))
            row = (_hash(ticket), text.account, str(text), signature, now + TICKET_TIME)
            database.execute("INSERT INTO ticket VALUES (?, ?, ?, ?, ?)", row)
        return ticket

    def use_ticket(self, ticket: str, *, now: int) -> tuple[str, str, bytes]:
        """Return account, text and signature of a one-time address, and delete the address.

        Raises:
            AccessRefusedError: the address was used before, or has expired.
        """
        statement = "DELETE FROM ticket WHERE hash = ? AND until > ? RETURNING account, text, signature"
        with self._archive.changing() as database:
            found = database.execute(statement, (_hash(ticket), now)).fetchone()
        if found is None:
            raise _refused("the one-time address was used before, or is older than two minutes")
        account, text, signature = found
        return account, text, signature

    def open_session(self, account: str, *, number: int, now: int) -> str:
        """Open a session, and return the secret of its cookie.

        Args:
            account: the address of the account.
            number: index of the sign-in in the room's log.
            now: Unix time.
        """
        secret = secrets.token_urlsafe(32)
        row = (_hash(secret), account, secrets.token_urlsafe(24), now, now + SESSION_TIME, number)
        with self._archive.changing() as database:
            database.execute("DELETE FROM session WHERE until <= ?", (now,))
            database.execute("INSERT INTO session VALUES (?, ?, ?, ?, ?, ?)", row)
        return secret

    def session(self, secret: str, *, now: int) -> SignedIn | None:
        """Return the session of a cookie; None if it has ended or never existed."""
        statement = "SELECT account, csrf, since, number FROM session WHERE hash = ? AND until > ?"
        found = self._archive.rows(statement, (_hash(secret), now)) if secret else []
        return SignedIn(*found[0]) if found else None

    def close_session(self, secret: str) -> None:
        """End a session."""
        with self._archive.changing() as database:
            database.execute("DELETE FROM session WHERE hash = ?", (_hash(secret),))

    def _mac(self, salted: SignInText) -> str:
        """Return the second half of a nonce: a MAC over the sign-in text with only the first half of the nonce."""
        return hmac.new(self._key, str(salted).encode("utf-8", "surrogatepass"), "sha256").hexdigest()[: 2 * _MAC_SIZE]


def sign_text(text: SignInText, account: BaseAccount) -> bytes:
    """Sign a sign-in text with an account, as a wallet does (EIP-191)."""
    from eth_account.messages import encode_defunct

    signed = account.sign_message(encode_defunct(text=str(text)))
    return bytes(signed.signature)


def _signer(text: str, signature: bytes) -> str:
    """Return the address that signed a text; empty if the bytes are not a signature."""
    from eth_account import Account
    from eth_account.messages import encode_defunct
    from eth_keys.exceptions import BadSignature
    from eth_utils.exceptions import ValidationError

    if len(signature) != _SIGNATURE_SIZE:
        return ""
    try:
        return str(Account.recover_message(encode_defunct(text=text), signature=signature))
    except (BadSignature, ValidationError, ValueError):
        return ""


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _refused(why: str) -> AccessRefusedError:
    return AccessRefusedError("the sign-in is refused", why=why, remedy="begin the sign-in again")
