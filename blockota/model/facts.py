"""What the verification decides upon, and what it answers.

In: what the person believes, what the chain said, what the board said. Out: the checks that held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from blockota.model.release import Product, Region, Release, Version


@dataclass(frozen=True)
class Trust:
    """What the person at the bench has configured, and therefore believes.

    Attributes:
        chain_id: the chain's number (EIP-155).
        contract: address of the vendor's BlockOTA contract.
        confirmations: blocks that must lie above the block of an answer.
    """

    chain_id: int
    contract: str
    confirmations: int


@dataclass(frozen=True)
class ChainAnswer:
    """What the chain said, all at one block.

    Attributes:
        chain_id: as the node reports it.
        contract: the address that was asked.
        block_number: the block of the answer.
        block_time: its Unix time, in seconds.
        newest_block: the number of the newest block the node knows.
        paused: whether the vendor stopped the contract.
        product: None where the contract does not know it.
        version: the version that was asked for; None asks for the newest active one.
        release: None where the contract has no such record.
    """

    chain_id: int
    contract: str
    block_number: int
    block_time: int
    newest_block: int
    paused: bool
    product: Product | None
    version: Version | None
    release: Release | None


@dataclass(frozen=True)
class InterruptedRun:
    """A run of the same product that was begun on a board and not completed.

    Attributes:
        version: what it was to put there.
        replaced: the version that the board held before, if it held one.
        is_revoked: whether the version was withdrawn since.
    """

    version: Version
    replaced: Version | None
    is_revoked: bool


@dataclass(frozen=True)
class BoardAnswer:
    """What the board said before anything was written.

    Attributes:
        chip_id: product id that the bootloader reported.
        flash: all of its flash.
        ram: all of its RAM.
        readout_protected: whether the bootloader refuses to read the flash.
        write_protected: the protected ranges of flash; None where this chip does not tell.
        installed: version found on the board, if any.
        other: a release of another product that the release's addresses hold, if any.
        holds_unknown: whether they hold something that is no release of any product, not blank, and not
            `half_written`.
        half_written: whether they hold what an interrupted run leaves: the image's first words are erased, and each
            other byte is erased or the image's; or what the board's journal says that a run was changing.
        lost: where it is half written and no journal tells of it: the erased addresses beside the image, of which
            nobody here knows what they held.
        interrupted: the run that left it so, or blank, as its journal tells; None where there was none.
    """

    chip_id: int
    flash: Region
    ram: Region
    readout_protected: bool
    write_protected: tuple[Region, ...] | None
    installed: Version | None
    other: Release | None
    holds_unknown: bool
    half_written: bool
    lost: tuple[Region, ...] = ()
    interrupted: InterruptedRun | None = None

    def newer_than(self, version: Version) -> str:
        """What says that a version would be a downgrade, in words; empty where nothing does.

        A run that was agreed to, and then interrupted, is completed without being agreed to again.
        """
        run = self.interrupted
        if self.installed is not None:
            return f"the board holds {self.installed}" if version < self.installed else ""
        if run is None or version == run.version:
            return ""
        if run.replaced is not None and version < run.replaced:
            return f"the board held {run.replaced} when a run with {run.version} was interrupted on it"
        is_older = version < run.version and not run.is_revoked
        return f"a run with {run.version} was interrupted on the board" if is_older else ""

    @property
    def replaced(self) -> Version | None:
        """The version that a run takes away from the board; one that was interrupted has taken it already."""
        return self.installed or (self.interrupted.replaced if self.interrupted else None)

    @property
    def contents(self) -> str:
        """What is replaced, in words."""
        if self.installed is not None:
            return str(self.installed)
        if self.other is not None:
            return f"{self.other.product} {self.other.version}"
        if self.lost:
            return (
                "an interrupted run, which was begun at another bench: bytes that stood beside the image in "
                f"{', '.join(map(str, self.lost))} are erased, and only the journal there can have them"
            )
        return (
            "unknown contents" if self.holds_unknown else "an interrupted run" if self.half_written else "blank flash"
        )


@dataclass(frozen=True)
class Consent:
    """What the person at the bench agreed to.

    Attributes:
        allow_downgrade: replace an installed version that is newer; never by one below the floor.
        replace_unknown: replace contents that are no release.
        replace_product: the name of another product that may be replaced; None for no other.
        configuration: the image is data without a vector table; not believed of one at the start of the flash.
    """

    allow_downgrade: bool = False
    replace_unknown: bool = False
    replace_product: str | None = None
    configuration: bool = False


@dataclass(frozen=True)
class Passed:
    """A check that held, with what was compared."""

    number: int
    what: str


@dataclass(frozen=True)
class ProvenRecord:
    """A release of which an image passed checks 1 to 5; only `verification` makes one.

    Attributes:
        release: the chain's record.
        product: the product's record.
        passed: the checks, in order.
    """

    release: Release
    product: Product
    passed: tuple[Passed, ...]


@dataclass(frozen=True)
class ProvenRelease(ProvenRecord):
    """The same, with the image.

    Attributes:
        image: the bytes, equal to the record.
    """

    image: bytes


@dataclass(frozen=True)
class KnownReleases:
    """Every release that a board may hold, as far as the record says.

    Attributes:
        own: those of the product that is to be flashed.
        others: gives those of all other products of the contract; asked only about a board that holds none of `own`.
    """

    own: tuple[Release, ...]
    others: Callable[[], Sequence[Release]]
