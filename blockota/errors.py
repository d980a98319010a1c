"""The tree of all errors of BlockOTA.

A command that fails with an error ends with the exit status in this tree. An error without an exit status has the exit
status of its parent::

    BlockOTAError               1  a defect of ours
    ├── UsageError              2  an argument, setting or file is not valid
    ├── RefusedError            3  a check failed, nothing was changed
    │   ├── ImageError             a file is not a firmware image for this target
    │   ├── ContentError           bytes do not match their content address
    │   │   └── HashMismatchError  a block's bytes do not match its content address
    │   ├── ProposalError          a proposal or its signatures cannot be used
    │   ├── AccessRefusedError     a device, or its credentials, are not accepted by a gateway
    │   ├── LimitReachedError      a device sends more than a gateway accepts in a minute
    │   ├── ContractRefusalError   the contract or the Safe refused a transaction
    │   │   └── RevertedError      a call was reverted, and its revert data is not decoded yet
    │   └── VerificationError      one of the first nine checks of `verification` failed
    ├── BoardError              4  the board or its link
    │   ├── FlashProofError        check 10 failed: the flash was changed but does not contain the release
    │   ├── LinkError              the board's port cannot be opened, or the connection was lost
    │   ├── NoAnswerError          the board does not answer
    │   └── BoardProtocolError     the board's answer violates AN3155
    └── UnreachableError        5  chain or store out of reach
        ├── ChainError             the node is out of reach, or cannot fulfil the request
        ├── MessagingError         the message broker is out of reach, or refuses the connection
        └── StoreError             the content store cannot be read or written
            └── NotInStoreError    the store works, but does not have the block
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum, auto
from typing import Self, TypedDict, Unpack

_LINE_ENDS = re.compile(r"\s*[\r\n]+\s*")
_LISTED = 3
"""The maximum number of list items in a message."""


class Action(Enum):
    """A remedy that a command or an option carries out.

    The library does not name commands and options: `blockota.cli.remedies` appends the command or option of an error's
    `action` to the error's `remedy`. If an option needs a value, the comment after its member names the value in
    parentheses, such as ``(hash)``.
    """

    # Images, stores and sources
    CHOOSE_STORE = auto()
    NAME_SOURCE = auto()
    TAKE_IMAGE_ELSEWHERE = auto()  # another store, a source, or a file
    FETCH_IMAGE = auto()
    COMPUTE_CONTENT_ADDRESS = auto()
    OVERWRITE = auto()
    CHOOSE_OUTPUT = auto()
    # Products, releases and the contract
    LIST_PRODUCTS = auto()
    PAIR_PRODUCT = auto()
    LIST_RELEASES = auto()
    RESUME_CONTRACT = auto()
    OMIT_MANIFEST = auto()
    PUBLISH_AS_CONFIGURATION = auto()
    PUBLISH_BELOW_NEWEST = auto()
    PUBLISH_AT_ONCE = auto()  # without an active-from time
    GIVE_LOAD_ADDRESS = auto()  # (address)
    GIVE_OR_ACCEPT_LOAD_ADDRESS = auto()  # (address)
    ACCEPT_LOAD_ADDRESS = auto()
    CHOOSE_CONTAINER = auto()
    SIGN_IMAGE = auto()
    FILL_GAPS = auto()
    LIST_CHIPS = auto()
    PROTECT_BOARD = auto()
    PUBLISH_TOGETHER = auto()  # several releases in one proposal
    GIVE_REASON = auto()
    # Proposals
    CHOOSE_NETWORK = auto()
    CHOOSE_NONCE = auto()
    SIGN_LATER = auto()  # make the proposal without a signature, then have owners sign it
    SIGN_PROPOSAL = auto()
    SHOW_PROPOSAL = auto()
    REJECT_PROPOSAL = auto()
    LIST_PROPOSALS = auto()
    ACCEPT_UNSIGNED_TEXT = auto()
    EXPORT_VIEW = auto()
    MAKE_PACK = auto()
    LIST_OWNERS = auto()
    # The chain and its transactions
    START_LOCAL_CHAIN = auto()
    NAME_SETTINGS = auto()
    DEPLOY = auto()
    CHOOSE_PORT = auto()
    LIST_TRANSACTIONS = auto()
    RESUME_TRANSACTION = auto()  # (hash)
    RAISE_FEE = auto()  # (hash)
    FORGET_TRANSACTION = auto()  # (hash)
    RESUME_OR_FORGET_TRANSACTION = auto()  # (hash)
    LIST_APE_ACCOUNTS = auto()
    MAKE_KEY = auto()
    USE_KEY = auto()
    # Brokers and repositories
    LIST_AGREEMENTS = auto()
    LIST_PRODUCERS = auto()
    LIST_IDENTITIES = auto()
    LIST_DEVICES = auto()
    LIST_REGISTRANTS = auto()
    LIST_SPECS = auto()
    LIST_SITES = auto()
    IMPORT_SPEC = auto()
    ADMIT_REGISTRANT = auto()
    LIST_ORDERS = auto()
    SHOW_LOG = auto()
    DECIDE_ON_LOG = auto()
    NAME_VENDOR_SOURCE = auto()
    FORGIVE_SOURCE = auto()
    NAME_STATE_FILE = auto()
    MAKE_TOKEN = auto()
    LISTEN_ELSEWHERE = auto()
    # Boards and benches
    NAME_PRODUCT = auto()
    ALLOW_DOWNGRADE = auto()
    RESUME_OR_ALLOW_DOWNGRADE = auto()
    REPLACE_PRODUCT = auto()  # (product)
    REPLACE_UNKNOWN = auto()
    UNPROTECT_READOUT = auto()
    UNPROTECT_WRITE = auto()
    CONFIRM_FLASH_SIZE = auto()
    ERASE_EVERYTHING = auto()
    RESUME_FLASH = auto()  # (line)
    RESUME_FLASH_WITHOUT_STUB = auto()  # (line)
    FLASH_PRODUCT = auto()  # (product)
    FLASH_OTHER_RELEASE = auto()  # (product, version)
    OMIT_IMAGE = auto()
    FLASH_WITHOUT_STUB = auto()
    LOWER_BAUD = auto()
    CHOOSE_WIRING = auto()
    USE_LINE = auto()  # (line)
    RESET_BY_HAND = auto()  # without a wiring
    INVERT_BOOT0 = auto()
    DIAGNOSE_LINE = auto()
    IDENTIFY_BOARD = auto()
    NAME_LOG = auto()
    NAME_PORT = auto()
    LIST_PORTS = auto()
    OMIT_ECHO = auto()
    SWITCH_RS485_ELSEWHERE = auto()  # not by RTS
    CHOOSE_START = auto()
    EXPORT_CONFIRMED_LINES = auto()
    NAME_BOARD_PRODUCT = auto()
    NAME_IMAGE_COMMAND = auto()
    NEW_BOARD_IMAGE = auto()
    # Logs and receipts
    MAKE_LOG_KEY = auto()
    NAME_TRUST = auto()
    # Tunnels
    MAKE_TUNNEL_KEY = auto()
    OPEN_TUNNELS = auto()
    # The gateway
    INIT_GATEWAY = auto()
    RUN_GATEWAY = auto()
    SHOW_GATEWAY_DEVICE = auto()
    # The cloud
    INIT_CLOUD = auto()
    RUN_CLOUD = auto()
    # The validator
    INIT_VALIDATOR = auto()
    RUN_VALIDATOR = auto()
    # Packages
    INSTALL_EXTRAS = auto()  # (extras)
    INSTALL_APE = auto()


class BlockOTAError(Exception):
    """An error with its reason and its remedy.

    Args:
        what: what happened, a clause without a full stop.
        why: the reason, with the relevant values.
        remedy: what to do next, a clause in the imperative, in the words of the domain.
        action: the command or option that carries out the remedy; None if the command line has none.
        values: values for the action's option, such as the hash of a transaction.

    Attributes:
        result: fields that describe the work done before the error, for the JSON report.

    The error's text is the sentence ``what: why.``, followed by the remedy as a second sentence if one is given.
    """

    exit_status = 1

    def __init__(
        self,
        what: str,
        *,
        why: str = "",
        remedy: str = "",
        action: Action | None = None,
        values: Mapping[str, object] | None = None,
    ) -> None:
        # Messages of nodes, devices and libraries can have several lines, but an error's text is one line.
        self.what, self.why, self.remedy = (_LINE_ENDS.sub(" ", part) for part in (what, why, remedy))
        self.action, self.values = action, dict(values or {})
        self.result: Mapping[str, object] = {}
        super().__init__(self.with_remedy(self.remedy))

    def with_remedy(self, remedy: str) -> str:
        """Return the error's text with the given remedy instead of its own remedy; an empty remedy is omitted."""
        text = f"{self.what}: {self.why}" if self.why else self.what
        text += "" if text.endswith((".", "?", "!")) else "."  # a text of another program can be a whole sentence
        return f"{text} {remedy[:1].upper()}{remedy[1:]}." if remedy else text

    def revised(self, *, what: str | None = None, **parts: Unpack[ErrorParts]) -> Self:
        """Return an error of the same class, with some parts replaced."""
        error = type(self).__new__(type(self))
        vars(error).update(vars(self))
        kept: ErrorParts = {"why": self.why, "remedy": self.remedy, "action": self.action, "values": self.values}
        kept.update(parts)
        BlockOTAError.__init__(error, self.what if what is None else what, **kept)
        return error


