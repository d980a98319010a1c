"""Ten checks, in a fixed order, that decide whether an image may be written to a board. Pure.

The inputs of the functions are bytes, and facts from the chain and the board. Each function returns the passed checks,
or raises an error with the number of the failed check. A board is erased only after checks 1 to 9 have passed, so a
`VerificationError` means that nothing was changed. The error of check 10 is `FlashProofError`.

`prove_record` and `prove_release` run checks 1 to 5 on the chain's record and the image:

1.  (a) The chain id and (b) the contract are as configured, and (c) enough blocks follow the block at which the
    contract was read.
2.  (a) The product is paired, and (b) the contract is not paused.
3.  (a) The release exists, (b) is the requested one, (c) is not revoked, and (d) is active at the block's time.
4.  The record contains (a) the length and (b) the SHA-256 of the image.
5.  The addresses of the image are inside the product's region.

`prove_board` runs checks 6 to 9 on the data read from the board:

6.  (a) The version is not below the floor. The board contains (b) no other product, (c) no unknown contents and (d) no
    newer version. Check 6d also passes if the newer version is revoked and the new version is the newest active
    release. The operator can override 6b, 6c and 6d; see `Consent`.
7.  (a) The release is for an STM32: its container is stm32, and its chip id is not 0. (b) The board's product id is the
    record's chip id. (c) The image and (d) the product's region are inside the flash.
8.  (a) Readout protection is off, and (b) write protection is off in the range of the image. If the chip does not
    report its write protection, the result of check 8 states this. In this case, check 10 detects a protected page.
9.  (a) The program was linked for its load address, or the publisher accepted the load address in the manifest. (b) The
    image is long enough for a vector table, (c) the initial stack pointer is in RAM, and (d) the reset vector is in the
    image. The vector table of an MCUboot image follows its header. With the operator's consent, a data image may lack
    the vector table, but not at the start of the flash.

`prove_container` runs the parts of checks 7 and 9 that a gateway can run without the device: (7) the container fits the
product's chip id, and (9) the image is a valid file of its container. `model.container.checks_for` is the table of the
checks at each face of a gateway.

`prove_flash` runs check 10 on the flash after writing:

10. The SHA-256 of the flash in the range of the image equals the record's SHA-256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

from blockota.errors import Action, FlashProofError, VerificationError
from blockota.formats.vector_table import LinkAddress, find_link_address
from blockota.model.container import NO_CHIP, Container, find_content_fault, find_misfit
from blockota.model.facts import (
    BoardAnswer,
    ChainAnswer,
    Consent,
    Passed,
    ProvenRecord,
    ProvenRelease,
    Trust,
    proof_words,
)
from blockota.model.manifest import Description
from blockota.model.program import SRAM, find_fault, program_remedy, read_vectors
from blockota.model.release import Product, Region, Release, Status, Version, show_chip, show_time


def prove_release(answer: ChainAnswer, trust: Trust, *, read_image: Callable[[Release], bytes]) -> ProvenRelease:
    """Run checks 1 to 5 with the whole image in memory.

    Args:
        answer: the state of the contract.
        trust: the configuration.
        read_image: returns the untrusted image of a release; called only after check 3.

    Raises:
        VerificationError: a check failed; the error has the number of the first failed check.
    """
    images: list[bytes] = []

    def read_parts(release: Release) -> list[bytes]:
        images.append(read_image(release))
        return images

    record = prove_record(answer, trust, read_parts=read_parts)
    return ProvenRelease(record.release, record.product, record.passed, record.is_newest, images[0])


def prove_record(
    answer: ChainAnswer, trust: Trust, *, read_parts: Callable[[Release], Iterable[bytes]]
) -> ProvenRecord:
    """Run checks 1 to 5 with the image in parts.

    Args:
        answer: the state of the contract.
        trust: the configuration.
        read_parts: yields the untrusted image of a release; called only after check 3.

    Raises:
        VerificationError: a check failed; the error has the number of the first failed check.
    """
    passed = [_check_chain(answer, trust)]
    product = _paired_product(answer)
    passed.append(Passed(2, f"{product.name} is paired with {product.oem}, the contract is not paused"))
    release = _active_release(answer, product.name)
    passed.append(Passed(3, f"{release.product} {release.version} is recorded and active"))
    passed.append(_check_image(release, read_parts(release)))
    passed.append(_check_region(release, product))
    return ProvenRecord(release, product, tuple(passed), is_newest=release.version == answer.newest)


def prove_active(answer: ChainAnswer, trust: Trust) -> Release:
    """Run checks 1 to 3 and the check of the floor (6a) for a release before it is ordered.

    No image is needed.

    Raises:
        VerificationError: a check failed; the error has the number of the first failed check.
    """
    _check_chain(answer, trust)
    product = _paired_product(answer)
    release = _active_release(answer, product.name)
    _check_floor(release.version, product)
    return release


def prove_board(proven: ProvenRelease, board: BoardAnswer, *, consent: Consent) -> list[Passed]:
    """Run checks 6 to 9 for a release that passed checks 1 to 5.

    Raises:
        VerificationError: a check failed; the error has the number of the first failed check.
    """
    return [
        _check_version(proven, board, consent=consent),
        _check_chip(proven, board),
        check_protection(proven.release.region, board),
        _check_vector_table(proven, board, consent=consent),
    ]


def prove_container(
    release: Release, described: Description, image: bytes, *, is_configuration: bool = False
) -> list[Passed]:
    """Run the parts of checks 7 and 9 that need no device, for a release that passed checks 1 to 5.

    Args:
        release: the record of the release.
        described: the manifest of the release.
        image: the proven image. For a .swu or an opaque image, only the first `SWU_HEAD_SIZE` bytes are needed.
        is_configuration: whether the image is data. A configuration for an STM32 has no vector table.

    Raises:
        VerificationError: a check failed; the error has the number of the first failed check.
    """
    container = described.container
    # Check 7
    if misfit := find_misfit(container, release.chip_id):
        missing = f", and its manifest was not found: {described.trouble}" if described.trouble else ""
        raise VerificationError(
            7,
            f"the container of {release.product} {release.version} does not fit its product",
            why=f"{misfit}{missing}",
            remedy="name a source that serves the release with its manifest, or ask the vendor",
            action=Action.NAME_SOURCE if missing else None,
        )
    fits = Passed(7, f"the container {container} fits the chip id {show_chip(release.chip_id)}")
    # Check 9
    is_stm32 = container is Container.STM32
    if not is_stm32:
        fault = find_content_fault(container, image)
    else:
        fault = "" if is_configuration else find_fault(image, release.region, SRAM)
    if fault:
        raise VerificationError(
            9,
            f"the image of {release.product} {release.version} is not a file for its container {container}",
            why=fault,
            remedy="ask the vendor to publish the right file"
            + (", or declare the product as a configuration if its images are data" if is_stm32 else ""),
        )
    return [fits, Passed(9, f"the image is a file for its container {container}")]


def prove_flash(release: Release, digest: bytes, *, method: str) -> Passed:
    """Run check 10.

    Args:
        release: record of the release.
        digest: SHA-256 of the board's flash in the range of the image.
        method: name of the method by which the digest was computed, for the log.

    Raises:
        FlashProofError: the digest differs from the record's SHA-256.
    """
    if digest != release.sha256:
        raise FlashProofError(
            "check 10 failed: the flash does not contain the release",
            why=f"the flash has SHA-256 {digest.hex()}, but the record has {release.sha256.hex()}",
            remedy="flash the board again; if the check fails again, replace the board",
        )
    return Passed(10, f"the flash holds SHA-256 {digest.hex()} ({proof_words(method)})")


def _check_chain(answer: ChainAnswer, trust: Trust) -> Passed:
    # (1a)
    if answer.chain_id != trust.chain_id:
        raise VerificationError(
            1,
            "the node serves another chain",
            why=f"the node's chain id is {answer.chain_id}, but the configured chain id is {trust.chain_id}",
            remedy="correct the network's url or chain_id in blockota.toml",
        )
    # (1b)
    if answer.contract.lower() != trust.contract.lower():
        raise VerificationError(
            1,
            "another contract answered",
            why=f"the answer comes from {answer.contract}, but the configured contract is {trust.contract}",
            remedy="correct the contract's address in blockota.toml",
        )
    # (1c) If fewer blocks follow, a reorganisation can still replace the block.
    depth = answer.newest_block - answer.block_number
    if depth < trust.confirmations:
        raise VerificationError(
            1,
            "the chain's answer can still change",
            why=f"{depth} blocks follow the block that was read, but {trust.confirmations} are required",
            remedy="wait for more blocks, then try again",
        )
    return Passed(1, f"chain {answer.chain_id}, contract {answer.contract}, block {answer.block_number}")


def _paired_product(answer: ChainAnswer) -> Product:
    # (2a)
    if answer.product is None or not answer.product.paired:
        raise VerificationError(
            2,
            f"the product {answer.requested} is unknown to this vendor",
            why="the vendor's contract does not list it, or the vendor removed it",
            remedy="check the product's name and the settings file",
            action=Action.LIST_PRODUCTS,
        )
    # (2b)
    if answer.paused:
        raise VerificationError(
            2,
            "the contract is paused",
            why="the vendor stopped all releases",
            remedy="ask the vendor before you continue",
        )
    return answer.product


def _active_release(answer: ChainAnswer, product: str) -> Release:
    # (3a)
    release = answer.release
    if release is None:
        block = f"block {answer.block_number}, the newest confirmed block"
        what, why = f"{product} has no active release", f"at {block}, each is revoked or not active yet, or none exists"
        if answer.version:
            what, why = f"{product} {answer.version} does not exist", f"the contract has no such release at {block}"
        raise VerificationError(
            3,
            what,
            why=why,
            remedy="wait for more blocks if the release was published just now, or list the product's releases",
            action=Action.LIST_RELEASES,
        )
    # (3b)
    if release.product != product or answer.version not in (None, release.version):
        raise VerificationError(
            3,
            "the node returned another release",
            why=f"the node returned {release.product} {release.version} for {product} {answer.version or '(newest)'}",
            remedy="ask another node",
        )
    # (3c)
    if release.status is not Status.ACTIVE:
        raise VerificationError(
            3,
            f"{release.product} {release.version} is revoked",
            why=f"the vendor withdrew it {answer.revocation or ''}".rstrip(),
            remedy="take the newest release",
            action=Action.LIST_RELEASES,
        )
    # (3d) The block's time is compared, because the local clock could be wrong.
    if answer.block_time < release.active_from:
        raise VerificationError(
            3,
            f"{release.product} {release.version} is not active yet",
            why=f"active from {show_time(release.active_from)}, but the block's time is {show_time(answer.block_time)}",
            remedy="wait until that time",
        )
    return release


def _check_image(release: Release, parts: Iterable[bytes]) -> Passed:
    hashed, size = hashlib.sha256(), 0
    for part in parts:
        hashed.update(part)
        size += len(part)
    remedy = "fetch the image again, and do not use this file"
    # (4a)
    if size != release.size:
        raise VerificationError(
            4,
            "the image is not the release",
            why=f"the image has {size:,} bytes, but the record has {release.size:,}",
            remedy=remedy,
            action=Action.FETCH_IMAGE,
        )
    # (4b)
    digest = hashed.digest()
    if digest != release.sha256:
        raise VerificationError(
            4,
            "the image is not the release",
            why=f"the image has SHA-256 {digest.hex()}, but the record has {release.sha256.hex()}",
            remedy=remedy,
            action=Action.FETCH_IMAGE,
        )
    return Passed(4, f"{size:,} bytes with SHA-256 {digest.hex()}")


def _check_region(release: Release, product: Product) -> Passed:
    if not product.region.contains(release.region):
        raise VerificationError(
            5,
            "the image is not inside the product's region",
            why=f"the image occupies {release.region}, but the region is {product.region}",
            remedy="ask the vendor whether the product was paired again",
        )
    return Passed(5, f"{release.region} lies inside the product's region")


def _check_version(proven: ProvenRelease, board: BoardAnswer, *, consent: Consent) -> Passed:
    version, floor = proven.release.version, proven.product.minimum_version
    # (6a) The operator's consent cannot override the floor.
    _check_floor(version, proven.product)
    # (6b)
    if board.other is not None and consent.replace_product != board.other.product:
        found = f"{board.other.product} {board.other.version}"
        raise VerificationError(
            6,
            "the board contains another product",
            why=f"the flash contains {found}, and {proven.release.product} would replace it",
            remedy=f"take another board, or consent to replacing {board.other.product}",
            action=Action.REPLACE_PRODUCT,
            values={"product": board.other.product},
        )
    # (6c)
    if board.holds_unknown and not consent.replace_unknown:
        raise VerificationError(
            6,
            "the board has unknown contents",
            why="the flash is neither blank nor a release of any product of this contract",
            remedy="check that the right board is connected, then consent to replacing its contents",
            action=Action.REPLACE_UNKNOWN,
        )
    # (6d)
    newer = board.newer_than(version, is_newest=proven.is_newest)
    if newer and not consent.allow_downgrade:
        run, action = board.interrupted, Action.ALLOW_DOWNGRADE
        other_way = "take the newest active release" if board.is_revoked else "leave the board as it is"
        if board.installed is None and run:  # the board does not start until a run is complete
            other_way = "take the newest active release" if run.is_revoked else "complete the interrupted run"
            action = action if run.is_revoked else Action.RESUME_OR_ALLOW_DOWNGRADE
        raise VerificationError(
            6,
            f"version {version} is not newer than the installed version",
            why=newer,
            remedy=f"{other_way}, or allow the downgrade",
            action=action,
        )
    least = f"the vendor's minimum version is {floor}" if floor else "the vendor sets no minimum version"
    if version == board.installed:
        return Passed(6, f"the board holds {version} already; {least}")
    return Passed(6, f"{version} replaces {board.contents}; {least}")


def _check_floor(version: Version, product: Product) -> None:
    floor = product.minimum_version
    if floor is not None and version < floor:
        raise VerificationError(
            6,
            f"version {version} is below the floor",
            why=f"the vendor does not allow versions below {floor}",
            remedy=f"take {floor} or newer",
        )


def _check_chip(proven: ProvenRelease, board: BoardAnswer) -> Passed:
    release, region = proven.release, proven.product.region
    # (7a)
    misfit = find_misfit(proven.description.container, release.chip_id)
    if misfit or release.chip_id == NO_CHIP:
        raise VerificationError(
            7,
            "the release is not for an STM32 board",
            why=misfit or "its product is paired with chip id 0, for devices that are not an STM32",
            remedy="name the product of this board; a gateway installs releases for other devices",
            action=Action.LIST_PRODUCTS,
        )
    # (7b)
    if board.chip_id != release.chip_id:
        raise VerificationError(
            7,
            "the board has another chip",
            why=f"the board's product id is 0x{board.chip_id:03x}, but the release is for 0x{release.chip_id:03x}",
            remedy="take the board that the release is for, or name the product of this board",
            action=Action.LIST_PRODUCTS,
        )
    # (7c)
    if not board.flash.contains(release.region):
        raise VerificationError(
            7,
            "the image does not fit the board's flash",
            why=f"the image occupies {release.region}, but the flash is {board.flash}",
            remedy="take the board that the release is for",
        )
    # (7d)
    if not board.flash.contains(region):
        raise VerificationError(
            7,
            "the product's region is not inside the board's flash",
            why=f"{proven.product.name} has the region {region}, but the flash is {board.flash}",
            remedy="take a board with a larger flash, or ask the vendor whether the product is paired correctly",
        )
    return Passed(7, f"the board's product id is 0x{board.chip_id:03x}, its flash {board.flash}")


def check_protection(region: Region, board: BoardAnswer) -> Passed:
    """Run check 8 for the addresses to be written.

    Raises:
        VerificationError: the board is readout protected, or one of the addresses is write protected.
    """
    # (8a)
    if board.readout_protected:
        raise VerificationError(
            8,
            "the board is readout protected",
            why="the flash cannot be read, so the written image could not be verified",
            remedy="remove the readout protection, which erases the whole flash",
            action=Action.UNPROTECT_READOUT,
        )
    # (8b)
    for protected in board.write_protected or ():
        if protected.overlaps(region):
            raise VerificationError(
                8,
                "the board is write protected",
                why=f"{protected} would silently keep its old contents",
                remedy="remove the write protection first",
                action=Action.UNPROTECT_WRITE,
            )
    if board.write_protected is None:
        return Passed(8, "readout protection is off; this chip does not report its write protection")
    return Passed(8, "readout and write protection are off")


def _check_vector_table(proven: ProvenRelease, board: BoardAnswer, *, consent: Consent) -> Passed:
    release = proven.release
    # (9) The chip reads its vector table at the start of the flash, so a data image is never accepted there.
    is_boot = release.load_address == board.flash.start
    if consent.configuration and not is_boot:
        return Passed(9, "a configuration image has no vector table")
    # (9a)
    linked_for = find_link_address(proven.image, release.load_address, flash_end=board.flash.end)
    described = proven.description
    if linked_for is not None and not (described.manifest and described.manifest.accepts_load_address):
        raise _linked_elsewhere(release, linked_for, described)
    # (9b-d)
    fault = find_fault(proven.image, release.region, board.ram)
    vectors = read_vectors(proven.image)
    if fault or vectors is None:
        what = "the image has no plausible vector table"
        remedy, action = program_remedy(is_boot=is_boot)
        raise VerificationError(9, what, why=fault, remedy=remedy, action=action)
    accepted = "; the publisher accepted the load address" if linked_for is not None else ""
    return Passed(9, f"{vectors}{accepted}")


def _linked_elsewhere(release: Release, linked_for: LinkAddress, described: Description) -> VerificationError:
    what = "the image was linked for another address"
    why = f"its addresses begin at 0x{linked_for.address:08x}, and the load address is 0x{release.load_address:08x}"

    if described.trouble:
        name = f"the manifest {described.address}" if described.address else "the manifest"
        return VerificationError(
            9,
            what,
            why=f"{why}; {name}, which could accept the difference, cannot be read: {described.trouble}",
            remedy="name a source that serves the release with its manifest",
            action=Action.NAME_SOURCE,
        )
    return VerificationError(
        9,
        what,
        why=f"{why}, and no manifest states that the publisher accepts the difference",
        remedy="ask the vendor to publish the image with the right load address",
    )
