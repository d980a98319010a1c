"""The commands of BlockOTA's agent: group 64 of SMP (docs/device.md, "Commands").

SMP reserves the groups from 64 on for the vendors of programs, so another vendor's program may use group 64 for other
commands. The agent is therefore recognised by its answer to the identity command, before any other command is sent.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Self

import cbor2
from smp import error as smp_error
from smp import message
from smp.header import Header
from smpclient.exceptions import SMPValidationException

from blockota.errors import BoardError, LinkError, plain
from blockota.formats.p256 import SIGNATURE_SIZE, low_s
from blockota.gateway.faces.smp.board import SmpBoard
from blockota.model.boot_event import BootEvent, SignedBootEvent

GROUP = 64
_IDENTITY, _PATCH, _EVENTS, _SECTORS, _SESSION, _OFFER = range(6)
_NONCE_SIZE, _SERIAL_SIZE = 32, 9
_AUTHENTICATED = "authenticated"
_SECONDS = 5.0
"""Seconds for an answer with up to four signatures, each of which takes the secure element 0.1 seconds."""


class _AgentError(smp_error.ErrorV1):
    _GROUP_ID = GROUP


class _AgentFault(smp_error.ErrorV2[smp_error.MGMT_ERR]):
    _GROUP_ID = GROUP


class _AgentAnswer(message.ReadResponse):
    """An answer of the agent, with its items in one mapping.

    The items are not separate fields, because the base class of `smp` already has fields such as ``version``.
    """

    _GROUP_ID = GROUP
    items: dict[str, Any]

    @property
    def off(self) -> int | None:
        """The offset at which the board expects the next bytes of a patch; None if the answer has no offset."""
        offset = self.items.get("off")
        return offset if type(offset) is int else None

    @property
    def match(self) -> bool | None:
        """Whether the file that a patch produced has the announced SHA-256; None if the answer does not state this."""
        is_same = self.items.get("match")
        return is_same if isinstance(is_same, bool) else None

    @classmethod
    def loads(cls, data: bytes) -> Self:
        """Decode an answer. For a refusal, the validation fails, and `smp` then decodes the answer as an error."""
        items = cbor2.loads(data[Header.SIZE :])
        is_refusal = isinstance(items, dict) and ("rc" in items or "err" in items)
        header = Header.loads(data[: Header.SIZE])
        return cls.model_validate({"header": header, "items": None if is_refusal else items, "smp_data": data})


class _GroupBase:
    """The common attributes of all requests of the group."""

    _GROUP_ID = GROUP
    _Response = _AgentAnswer
    _ErrorV1 = _AgentError
    _ErrorV2 = _AgentFault


class _IdentityRequest(_GroupBase, message.ReadRequest):
    _COMMAND_ID = _IDENTITY


class _PatchRequest(_GroupBase, message.WriteRequest):
    _COMMAND_ID = _PATCH

    off: int
    data: bytes
    len: int | None = None
    size: int | None = None
    sha: bytes | None = None
    base: bytes | None = None


class _EventsRequest(_GroupBase, message.ReadRequest):
    _COMMAND_ID = _EVENTS


class _AcknowledgeRequest(_GroupBase, message.WriteRequest):
    _COMMAND_ID = _EVENTS

    number: int


class _SectorsRequest(_GroupBase, message.ReadRequest):
    _COMMAND_ID = _SECTORS

    nonce: bytes
    sectors: bytes


class _SessionRequest(_GroupBase, message.WriteRequest):
    _COMMAND_ID = _SESSION

    nonce: bytes
    id: bytes
    time: int


class _OfferRequest(_GroupBase, message.WriteRequest):
    _COMMAND_ID = _OFFER

    digest: bytes
    signature: bytes


@dataclass(frozen=True)
class AgentIdentity:
    """The facts that the agent reports about its board.

    Attributes:
        board: name of the board's kind.
        unique_id: the unique id of the board's chip.
        digest: the digest of the running image.
        proof: ``authenticated`` if the secure element verified the running image, or ``integrity only``.
    """

    board: str
    unique_id: bytes
    digest: bytes
    proof: str

    @property
    def is_authenticated(self) -> bool:
        """Whether the board uses a secure element, and therefore accepts only images that the gateway signed."""
        return self.proof == _AUTHENTICATED


@dataclass(frozen=True)
class SessionAnswer:
    """The board's answer to the opening of a session.

    Attributes:
        nonce: 32 random bytes of the secure element.
        signature: r and s, 64 bytes. It is not checked yet.
        serial: the serial number of the secure element, 9 bytes.
    """

    nonce: bytes
    signature: bytes
    serial: bytes


@dataclass(frozen=True)
class ReportedEvent:
    """An event of the board, with its signature if the board signed it.

    Attributes:
        event: the event.
        statement: the event with its signature, as `blockota.model.boot_event` encodes them; None if the event is not
            signed.
    """

    event: BootEvent
    statement: bytes | None = None

    @classmethod
    def of_items(cls, items: Any) -> Self:
        """Decode an event from the items of the board's answer. The signature is not checked.

        Raises:
            ValueError: the items do not form a valid event.
        """
        event = BootEvent.of_items(items)
        signature = items.get("signature")
        if not isinstance(signature, bytes):
            return cls(event)
        return cls(event, SignedBootEvent(event, low_s(signature)).encode())


@dataclass(frozen=True)
class PatchedFile:
    """The file that a patch produces in the second slot.

    Attributes:
        size: size of the file in bytes.
        sha256: SHA-256 of the file.
        base: SHA-256 of the file in the first slot, to which the patch is applied.
    """

    size: int
    sha256: bytes
    base: bytes


class BoardAgent:
    """The agent of a board. `find_agent` creates this object.

    Attributes:
        identity: the facts that the agent reported about its board.
    """

    def __init__(self, board: SmpBoard, identity: AgentIdentity) -> None:
        self._board, self.identity = board, identity

    async def patch(self, patch: bytes, file: PatchedFile) -> AsyncGenerator[int]:
        """Produce a file in the second slot from the running image and a patch.

        Yields the number of bytes of the patch that the board has received.

        Raises:
            LinkError: the board does not answer, its answer cannot be read, or the upload makes no progress.
            BoardError: the board does not run the patch's base image, or the patch produces another file.
        """
        first = _PatchRequest(off=0, data=b"", len=len(patch), size=file.size, sha=file.sha256, base=file.base)
        taken = 0
        try:
            async for taken in self._board.send_parts(patch, first, "take the patch"):
                yield taken
        except LinkError:
            raise
        except BoardError:
            if not taken:
                raise
            # The board has restarted and forgotten the patch: the patch is sent again from the beginning.
            async for offset in self._board.send_parts(patch, first, "take the patch"):
                yield offset

    async def events(self, *, after: int = 0) -> list[ReportedEvent]:
        """Return the oldest events that are not acknowledged, in order. The board may have further events.

        Args:
            after: the number of the last acknowledged event; 0 if this number is not known.

        Raises:
            LinkError: the board does not answer, or its answer cannot be read.
            BoardError: the board refuses the request, or its events are not valid.
        """
        answer = await self._board.ask(_EventsRequest(), "list its events", seconds=_SECONDS)
        try:
            events = [ReportedEvent.of_items(one) for one in answer.items["events"]]
        except (ValueError, LookupError, TypeError) as error:
            raise BoardError("the board's events cannot be used", why=f"they cannot be read: {error}") from error
        # Numbers that do not rise could hide a lost or repeated event.
        numbers = [after, *(one.event.number for one in events)]
        if numbers != sorted(set(numbers)):
            raise BoardError("the board's events cannot be used", why="their numbers do not rise")
        return events

    async def acknowledge(self, number: int) -> None:
        """Acknowledge the events up to a number, so that the board deletes them.

        Raises:
            LinkError: the board does not answer, or its answer cannot be read.
            BoardError: the board refuses the request.
        """
        await self._board.ask(_AcknowledgeRequest(number=number), "forget its events")

    async def sectors(self, nonce: bytes, pages: bytes) -> tuple[bytes, bytes | None]:
        """Let the board hash a nonce and flash pages; return the hash, and its MAC (None without secure element).

        Args:
            nonce: 32 random bytes.
            pages: the numbers of up to eight pages of 1 KiB.

        Raises:
            LinkError: the board does not answer, or its answer cannot be read.
            BoardError: the board refuses the request.
        """
        answer = await self._board.ask(_SectorsRequest(nonce=nonce, sectors=pages), "hash its pages", seconds=_SECONDS)
        digest, mac = answer.items.get("digest"), answer.items.get("mac")
        if not isinstance(digest, bytes) or not isinstance(mac, bytes | None):
            raise BoardError("the board did not hash its pages", why="its answer has no digest")
        return digest, mac

    async def open_session(self, nonce: bytes, session: bytes, time: int) -> SessionAnswer:
        """Request the board's signature for a new session.

        Args:
            nonce: 32 random bytes.
            session: 16 random bytes, the id of the session.
            time: Unix time.

        Raises:
            LinkError: the board does not answer, or its answer cannot be read.
            BoardError: the board refuses the request, for example because its secure element does not sign.
        """
        request = _SessionRequest(nonce=nonce, id=session, time=time)
        answer = await self._board.ask(request, "open a session", seconds=_SECONDS)
        match answer.items:
            case {"nonce": bytes(found), "signature": bytes(signature), "serial": bytes(serial)} if (
                len(found),
                len(signature),
                len(serial),
            ) == (_NONCE_SIZE, SIGNATURE_SIZE, _SERIAL_SIZE):
                return SessionAnswer(found, signature, serial)
        raise BoardError("the board did not open a session", why="its answer has no nonce, signature and serial number")

    async def open_offer(self, digest: bytes, signature: bytes) -> None:
        """Send the gateway's signature of an image, so that the board accepts this image.

        Args:
            digest: the MCUboot digest of the image, 32 bytes.
            signature: the gateway's signature for the session, 64 bytes.

        Raises:
            LinkError: the board does not answer, or its answer cannot be read.
            BoardError: the board refuses the request, for example because another gateway signed the image.
        """
        await self._board.ask(_OfferRequest(digest=digest, signature=signature), "take the offer", seconds=_SECONDS)


async def find_agent(board: SmpBoard) -> BoardAgent | None:
    """Return the agent of a board; None if the board's program does not contain the agent.

    Raises:
        LinkError: the board does not answer.
    """
    try:
        answer = await board.ask(_IdentityRequest(), "identify itself")
    except LinkError as error:
        if isinstance(error.__cause__, SMPValidationException):
            return None  # a command of another program
        raise
    except BoardError:
        return None

    match answer.items:
        case {"board": str(name), "id": bytes(unique_id), "digest": bytes(digest), "proof": str(proof)}:
            return BoardAgent(board, AgentIdentity(plain(name), unique_id, digest, plain(proof)))
    return None
