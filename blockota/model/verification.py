"""May this image be written to this board?

Ten checks, in this order; nothing is erased before the first nine hold. All of it is pure: bytes and chain facts
go in; a list of passed checks comes out, or an error with the number of the failed one: `VerificationError` while
nothing was changed, and `FlashProofError` for check 10.

1.  chain id and contract are the configured ones, and the answer is deep enough in the chain
2.  the product is paired, and the contract is not paused
3.  the release exists, is not revoked, and is active at the block's time
4.  length and SHA-256 of the image are the record's
5.  the image's addresses lie inside the product's region
6.  its version is not older than the installed one, which is of the same product, and not below the floor
7.  the board's product id is the record's chip id, and the image and its product's region fit the board's flash
8.  the board's readout and write protection are off
9.  code begins with a plausible vector table
10. the digest of what the flash holds after writing is the record's
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable

from blockota.errors import FlashProofError, VerificationError
from blockota.model.facts import BoardAnswer, ChainAnswer, Consent, Passed, ProvenRecord, ProvenRelease, Trust
from blockota.model.release import Product, Region, Release, Status, show_time

__all__ = ["Passed", "ProvenRecord", "ProvenRelease", "prove_board", "prove_flash", "prove_record", "prove_release"]
_VECTOR_TABLE_START = 8


def prove_release(answer: ChainAnswer, trust: Trust, *, read_image: Callable[[Release], bytes]) -> ProvenRelease:
    """Checks 1 to 5: what the chain says, and whether the image is what it says.

    Args:
        answer: what the chain said.
        trust: what the person at the bench believes.
        read_image: returns the bytes that somebody claims to be a release's image; asked only after check 3.

    Raises:
        VerificationError: with the number of the first check that failed.
    """
    images: list[bytes] = []

    def read_parts(release: Release) -> list[bytes]:
        images.append(read_image(release))
        return images

    record = prove_record(answer, trust, read_parts=read_parts)
    return ProvenRelease(record.release, record.product, record.passed, images[0])


def prove_record(
    answer: ChainAnswer, trust: Trust, *, read_parts: Callable[[Release], Iterable[bytes]]
) -> ProvenRecord:
    """Checks 1 to 5, for an image that is too large to be held in memory.

    Args:
        answer: what the chain said.
        trust: what the person believes.
        read_parts: yields the bytes that somebody claims to be a release's image; asked only after check 3.

    Raises:
        VerificationError: with the number of the first check that failed.
    """
    passed = [_check_chain(answer, trust)]
    product = _paired_product(answer)
    passed.append(Passed(2, f"{product.name} is paired with {product.oem}, the contract is not paused"))
    release = _active_release(answer, product.name)
    passed.append(Passed(3, f"{release.product} {release.version} is recorded and active"))
    passed.append(_check_image(release, read_parts(release)))
    passed.append(_check_region(release, product))
    return ProvenRecord(release, product, tuple(passed))


def prove_board(proven: ProvenRelease, board: BoardAnswer, *, consent: Consent) -> list[Passed]:
    """Checks 6 to 9: whether this board may take this release.

    Args:
        proven: a release that passed checks 1 to 5.
        board: what the board said.
        consent: what the person agreed to.

    Raises:
        VerificationError: with the number of the first check that failed.
    """
    return [
        _check_version(proven, board, consent=consent),
        _check_chip(proven, board),
        _check_protection(proven.release, board),
        _check_vector_table(proven, board, consent=consent),
    ]


def prove_flash(release: Release, digest: bytes, *, method: str) -> Passed:
    """Check 10: whether the flash now holds the release.

    Args:
        release: the chain's record.
        digest: the SHA-256 of what the board's flash holds, over exactly the image's range.
        method: how it was found; a word for the log.

    Raises:
        FlashProofError: it does not.
    """
    if digest != release.sha256:
        raise FlashProofError(
            "check 10 failed, the flash does not hold the release",
            why=f"its SHA-256 is {digest.hex()}, the record says {release.sha256.hex()}",
            remedy="flash the board again; if it happens twice, replace the board",
        )
    return Passed(10, f"the flash holds SHA-256 {digest.hex()} ({method})")


def _check_chain(answer: ChainAnswer, trust: Trust) -> Passed:
    if answer.chain_id != trust.chain_id:
        raise VerificationError(
            1,
            "the node serves another chain",
            why=f"it says chain id {answer.chain_id}, the settings say {trust.chain_id}",
            remedy="correct the network's url or chain_id in blockota.toml",
        )
    if answer.contract.lower() != trust.contract.lower():
        raise VerificationError(
            1,
            "another contract answered",
            why=f"it is {answer.contract}, the settings say {trust.contract}",
            remedy="correct the contract's address in blockota.toml",
        )
    depth = answer.newest_block - answer.block_number
    if depth < trust.confirmations:
        raise VerificationError(
            1,
            "the chain's answer can still change",
            why=f"its block has {depth} blocks above it, the settings ask for {trust.confirmations}",
            remedy="wait for more blocks, then try again",
        )
    return Passed(1, f"chain {answer.chain_id}, contract {answer.contract}, block {answer.block_number}")


def _paired_product(answer: ChainAnswer) -> Product:
    if answer.product is None or not answer.product.paired:
        raise VerificationError(
            2,
            "the product is not paired",
            why="the contract has no pairing with an OEM for it, so nothing may be installed",
            remedy="check the product's name with `blockota product list`",
        )
    if answer.paused:
        raise VerificationError(
            2,
            "the contract is paused",
            why="the vendor stopped all releases",
            remedy="ask the vendor before going on",
        )
    return answer.product


def _active_release(answer: ChainAnswer, product: str) -> Release:
    release = answer.release
    if release is None:
        raise VerificationError(
            3,
            f"there is no release {answer.version or 'to install'}",
            why=f"the contract has no record of it at block {answer.block_number}, which counts",
            remedy="see `blockota release list`; one published just now needs more blocks above it",
        )
    if release.product != product or answer.version not in (None, release.version):
        raise VerificationError(
            3,
            "the answer is another release",
            why=f"it is {release.product} {release.version}, asked for was {product} {answer.version or 'the newest'}",
            remedy="ask another node",
        )
    if release.status is not Status.ACTIVE:
        raise VerificationError(
            3,
            f"{release.product} {release.version} is revoked",
            why="the vendor withdrew it",
            remedy="take the newest release from `blockota release list`",
        )
    if answer.block_time < release.active_from:
        raise VerificationError(
            3,
            f"{release.product} {release.version} is not active yet",
            why=f"from {show_time(release.active_from)} on; the chain's time is {show_time(answer.block_time)}",
            remedy="wait until then",
        )
    return release


def _check_image(release: Release, parts: Iterable[bytes]) -> Passed:
    hashed, size = hashlib.sha256(), 0
    for part in parts:
        hashed.update(part)
        size += len(part)
    remedy = "fetch the image again with `blockota release fetch`, and do not use this one"
    if size != release.size:
        raise VerificationError(
            4,
            "the image is not the release",
            why=f"it has {size} bytes, the record says {release.size}",
            remedy=remedy,
        )
    digest = hashed.digest()
    if digest != release.sha256:
        raise VerificationError(
            4,
            "the image is not the release",
            why=f"its SHA-256 is {digest.hex()}, the record says {release.sha256.hex()}",
            remedy=remedy,
        )
    return Passed(4, f"{size} bytes with SHA-256 {digest.hex()}")


def _check_region(release: Release, product: Product) -> Passed:
    if not product.region.contains(release.region):
        raise VerificationError(
            5,
            "the image leaves the product's region",
            why=f"it covers {release.region}, the region is {product.region}",
            remedy="ask the vendor whether the product was paired anew",
        )
    return Passed(5, f"{release.region} lies inside the product's region")


def _check_version(proven: ProvenRelease, board: BoardAnswer, *, consent: Consent) -> Passed:
    version, floor = proven.release.version, proven.product.minimum_version
    if floor is not None and version < floor:
        raise VerificationError(
            6,
            f"version {version} is below the floor",
            why=f"the vendor allows nothing older than {floor}",
            remedy=f"take {floor} or newer",
        )
    _require_replaceable(proven.release.product, board, consent=consent)
    newer = board.newer_than(version)
    if newer and not consent.allow_downgrade:
        raise VerificationError(
            6,
            f"version {version} is not newer than the installed one",
            why=newer,
            remedy="leave the board as it is, or say --allow-downgrade",
        )
    if version == board.installed:
        return Passed(6, f"the board holds {version} already, the floor is {floor or 'not set'}")
    return Passed(6, f"{version} replaces {board.contents}, the floor is {floor or 'not set'}")


def _require_replaceable(product: str, board: BoardAnswer, *, consent: Consent) -> None:
    """What is no release of the product goes only where the person said so, another product only by its name."""
    if board.other is not None and consent.replace_product != board.other.product:
        raise VerificationError(
            6,
            "the board holds another product",
            why=f"its flash is {board.other.product} {board.other.version}, and {product} would replace it",
            remedy=f"take the board that is meant, or say --replace-product {board.other.product}",
        )
    if board.holds_unknown and not consent.replace_unknown:
        raise VerificationError(
            6,
            "the board holds something unknown",
            why="its flash is neither blank nor a release of any product of this contract",
            remedy="make sure that it is the right board, then say --replace-unknown",
        )


def _check_chip(proven: ProvenRelease, board: BoardAnswer) -> Passed:
    release, region = proven.release, proven.product.region
    if board.chip_id != release.chip_id:
        raise VerificationError(
            7,
            "the board has another chip",
            why=f"its product id is 0x{board.chip_id:03x}, the release is for 0x{release.chip_id:03x}",
            remedy="take the board that the release is for",
        )
    if not board.flash.contains(release.region):
        raise VerificationError(
            7,
            "the image does not fit the board's flash",
            why=f"it covers {release.region}, the flash is {board.flash}",
            remedy="take the board that the release is for",
        )
    if not board.flash.contains(region):
        raise VerificationError(
            7,
            "the board's flash is not what the product is for",
            why=f"{proven.product.name} has the region {region}, the flash is {board.flash}",
            remedy="take a board with a larger flash, or ask the vendor whether the product was paired rightly",
        )
    return Passed(7, f"the board's product id is 0x{board.chip_id:03x}, its flash {board.flash}")


def _check_protection(release: Release, board: BoardAnswer) -> Passed:
    if board.readout_protected:
        raise VerificationError(
            8,
            "the board is readout protected",
            why="its flash can be neither read nor proven",
            remedy="remove it with `blockota board unprotect --readout` (this erases all of its flash)",
        )
    for region in board.write_protected or ():
        if region.start < release.region.end and release.region.start < region.end:
            raise VerificationError(
                8,
                "the board is write protected",
                why=f"{region} would silently keep its old contents",
                remedy="remove it first, with `blockota board unprotect --write`",
            )
    if board.write_protected is None:
        return Passed(8, "readout protection is off; this chip does not tell its write protection, check 10 would")
    return Passed(8, "readout and write protection are off")


def _check_vector_table(proven: ProvenRelease, board: BoardAnswer, *, consent: Consent) -> Passed:
    if consent.configuration and proven.release.load_address != board.flash.start:
        return Passed(9, "a configuration image has no vector table")
    if len(proven.image) < _VECTOR_TABLE_START:
        raise _implausible("it is too short to hold one")
    stack, reset = struct.unpack_from("<II", proven.image)
    if not (board.ram.start < stack <= board.ram.end and stack % 4 == 0):
        raise _implausible(f"the initial stack pointer 0x{stack:08x} is not in RAM, {board.ram}")
    inside = proven.release.region.contains(Region(reset & ~1, 2))
    if not (reset & 1 and inside):
        raise _implausible(f"the reset vector 0x{reset:08x} is not a Thumb address inside the image")
    return Passed(9, f"stack pointer 0x{stack:08x} in RAM, reset vector 0x{reset:08x} inside the image")


def _implausible(why: str) -> VerificationError:
    return VerificationError(
        9,
        "the image has no plausible vector table",
        why=why,
        remedy="publish the linked image of a program, or say --configuration for data",
    )
