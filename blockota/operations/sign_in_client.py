"""Sign in to an operations room from a command: sign a text, and receive a one-time address.

The command builds the text itself from the room's nonce and time, and from the URL that the person entered. It signs no
other text.
"""

from __future__ import annotations

import json
import re
import time
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from blockota.errors import BlockOTAError, RefusedError, StoreError, UsageError, plain
from blockota.operations.sign_in import NONCE_TIME, SignInText, sign_text
from blockota.strict_json import integer, load_object, text

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

_TIMEOUT, _MAX_ANSWER, _MAX_WORDS = 15.0, 1 << 16, 200


def sign_in(url: str, account: BaseAccount, *, chain_id: int) -> str:
    """Sign in as an account.

    Args:
        url: the URL of the room, without a path.
        account: the account of an enrolled Operator or Administrator.
        chain_id: id of the gateway chain.

    Returns:
        The one-time address, which a browser opens within two minutes.

    Raises:
        UsageError: the URL is not valid.
        StoreError: the room does not answer.
        RefusedError: the room refuses the sign-in, or requests a signature of another text.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"{url!r:.80} is not the URL of an operations room", remedy="write https://HOST or http://HOST"
        )
    place = f"{parts.scheme}://{parts.netloc}"

    asked = _post(place, "/sign-in/text", {"account": account.address})
    try:
        wanted = SignInText(place, account.address, chain_id, text(asked, "nonce"), integer(asked, "issuedAt"))
        is_same = wanted.has_nonce and text(asked, "text") == str(wanted)
    except (KeyError, TypeError, ValueError, OverflowError, OSError) as error:
        raise _strange(place, str(error)) from error
    if not is_same:
        raise _strange(place, f"its text names another page, account or chain than {place} and chain {chain_id}")
    if abs(wanted.issued_at - time.time()) > NONCE_TIME:
        raise _strange(place, "its clock and the clock of this machine differ by more than five minutes")

    signed = {"account": wanted.account, "nonce": wanted.nonce, "issuedAt": wanted.issued_at}
    found = _post(place, "/sign-in/answer", {**signed, "signature": f"0x{sign_text(wanted, account).hex()}"})
    address, ticket = found.get("address"), rf"{re.escape(place)}/sign-in/[A-Za-z0-9_-]{{1,100}}"
    if not isinstance(address, str) or not re.fullmatch(ticket, address):
        raise _strange(place, "its one-time address belongs to another page")
    return address


def _post(place: str, path: str, fields: dict[str, Any]) -> dict[str, Any]:
    parts = urlsplit(place)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    try:
        connection = kind(parts.netloc, timeout=_TIMEOUT)
        connection.request("POST", path, json.dumps(fields), {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read(_MAX_ANSWER)
        connection.close()
    except (OSError, HTTPException) as error:
        raise StoreError(
            f"the operations room {place} is out of reach",
            why=getattr(error, "strerror", None) or str(error) or type(error).__name__,
            remedy="check the URL, and whether the room runs",
        ) from error

    if response.status == HTTPStatus.MISDIRECTED_REQUEST:  # a text names the address of the room
        raise _strange(place, plain(content.decode("utf-8", "replace").strip())[:_MAX_WORDS].rstrip("."))
    try:
        answer = load_object(content)
    except BlockOTAError as error:
        raise _strange(place, f"its answer cannot be read, because {error.why}") from error

    if response.status >= 400:  # noqa: PLR2004 - the first status of an error
        raise RefusedError(str(answer.get("what", "the sign-in is refused")), why=str(answer.get("why", "")))
    return answer


def _strange(place: str, why: str) -> RefusedError:
    return RefusedError(
        f"{place} is not this operations room", why=why, remedy="nothing was signed; compare URL and network"
    )
