"""The topics on which identities exchange signed requests. Pure.

::

    blockota/v1/requests/{receiver}                   a JSON-RPC request for the identity RECEIVER
    blockota/v1/requests/{receiver}/answers/{sender}  the JSON-RPC response for the identity SENDER

A response contains the id of its request. The broker's rules should give each identity access only to its own
responses. The security does not depend on these rules, because every request is signed.
"""

from __future__ import annotations

from uuid import UUID


def request_topic(receiver: UUID) -> str:
    """Return the topic of the requests for an identity."""
    return f"blockota/v1/requests/{receiver}"


def answer_topic(receiver: UUID, sender: UUID) -> str:
    """Return the topic of the responses from one identity to another."""
    return f"blockota/v1/requests/{receiver}/answers/{sender}"