class ErrorParts(TypedDict, total=False):
    """The keyword arguments of `BlockOTAError`."""

    why: str
    remedy: str
    action: Action | None
    values: Mapping[str, object] | None


class UsageError(BlockOTAError):
    """An argument, setting or file is not valid."""

    exit_status = 2


class RefusedError(BlockOTAError):
    """A check failed; nothing was changed."""

    exit_status = 3


class ImageError(RefusedError):
    """A file is not a firmware image for this target."""


class ContentError(RefusedError):
    """Bytes do not match their content address."""


class HashMismatchError(ContentError):
    """The hash of a block's bytes is not the hash in the block's content address."""


class ProposalError(RefusedError):
    """A proposal or its signatures cannot be used."""


class AccessRefusedError(RefusedError):
    """A gateway does not accept a device or its credentials."""


class LimitReachedError(RefusedError):
    """A device sends more than a gateway accepts in a minute. The gateway can accept the same message later."""


class ContractRefusalError(RefusedError):
    """The contract or the Safe refused a transaction."""


class RevertedError(ContractRefusalError):
    """A call or transaction was reverted.

    Args:
        data: the revert data: a custom error's selector and arguments, or empty.
        message: the node's error message.
    """

    def __init__(self, data: bytes, message: str) -> None:
        self.data, self.message = data, message
        super().__init__("the contract refused", why=message or f"revert data 0x{data.hex()}")


