"""Mutual authentication of a gateway and a board with a secure element, before the board takes an image.

1. The gateway draws a nonce and the session's id. The board answers with a nonce of its secure element, and signs both
   nonces, the id and the gateway's time with the key that DeviceRegistry has.
2. The gateway signs the board's nonce, the id and the digest of the image that it offers. The secure element verifies
   this signature with the gateway's key, and the board takes only this image until it restarts.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from blockota.errors import BoardError, LinkError, RefusedError
from blockota.formats.p256 import is_p256_signature
from blockota.gateway.faces.smp.agent import BoardAgent, SessionAnswer
from blockota.identity.identity_key import IdentityKey

NONCE_SIZE, ID_SIZE = 32, 16
_SESSION, _OFFER = b"blockota-session", b"blockota-offer"


@dataclass(frozen=True)
class AgentSession:
    """An open session with a board.

    Attributes:
        agent: the agent of the board.
        id: the gateway's 16 bytes for this session.
        nonce: the nonce of the board's secure element, 32 bytes.
        serial: the serial number of the secure element, 9 bytes.
    """

    agent: BoardAgent
    id: bytes
    nonce: bytes
    serial: bytes

    async def offer(self, digest: bytes, key: IdentityKey | None) -> None:
        """Let the board take the image with an MCUboot digest.

        Args:
            digest: the digest, 32 bytes.
            key: the key of the gateway's identity; None if it has none.

        Raises:
            LinkError: the board does not answer, or its answer cannot be read.
            RefusedError: the gateway has no key, or the board does not accept its signature.
        """
        if key is None:
            raise RefusedError(
                "the board takes images only from a gateway that signs its offers",
                why="this gateway has no key",
                remedy="name the key of its identity in the settings",
            )
        signed = hashlib.sha256(_OFFER + self.nonce + self.id + digest).digest()
        try:
            await self.agent.open_offer(digest, key.sign_digest(signed))
        except LinkError:
            raise
        except BoardError as error:
            raise RefusedError(
                "the board does not accept this gateway",
                why=error.why,
                remedy="write the public key of the gateway's identity into the board's secure element",
            ) from error


async def open_session(agent: BoardAgent, device_key: bytes | None, *, time: int) -> AgentSession:
    """Open a session with a board.

    Args:
        agent: the agent of the board.
        device_key: x and y of the device's key on record; None if it has none. The signature is then not checked.
        time: the gateway's Unix time.

    Raises:
        LinkError: the board does not answer, or its answer cannot be read.
        BoardError: the board refuses, for example because its secure element does not sign.
        RefusedError: the key on record did not sign the session.
    """
    nonce, session = secrets.token_bytes(NONCE_SIZE), secrets.token_bytes(ID_SIZE)
    answer: SessionAnswer = await agent.open_session(nonce, session, time)
    signed = _SESSION + nonce + session + time.to_bytes(8) + answer.nonce
    if device_key is not None and not is_p256_signature(device_key, signed, answer.signature):
        raise RefusedError("the board is not the device", why="the device's key on record did not sign the session")
    return AgentSession(agent, session, answer.nonce, answer.serial)
