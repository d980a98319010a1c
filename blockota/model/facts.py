"""The inputs and results of `verification`, such as the data read from the chain and from the board. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from blockota.errors import shortened
from blockota.model.manifest import NO_DESCRIPTION, Description
from blockota.model.release import Product, Region, Release, Revocation, Version


@dataclass(frozen=True)
class Trust:
    """The contract and the number of confirmations that the operator has configured.

    Attributes:
        chain_id: EIP-155 chain id.
        contract: address of the vendor's BlockOTA contract.
        confirmations: number of blocks that must follow the block at which the contract is read.
    """

    chain_id: int
    contract: str
    confirmations: int


@dataclass(frozen=True)
class ChainAnswer:
    """The state of the contract at one block.

    Attributes:
        chain_id: chain id reported by the node.
        contract: address of the BlockOTA contract that was read.
        block_number: number of the block.
        block_time: Unix time of the block, in seconds.
        newest_block: number of the node's newest block.
        paused: whether the contract is paused.
        requested: name of the requested product.
        product: record of the product; None if the contract has no such product.
        version: requested version; None requests the newest active version.
        release: record of the release; None if the contract has no such release.
        newest: the newest version that is active at the block; None if no version is active.
        revocation: when and why the release was revoked; None if it was not revoked, or if the node lacks the event.
    """

    chain_id: int
    contract: str
    block_number: int
    block_time: int
    newest_block: int
    paused: bool
    requested: str
    product: Product | None
    version: Version | None
    release: Release | None
    newest: Version | None
    revocation: Revocation | None = None


@dataclass(frozen=True)
class InterruptedRun:
    """An interrupted flash run of the same product, as recorded in the board's journal.

    Attributes:
        version: version that the run was writing.
        replaced: the version that was installed before the run; None if no version was installed.
        is_revoked: whether `version` has been revoked.
        is_replaced_revoked: whether `replaced` is revoked.
    """

    version: Version
    replaced: Version | None
    is_revoked: bool
    is_replaced_revoked: bool = False


@dataclass(frozen=True)
class BoardAnswer:
    """The state of a board before a run. Below, "the range" means the address range of the release.

    Attributes:
        chip_id: product id reported by the bootloader (AN3155, Get ID).
        flash: the whole flash.
        ram: the ranges of RAM.
        readout_protected: whether the bootloader refuses to read the flash.
        write_protected: protected ranges of the flash; None if the chip does not report them.
        installed: the version of the product in the range; None if the range does not contain the product.
        other: the release of another product in the range; None if the range does not contain a release of another
            product.
        holds_unknown: whether the range is not blank, and contains neither a release nor a half-written image.
        half_written: whether the range contains the remains of an interrupted run. If it does, the contents match the
            board's journal, or the first words are erased and each later byte is erased or equals the image's byte.
        lost: erased ranges beside a half-written image. Their former contents are lost, because no journal contains
            them.
        interrupted: the interrupted run in the board's journal; None without an interrupted run.
        is_revoked: whether `installed` is revoked.
    """

    chip_id: int
    flash: Region
    ram: tuple[Region, ...]
    readout_protected: bool
    write_protected: tuple[Region, ...] | None
    installed: Version | None
    other: Release | None
    holds_unknown: bool
    half_written: bool
    lost: tuple[Region, ...] = ()
    interrupted: InterruptedRun | None = None
    is_revoked: bool = False

    def newer_than(self, version: Version, *, is_newest: bool) -> str:
        """Return why the operator must consent to a downgrade to `version`; empty if consent is not needed.

        The newest active release may replace a revoked release without consent, even if the revoked release is newer.
        An interrupted run is completed without new consent, because the operator consented when the run began.

        Args:
            version: the version to be written.
            is_newest: whether `version` is the newest active version.
        """
        run = self.interrupted
        if self.installed is not None:
            if version >= self.installed or (self.is_revoked and is_newest):
                return ""
            revoked = ", which is revoked; only the newest active release replaces it" if self.is_revoked else ""
            return f"the board holds {self.installed}{revoked}"
        if run is None or version == run.version:
            return ""
        is_left = run.is_replaced_revoked and is_newest
        if run.replaced is not None and version < run.replaced and not is_left:
            return f"a run that replaced {run.replaced} by {run.version} was interrupted on the board"
        # An older version may replace a revoked one.
        is_older = version < run.version and not run.is_revoked
        return f"a run with {run.version} was interrupted on the board" if is_older else ""

    @property
    def replaced(self) -> Version | None:
        """The version that a run replaces.

        After an interrupted run, this is the version that was installed before the interrupted run.
        """
        return self.installed or (self.interrupted.replaced if self.interrupted else None)

    @property
    def contents(self) -> str:
        """A description of the current contents of the range."""
        if self.installed is not None:
            return f"{self.installed}, which is revoked" if self.is_revoked else str(self.installed)
        if self.other is not None:
            return f"{self.other.product} {self.other.version}"

        if self.lost:
            return (
                "an interrupted run of another bench: the bytes beside the image in "
                f"{shortened(self.lost)} are erased, and only the journal of that bench has their former values"
            )

        if self.holds_unknown:
            return "unknown contents"
        return "an interrupted run" if self.half_written else "blank flash"


@dataclass(frozen=True)
class Consent:
    """The operator's consent to actions that are refused by default.

    Attributes:
        allow_downgrade: replace a newer version by an older version. A version below the floor is refused even with
            consent.
        replace_unknown: replace contents that are not a release of any product.
        replace_product: name of the other product that the release may replace; None refuses all other products.
        configuration: the image is data without a vector table; ignored for an image at the start of the flash.

    Examples:
        >>> Consent(allow_downgrade=True).replace_unknown
        False
    """

    allow_downgrade: bool = False
    replace_unknown: bool = False
    replace_product: str | None = None
    configuration: bool = False


@dataclass(frozen=True)
class Passed:
    """A check that passed.

    Attributes:
        number: number of the check, 1 to 10.
        what: the comparison in words, with the values.
    """

    number: int
    what: str


def proof_words(method: str) -> str:
    """Describe a proof method. Results and logs record the method as ``stub`` or ``read-back``."""
    return "hashed on the chip" if method == "stub" else method


@dataclass(frozen=True)
class ProvenRecord:
    """A release with an image that passed checks 1 to 5. Only `model.verification` creates a `ProvenRecord`.

    Attributes:
        release: record of the release.
        product: record of the product.
        passed: the passed checks, in order.
        is_newest: whether the release is the newest active release of its product.
    """

    release: Release
    product: Product
    passed: tuple[Passed, ...]
    is_newest: bool


@dataclass(frozen=True)
class ProvenRelease(ProvenRecord):
    """A release that passed checks 1 to 5, with its image in memory.

    Attributes:
        image: the image, whose SHA-256 equals the record's.
        description: the manifest of the release, for check 9; empty if check 9 does not need the manifest.

    Examples:
        >>> proven = network.fetch("acme-thermo2")
        >>> str(proven.release.version), len(proven.image), proven.passed[3].number
        ('1.0.0', 584, 4)
    """

    image: bytes
    description: Description = NO_DESCRIPTION


@dataclass(frozen=True)
class KnownReleases:
    """Every release of the contract that a board may contain.

    Attributes:
        own: releases of the product that is flashed.
        others: a function that returns the releases of all other products. It is called only if the board does not
            contain a release in `own`.
    """

    own: tuple[Release, ...]
    others: Callable[[], Sequence[Release]]
