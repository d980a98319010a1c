"""The properties of an MCUboot image that a device's loader examines: the security counter, and the signature.

A device refuses an image whose security counter is lower than that of an image that it has run. An owner therefore sees
the counter beside that of the newest release, and learns whether the key that the settings name for the product signed
the image. Pure.
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
    """The facts of an image that a loader examines.

    Attributes:
        fault: why the image is not a complete MCUboot image; empty if it is.
        counter: the security counter, 0 if the image has none; None if the image is not an MCUboot image.
        before: the security counter of the product's newest release; None if it is not known or there is no release.
        key: SHA-256 of the key that the image names; None if it names none.
        signature_fault: why the image is not signed by the product's key; empty if it is; None if the signer's settings
            name no key for the product.
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
        key: the key of the product's images; None if the signer's settings name none.
        before: the security counter of the newest release; None if it is not known or there is no release.
    """
    signature_fault = None if key is None else find_signature_fault(image, key)
    try:
        items = read_items(image)
    except ImageError as error:
        return LoaderFacts(error.why, None, before, None, signature_fault)
    return LoaderFacts("", items.security_counter or 0, before, signing_key(items), signature_fault)
