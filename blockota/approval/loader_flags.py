"""Finds red flags in the signature and the security counter of MCUboot images. Pure.

A device refuses an image if it has run an image with a higher security counter. If the newest release is revoked,
devices return to the next older active release, unless the product's floor forbids that release. This return also fails
if the revoked release raised the security counter.
"""

from __future__ import annotations

from collections.abc import Iterator

from blockota.approval.flags import RedFlag, Word
from blockota.approval.red_flags import container_flag
from blockota.model.container import Container
from blockota.model.loader_facts import LoaderFacts
from blockota.model.manifest import Manifest
from blockota.model.release import Version


def loader_flags(
    name: str, facts: LoaderFacts, manifest: Manifest | None, *, since: Version | None, floor: Version | None
) -> Iterator[RedFlag]:
    """Find the red flags of an image.

    Args:
        name: product and version of the release.
        facts: the facts about the image of the release.
        manifest: the manifest of the release; None if the release has no manifest, or if the manifest was not found.
        since: the version of the preceding release; None without a preceding release. The preceding release has the
            security counter `facts.before`.
        floor: the minimum version of the product.
    """
    is_mcuboot = manifest is not None and manifest.container is Container.MCUBOOT
    if facts.fault and is_mcuboot:
        yield container_flag(name, f"its image is not an MCUboot image: {facts.fault}")
    if facts.signature_fault:
        why = f"the image of {name} is not signed by the product's image key: {facts.signature_fault}"
        yield RedFlag(Word.SIGNATURE, why)

    if facts.counter is None:
        return
    if change := _find_change(facts.counter, facts.before, since=since, floor=floor):
        yield RedFlag(Word.COUNTER, f"the security counter of {name} {change}")
    if manifest and is_mcuboot and (manifest.security_counter or 0) != facts.counter:
        stated = f"the manifest of {name} states the security counter {manifest.security_counter or 0}"
        yield RedFlag(Word.COUNTER, f"{stated}, and its image has {facts.counter}")


def _find_change(counter: int, before: int | None, *, since: Version | None, floor: Version | None) -> str:
    """Describe an unusual change of the security counter since the previous release; empty for a usual change."""
    if since is None:
        return ""
    if before is None:
        unknown = f"is {counter}, and that of {since} is not known, because its image was not found"
        return unknown if counter else ""

    if counter < before:
        return f"falls from {before} to {counter}, so devices that ran {since} would refuse the image"
    if counter > before and (floor is None or floor <= since):
        back = f"devices that ran it could not return to {since}, which the floor allows"
        return f"rises from {before} to {counter}: if the release were revoked, {back}"
    return ""
