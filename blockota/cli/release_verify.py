"""``blockota release verify``: name the releases in a file, and verify them against the chain."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import click

from blockota.cli.display import parts_of, spinner
from blockota.cli.parameters import VERSION
from blockota.cli.session import Session, with_session
from blockota.errors import Action, RefusedError
from blockota.files import naming_file
from blockota.model.facts import Passed
from blockota.model.recognition import Located, describe_release, ranked
from blockota.model.release import Release, Version
from blockota.model.verification import prove_record
from blockota.vendor.recognition import ReadOut, open_read_out


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--product", metavar="NAME", help="Expected product; by default any.")
@click.option("--version", type=VERSION, help="Expected version; by default any.")
@with_session
def verify(session: Session, /, file: Path, product: str | None, version: Version | None) -> None:
    """Name the release in FILE, and verify it by checks 1 to 5.

    FILE is the image of a release in any supported format, or flash memory that `board read` saved. If FILE has bytes
    outside the release, and these bytes are not erased, the command names the release and exits with 3.

    \b
    Example:  blockota release verify thermo2.bin
    """
    contract = session.contract
    if product:
        contract.known_product(product)
    products = contract.products()
    releases, now = contract.histories(one.name for one in products), session.chain.head().time
    with naming_file(file):
        given = open_read_out(file, releases)

    with given.open() as opened:
        content = ReadOut(given, opened)
        with spinner(session, "Searching"):
            there = content.find(releases, {one.name: one.region for one in products})
        found = [
            one for one in there if product in (None, one.release.product) and version in (None, one.release.version)
        ]

        if there and not found:
            remedy = "fetch the image of the expected release"
            expected = " ".join(str(word) for word in (product, version) if word)
            verb = "is" if given.size == sum(map(len, {one.span for one in there})) else "contains"
            why = f"it {verb} {' and '.join(_names(there, releases, now=now))}"
            raise RefusedError(f"{file} is not {expected}", why=why, remedy=remedy, action=Action.FETCH_IMAGE)
        if product and version and not found:  # check 3 or 4 fails, and its error has the reason
            answer = contract.answer(product, version, confirmations=session.settings.confirmations)
            prove_record(answer, session.trust, read_parts=lambda _: content.parts(range(given.size)))
        if not found:
            raise _unknown_file(file, content, releases, product)

        passed = [check for one in found for check in _prove(session, one, opened)]
        rest, is_erased = given.size - sum(map(len, {one.span for one in found})), content.is_erased_beside(found)

    named = _names(found, releases, now=now)
    fields = [ranked(one.release, releases, now=now) | {"offset": one.offset} for one in found]
    result = fields[0] | {"passed": [check.number for check in passed], "otherBytes": rest, "releases": fields}
    if not is_erased:
        error = RefusedError(
            f"{file} is not only a release",
            why=f"it contains {' and '.join(named)}, and {rest:,} other bytes that no release covers",
            remedy="flash the release instead of this file",
        )
        error.result = result
        raise error

    def show() -> None:
        for check in passed:
            session.check(check.number, check.what)
        for one, name in zip(found, named, strict=True):
            beside = f": {one.release.size:,} bytes at {one.offset:#x}" if rest else ""
            session.done(f"{file} {'contains' if rest else 'is'} {name}{beside}")
        if rest:
            session.done(f"the other {rest:,} bytes are erased")

    session.result(result, show)


def _names(found: Sequence[Located], releases: Sequence[Release], *, now: int) -> list[str]:
    """Return descriptions of the releases, such as ``acme-thermo2 1.1.0, superseded by 1.3.0``."""
    return [describe_release(one.release, releases, now=now) for one in found]


def _prove(session: Session, found: Located, file: BinaryIO) -> tuple[Passed, ...]:
    """Verify a release in the file by checks 1 to 5. The image is read again, because check 4 hashes it."""
    release = found.release
    answer = session.contract.answer(release.product, release.version, confirmations=session.settings.confirmations)
    parts = parts_of(session, file, size=release.size, start=found.offset)
    return prove_record(answer, session.trust, read_parts=lambda _: parts).passed


def _unknown_file(file: Path, content: ReadOut, releases: Sequence[Release], product: str | None) -> RefusedError:
    """Return the error for a file in which no release was found."""
    if content.is_erased_beside([]):
        return RefusedError(f"{file} contains no release", why="all its bytes are erased", remedy="flash the board")

    digest = hashlib.sha256()
    for part in content.parts(range(content.given.size)):
        digest.update(part)
    moved = next((one for one in releases if one.sha256 == digest.digest()), None)
    if moved and content.given.load_address != moved.load_address:
        return RefusedError(
            f"{file} has the bytes of {moved.product} {moved.version} at another address",
            why=f"the file begins at {content.given.load_address:#010x}, "
            f"but the release begins at {moved.load_address:#010x}",
            remedy="do not use the file; fetch the image of the release",
            action=Action.FETCH_IMAGE,
        )

    whose = product or "any product of this vendor"
    return RefusedError(
        f"{file} is not a release of {whose}",
        why=f"its SHA-256 {digest.hexdigest()} is not that of a release, and no release begins in it",
        remedy="do not use the file; fetch the image of a release",
        action=Action.FETCH_IMAGE,
    )
