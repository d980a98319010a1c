"""Makes the deltas of a draft.

A delta is a patch from an older release's image to the new image. A delta is kept only if it is smaller than the new
image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from blockota.bindings.block_ota import BlockOTAContract
from blockota.errors import RefusedError
from blockota.formats.delta import make_patch
from blockota.formats.firmware_image import MAX_IMAGE_SIZE
from blockota.model.draft import Draft, Patch
from blockota.model.release import Release


def with_patches(draft: Draft, contract: BlockOTAContract, *, read_image: Callable[[Release], bytes]) -> Draft:
    """Make a patch from the image of each version in `draft.delta_from`.

    A patch that is not smaller than the new image is left out.

    Args:
        draft: the draft with its image.
        contract: the contract with the older releases.
        read_image: returns the verified image of a release.

    Raises:
        UsageError: the library that makes deltas is not installed.
        RefusedError: a version does not exist or is not older than the draft, or an image is too large.
    """
    with draft.open_image() as file:
        image = file.read(MAX_IMAGE_SIZE + 1)
    bases = []
    for version in dict.fromkeys(draft.delta_from):
        base = contract.known_release(draft.product, version)
        if version >= draft.version:
            raise RefusedError(
                f"no delta can be made from {draft.product} {version}",
                why=f"{version} is not older than {draft.version}",
                remedy="choose an older version",
            )
        if max(base.size, len(image)) > MAX_IMAGE_SIZE:
            raise RefusedError(
                f"no delta can be made from {draft.product} {version}",
                why=f"an image has more than {MAX_IMAGE_SIZE:,} bytes",
                remedy="publish the whole image only",
            )
        bases.append(base)

    patches = []
    for base in bases:
        compression, data = make_patch(read_image(base), image)
        if len(data) < len(image):
            patches.append(Patch.of(base, data, compression=compression))
    return replace(draft, patches=tuple(patches))
