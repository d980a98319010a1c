"""The common base of the contract bindings: deploy, read, send, and explain refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from blockota.bindings.refusals import explain
from blockota.chain import Chain, Receipt
from blockota.errors import RefusedError, RevertedError
from blockota.formats.abi import DecodingError, artifact, interface
from blockota.settings import REGISTRIES, publisher_of

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

Status = TypeVar("Status", bound=Enum)
Record = TypeVar("Record")
PAGE = 64
"""The number of records that one call requests."""


def status_of(kind: type[Status], number: int, *, of: str, setting: str) -> Status:
    """Convert the status number of a contract's record into a status.

    Raises:
        RefusedError: this version of BlockOTA does not know the status.
    """
    try:
        return kind(number)
    except ValueError as error:
        raise RefusedError(
            "the contract's answer is not valid",
            why=f"{of} has the status {number}, and this version of BlockOTA does not know this status",
            remedy=f"update BlockOTA, or correct the setting {setting} in blockota.toml",
        ) from error


@contextmanager
def refusals_in_words() -> Iterator[None]:
    """Translate the revert data of an error in the ``with`` block into an error message."""
    try:
        yield
    except RevertedError as error:
        raise explain(error) from error


def create(chain: Chain, account: BaseAccount, name: str, *arguments: Any) -> tuple[str, Receipt]:
    """Deploy a packaged contract, and return its address and the receipt.

    Args:
        chain: the chain.
        account: the account that pays.
        name: the contract's name in the Solidity source.
        arguments: the arguments of its constructor.
    """
    creation = bytes.fromhex(artifact(name)["bytecode"].removeprefix("0x"))
    with refusals_in_words():
        receipt = chain.send(account, creation + interface(name).encode_constructor(*arguments))
    if receipt.contract is None:
        raise AssertionError("the receipt of a contract creation has no contract address")
    return receipt.contract, receipt


class Contract:
    """A deployed contract. Each subclass has the functions of one contract.

    Args:
        chain: the chain with the contract.
        address: address of the contract.
        first_block: number of the first block to search for events, such as the block of the contract's deployment.
    """

    NAME: ClassVar[str]
    """The contract's name in the Solidity source."""
    SETTING: ClassVar[str]
    """The name of the setting with the contract's address."""

    def __init__(self, chain: Chain, address: str, *, first_block: int = 0) -> None:
        self.chain, self.address, self.first_block = chain, address, first_block

    @classmethod
    def _create(cls, chain: Chain, account: BaseAccount, *arguments: Any) -> tuple[Self, Receipt]:
        address, receipt = create(chain, account, cls.NAME, *arguments)
        return cls(chain, address), receipt

    def _send(self, account: BaseAccount, function: str, *arguments: Any) -> Receipt:
        with refusals_in_words():
            return self.chain.send(account, interface(self.NAME).encode_call(function, *arguments), to=self.address)

    def _ask(self, function: str, *arguments: Any, block: int | None = None) -> Any:
        return self._ask_many(function, [arguments], block=block)[0]

    def _ask_many(self, function: str, arguments: Iterable[Sequence[Any]], *, block: int | None = None) -> list[Any]:
        """Call one function once for each element of `arguments`, at one block and in few requests."""
        return self._ask_all([(function, one) for one in arguments], block=block)

    def _ask_all(self, calls: Sequence[tuple[str, Sequence[Any]]], *, block: int | None = None) -> list[Any]:
        """Call several functions at one block, in few requests."""
        known = interface(self.NAME)
        questions = [(self.address, known.encode_call(function, *arguments)) for function, arguments in calls]

        try:
            answers = self.chain.call_many(questions, block=block)
            return [known.decode_result(call[0], answer) for call, answer in zip(calls, answers, strict=True)]
        except (DecodingError, RevertedError) as error:
            publisher = publisher_of(self.SETTING)
            when = "" if block is None else f", at block {block},"
            wait = "" if block is None else "; if the contract was deployed after that block, wait for confirmations"
            raise RefusedError(
                f"no {self.NAME} contract at {self.address}",
                why=f"the code at this address on chain {self.chain.chain_id}{when} does not implement {calls[0][0]}()",
                remedy=f"compare {self.SETTING} and url in blockota.toml with the {publisher}'s settings{wait}",
            ) from error

    def _pages(
        self, function: str, make: Callable[[Mapping[str, Any]], Record | None], *arguments: Any, block: int | None
    ) -> list[Record]:
        """Read one of the contract's lists page by page, and return its records."""
        found: list[Record] = []
        while True:
            page = self._ask(function, *arguments, len(found), PAGE, block=block)
            found += [one for record in page if (one := make(record)) is not None]
            if len(page) < PAGE:
                return found


class OwnedContract(Contract):
    """A contract that has an owner, usually a Safe. Only the owner may call some of the functions."""

    def owner(self, *, block: int | None = None) -> str:
        """Return the address of the contract's owner."""
        return str(self._ask("owner", block=block))


def registry_at(chain: Chain, setting: str, address: str) -> OwnedContract:
    """Bind a contract of `REGISTRIES` with only the functions of `OwnedContract`."""
    names = {"NAME": REGISTRIES[setting], "SETTING": setting}
    registry: OwnedContract = type("Registry", (OwnedContract,), names)(chain, address)
    return registry
