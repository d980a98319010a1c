"""Mutual authentication of a gateway and a board with a secure element, before the board accepts an image.

1. The gateway chooses a random nonce and a random session id. The board answers with a nonce of its secure element.
   With its device key, the board signs both nonces, the session id and the gateway's time. DeviceRegistry has the
   public key.
2. The gateway signs the board's nonce, the session id and the digest of the offered image. The secure element verifies
   this signature with the gateway's public key, and the board accepts only this image until its next restart.
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
        """Sign the MCUboot digest of an image, so that the board accepts this image.

        Args:
            digest: the digest, 32 bytes.
            key: the key of the gateway's identity; None if the settings name no key.

        Raises:
            LinkError: the board does not answer, or its answer cannot be read.
            RefusedError: the gateway has no key, or the board does not accept the gateway's signature.
        """
        if key is None:
            raise RefusedError(
                "the board takes images only from a gateway that signs its offers",
                why="this gateway has no key",
                remedy="set identity_key in the table [gateway] of the settings",
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
        device_key: x and y of the device's key in DeviceRegistry; if it is None, the signature is not checked.
        time: the gateway's Unix time.

    Raises:
        LinkError: the board does not answer, or its answer cannot be read.
        BoardError: the board refuses the request, for example because its secure element does not sign.
        RefusedError: the session's signature was not made with the device's key in DeviceRegistry.
    """
    nonce, session = secrets.token_bytes(NONCE_SIZE), secrets.token_bytes(ID_SIZE)
    answer: SessionAnswer = await agent.open_session(nonce, session, time)
    # The nonce and the time are the gateway's, so an old answer cannot be replayed.
    signed = _SESSION + nonce + session + time.to_bytes(8) + answer.nonce
    if device_key is not None and not is_p256_signature(device_key, signed, answer.signature):
        why = "the session was not signed with the device's key in DeviceRegistry"
        raise RefusedError("the board is not the device", why=why)
    return AgentSession(agent, session, answer.nonce, answer.serial)
