"""The red flags of proposals, each with the word that an owner types to accept it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum, auto


class Word(StrEnum):
    """The word of each red flag, in the order of the checks. An owner types the word to sign in spite of the flag."""

    DELEGATECALL = auto()  # the transaction runs foreign code with the Safe's own rights
    VALUE = auto()  # the transaction sends ether
    REFUND = auto()  # the transaction sets gas limits or a refund
    SELECTOR = auto()  # the call cannot be decoded
    TARGET = auto()  # the called address is not the contract of the Safe for this call
    EXPIRED = auto()  # the proposal has expired
    FAR = auto()  # the proposal expires more than FAR_EXPIRY from now
    OLD = auto()  # the chain view is older than OLD_VIEW
    CLOCK = auto()  # the local clock is more than SLOW_CLOCK behind the chain
    UNCONFIGURED = auto()  # only the chain view names the contract, not the signer's settings
    STRANGER = auto()  # the signer is not an owner of the Safe
    SAFE = auto()  # this program cannot operate the Safe
    NONCE = auto()  # the nonce is used, or the folder lacks a proposal for an earlier nonce
    MOVED = auto()  # the contract's owner is not the Safe that the signer's settings name
    MANY = auto()  # the proposal publishes more releases than fit on a screen
    UNPAIRED = auto()  # a release is for a product without a pairing
    POSTPONED = auto()  # a release becomes active more than FAR_POSTPONED after the block
    LOWER = auto()  # a release is not newer than the product's newest release
    ROOM = auto()  # a version is the highest possible one, or nearly
    JUMP = auto()  # a version is more than one major version above the newest version
    REGION = auto()  # an image lies outside the product's region
    CONTAINER = auto()  # the container in the manifest does not fit the chip id of the product
    SIGNATURE = auto()  # the product's image key did not sign an image
    COUNTER = auto()  # the security counter falls, or rises while the floor allows a return to the newest release
    ADDRESS = auto()  # a program was linked for another address than its load address
    GROWN = auto()  # an image is more than MUCH_LARGER times as large as the newest image
    OWNERSHIP = auto()  # the contract would get another owner, or none
    FLOOR = auto()  # the floor would exclude every release that can be installed
    UNPAIRING = auto()  # a product would be unpaired
    LOOKALIKE = auto()  # a new product or OEM has a name that resembles a known one
    PAIRING = auto()  # a product would be paired with other hardware than before
    AGREEMENT = auto()  # the agreement does not exist, or differs from the call in its terms or status
    SHALLOW = auto()  # too few blocks follow the agreement: a reorganisation can replace it
    OWNER = auto()  # the Safe would get an additional owner
    SWAP = auto()  # an owner of the Safe would be replaced
    REMOVAL = auto()  # an owner of the Safe would be removed, with as many signatures as today
    ALL = auto()  # every owner would have to sign
    THRESHOLD = auto()  # fewer signatures than today would be enough, or a single one
    UNREAD = auto()  # the chain view lacks a record of a registry that the checks need
    PRODUCER = auto()  # a new producer's contract is not a BlockOTA, or its owner is not a Safe of several
    ADMINISTRATOR = auto()  # an identity would become an Administrator, or an Administrator's keys would change
    KEYS = auto()  # the account or the keys of an identity would change
    UNBAN = auto()  # a ban or a suspension would be lifted
    IMPORT = auto()  # a thing would be imported whose original signature does not cover its nonce
    BLOCKS = auto()  # a site would get many device numbers
    TEXT = auto()  # a signature was made with another tool, and does not cover reason, proposer and expiry


@dataclass(frozen=True)
class RedFlag:
    """An unusual property of a proposal or of its signatures.

    Attributes:
        word: word that the owner types to sign in spite of the flag.
        what: description of the unusual property, a clause without a full stop.
        is_absence: whether the flag reports that the chain view lacks a record. A newer view could contain the record.

    Examples:
        >>> proposal, _ = load_proposal("1.1.0.json")
        >>> [flag] = network.red_flags(proposal)
        >>> flag.what
        "the proposal has nonce ..., and the Safe's next nonce is ...: this or another proposal was executed already"
    """

    word: Word
    what: str
    is_absence: bool = field(default=False, compare=False)

    def as_fields(self) -> dict[str, str]:
        """Return the flag as a JSON object."""
        return {"word": self.word, "what": self.what}