class VerificationError(RefusedError):
    """One of the checks 1 to 9 failed; nothing was changed. A failure of check 10 is a `FlashProofError`.

    Args:
        number: the check's number, 1 to 9, as in `blockota.model.verification`.
    """

    def __init__(self, number: int, what: str, **parts: Unpack[ErrorParts]) -> None:
        self.number = number
        super().__init__(f"check {number} failed, {what}", **parts)


class BoardError(BlockOTAError):
    """The board or its link failed."""

    exit_status = 4


class FlashProofError(BoardError):
    """Check 10 failed: the flash was changed but does not contain the release.

    Attributes:
        number: the check's number, as in `blockota.model.verification`.
    """

    number = 10


class LinkError(BoardError):
    """The port of the board cannot be opened, its connection was lost, or the line returned a wrong echo."""


class NoAnswerError(BoardError):
    """The board does not answer."""


class BoardProtocolError(BoardError):
    """The board's answer violates AN3155."""


class UnreachableError(BlockOTAError):
    """The chain or the store is out of reach."""

    exit_status = 5


class ChainError(UnreachableError):
    """The node is out of reach, or cannot fulfil the request."""


class MessagingError(UnreachableError):
    """The message broker is out of reach, refuses the connection, or the connection was lost."""


class StoreError(UnreachableError):
    """The content store cannot be read or written."""


class NotInStoreError(StoreError):
    """The store works but does not have the requested block. Another store or source may have the block."""


BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0\U00013441\U00013442\U0001d159")
"""Unicode letters and symbols that are displayed as blanks: a text could use them to imitate columns and rows."""


def missing_package(what: str, package: str, *extras: str) -> UsageError:
    """Return the error for a missing optional Python package.

    Args:
        what: the error's first clause, which states what BlockOTA cannot do.
        package: the package.
        extras: the extras with which BlockOTA must be installed.
    """
    return UsageError(
        what,
        why=f"the package {package} is not installed",
        remedy=f"install BlockOTA with the extra{'s' * (len(extras) > 1)} {' and '.join(extras)}",
        action=Action.INSTALL_EXTRAS,
        values={"extras": ",".join(extras)},
    )


def shortened(items: Iterable[object], separator: str = ", ") -> str:
    """Format the first items of a list and the number of the other items, such as ``a, b, c and 4 more``."""
    words = list(map(str, items))
    rest = len(words) - _LISTED
    return separator.join(words[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")


def plain(value: object) -> str:
    """Escape all characters of a value that could move the cursor, change colours or text direction, or look blank."""
    shown = (letter if letter.isprintable() and letter not in BLANK else ascii(letter)[1:-1] for letter in str(value))
    return "".join(shown)
