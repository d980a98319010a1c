"""Finds red flags in the signature and the security counter of MCUboot images. Pure.

A device refuses an image whose security counter is lower than the counter of an image that the device has run. If the
newest release is revoked, devices return to the newest active release before it, unless that older release is below the
product's floor. A device cannot return to the older release if the counter rose between the two releases.
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
        facts: the facts of its image.
        manifest: the manifest of the release; None if the release has no manifest, or if the manifest was not found.
        since: the version of the preceding release, whose counter is `facts.before`; None without a preceding release.
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
    """Describe an unusual change from the previous release's counter; empty if the change is usual."""
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
