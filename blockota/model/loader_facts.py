"""The properties of an MCUboot image that a device's loader examines: the security counter, and the signature.

A device refuses an image if it has run an image with a higher security counter. A review therefore shows the counters
of the image and of the newest release. The review also shows whether the image was signed with the product's key in the
settings. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from blockota.errors import ImageError
from blockota.formats.mcuboot import read_items
from blockota.formats.mcuboot_signature import find_signature_fault, signing_key
from blockota.formats.public_key import PublicKey


@dataclass(frozen=True)
class LoaderFacts:
    """The facts that a loader examines in an image.

    Attributes:
        fault: why the image is not a complete MCUboot image; empty if the image is complete.
        counter: the security counter, 0 if the image has no counter; None if the image is not an MCUboot image.
        before: the security counter of the product's newest release; None for an unknown counter, or without a release.
        key: SHA-256 of the public key that the image names; None if the image names no key.
        signature_fault: why the image is not signed by the product's key; empty if the signature is valid; None if the
            signer's settings name no key for the product.
    """

    fault: str
    counter: int | None
    before: int | None
    key: bytes | None
    signature_fault: str | None

    @property
    def fields(self) -> dict[str, Any]:
        """The facts as fields of a JSON object."""
        return {
            "securityCounter": self.counter,
            "previousSecurityCounter": self.before,
            "imageKey": self.key.hex() if self.key else None,
            "signatureFault": self.signature_fault,
        }


def examine(image: bytes, *, key: PublicKey | None, before: int | None) -> LoaderFacts:
    """Examine an image.

    Args:
        image: the image.
        key: the key of the product's images; None if the signer's settings name no key.
        before: the security counter of the newest release; None for an unknown counter, or without a release.
    """
    signature_fault = None if key is None else find_signature_fault(image, key)
    try:
        items = read_items(image)
    except ImageError as error:
        return LoaderFacts(error.why, None, before, None, signature_fault)
    return LoaderFacts("", items.security_counter or 0, before, signing_key(items), signature_fault)
