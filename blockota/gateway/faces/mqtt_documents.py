"""The document that describes an image to an MQTT device, with the gateway's signature.

The fields of a document::

    product, version, container         the release, and the kind of its file
    sha256, size, cid, uri              the image: SHA-256 in hexadecimal, bytes, content address, and download URI
    chain, contract                     the BlockOTA contract that has the release
    order, notBefore, deadline          the order's number and its times, if an order chose the release
    nonce                               the nonce that the device's signed statement must contain, base64url
    delta                               a patch for the image that the device runs: {base, format, sha256, size, uri}
    content                             the image itself as text, if it is a small configuration
    jws                                 compact JWS, ES256: the gateway's signature of all fields above, and of the
                                        fields thing, job and gateway

A device that does not verify the signature must trust that the broker announces the right image. The device can still
verify the image by comparing the image's SHA-256 with the record on the chain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from blockota.formats.jws import base64url, sign_token
from blockota.gateway.core import DeviceOffer
from blockota.identity.identity_key import IdentityKey

DOCUMENT_KIND = "blockota-job+json"
"""The header ``typ`` of the gateway's signature."""
MAX_CONTENT = 2048
"""The maximum size in bytes of a configuration that is part of the document itself."""


@dataclass(frozen=True)
class DocumentMaker:
    """Makes documents.

    Attributes:
        gateway: UUID of the gateway's identity, which is also the key id of the signature.
        key: the private key of the identity; None creates unsigned documents.
        uri_of: returns the URI of a file by its SHA-256.
    """

    gateway: UUID
    key: IdentityKey | None
    uri_of: Callable[[bytes], str]

    def document(self, device: int, offer: DeviceOffer, *, running: bytes | None = None) -> dict[str, Any]:
        """Return the job document of an offer, signed if there is a key.

        Args:
            device: number of the device.
            offer: the offer.
            running: SHA-256 of the image that the device runs; None if the image is not known.
        """
        release = offer.release
        fields: dict[str, Any] = {
            "product": release.product,
            "version": str(release.version),
            "container": offer.container,
            "sha256": offer.image.hex(),
            "size": offer.size,
            "cid": offer.cid,
            "uri": self.uri_of(offer.image),
            "chain": release.chain_id,
            "contract": release.contract,
            "order": offer.order,
            "notBefore": offer.not_before,
            "deadline": offer.deadline,
            "nonce": base64url(offer.nonce),
            "delta": self._delta(offer, running),
            "content": _content(offer),
        }

        fields = {name: value for name, value in fields.items() if value is not None}
        if self.key is None:
            return fields

        claims = {**fields, "thing": str(device), "job": str(offer.job), "gateway": str(self.gateway)}
        key_id = str(self.gateway)
        return fields | {"jws": sign_token(claims, kind=DOCUMENT_KIND, key_id=key_id, sign=self.key.sign_digest)}

    def _delta(self, offer: DeviceOffer, running: bytes | None) -> dict[str, Any] | None:
        fitting = [delta for delta in offer.deltas if delta.base == running]
        if not fitting:
            return None

        best = min(fitting, key=lambda delta: delta.size)
        return {
            "base": best.base.hex(),
            "format": best.format,
            "sha256": best.sha256.hex(),
            "size": best.size,
            "uri": self.uri_of(best.sha256),
        }


def _content(offer: DeviceOffer) -> str | None:
    """Return the content of a small configuration file as text; None if the file is large or not UTF-8."""
    if not offer.is_configuration or offer.size > MAX_CONTENT:
        return None
    try:
        return offer.path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None
