"""Reads the state of the chain that owners need before they sign a proposal of their Safe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from blockota.approval.chain_view import ChainView
from blockota.approval.intent import KnownCall
from blockota.approval.registry_flags import open_questions
from blockota.bindings.block_ota import BlockOTAContract
from blockota.bindings.contract import OwnedContract, registry_at
from blockota.bindings.replication import ReplicationContract
from blockota.bindings.safe import read_safe
from blockota.chain import Chain
from blockota.ethereum import to_checksum_address
from blockota.model.agreement import Agreement
from blockota.model.release import Product, Release
from blockota.settings import REGISTRIES


@dataclass(frozen=True)
class Desk:
    """A Safe, and the configured contracts that it owns.

    Attributes:
        safe: address of the Safe; if empty, the owner of `contract` is used.
        contract: the contract BlockOTA of the Safe; None if the Safe does not own a BlockOTA.
        replication: the contract FirmwareReplication for `contract`; None without a replication contract.
        registries: addresses of the further contracts of the Safe, by their names.
    """

    chain: Chain
    safe: str = ""
    contract: BlockOTAContract | None = None
    replication: ReplicationContract | None = None
    registries: Mapping[str, str] = field(default_factory=dict)

    @property
    def owned(self) -> OwnedContract:
        """A contract that the Safe owns."""
        if self.contract:
            return self.contract
        setting = next(key for key, name in REGISTRIES.items() if name in self.registries)
        return registry_at(self.chain, setting, self.registries[REGISTRIES[setting]])


def read_view(desk: Desk, calls: Iterable[KnownCall] = (), *, confirmations: int = 0) -> ChainView:
    """Read the state of the chain at its newest block.

    Args:
        desk: the Safe and its contracts.
        calls: the calls under review. The view contains the agreements and records that the calls concern.
        confirmations: the number of blocks that must follow the block of an agreement. If fewer blocks follow, the
            agreement is marked `shallow`.

    Raises:
        ChainError: a reorganisation replaced the block during the reads.
    """
    chain, contract, replication, calls = desk.chain, desk.contract, desk.replication, list(calls)
    head = chain.head()
    products: tuple[Product, ...] = ()
    newest: Sequence[Release] = ()
    agreements: tuple[Agreement, ...] = ()
    shallow: list[int] = []
    if contract:
        products = tuple(contract.products(block=head.number))
        newest = contract.newest((product.name for product in products), block=head.number)
    if replication:
        about = sorted({terms["id"] for call in calls for terms in call.agreements})
        agreements = tuple(replication.agreements_of(about, block=head.number).values())
        # If an agreement was different at an earlier block, a reorganisation can bring the earlier agreement back.
        shallow = replication.shallow(agreements, block=head.last_confirmed(confirmations))

    owner = desk.safe or (contract.owner(block=head.number) if contract else "")
    safe = read_safe(chain, owner, block=head.number)
    contract_address = to_checksum_address(contract.address) if contract else None
    replication_address = to_checksum_address(replication.address) if replication else None
    view = ChainView(
        chain_id=chain.chain_id,
        block_number=head.number,
        block_hash=head.hash,
        block_time=head.time,
        contract=contract_address,
        replication=replication_address,
        safe=safe,
        products=products,
        newest=tuple(newest),
        agreements=agreements,
        shallow=tuple(shallow),
        contract_owners=chain.find_contracts(safe.owners, block=head.number),
        registries={name: to_checksum_address(address) for name, address in desk.registries.items()},
    )
    view = _with_answers(view, calls, chain)
    chain.check_unchanged(head)
    return view


def _with_answers(view: ChainView, calls: Sequence[KnownCall], chain: Chain) -> ChainView:
    """Add the records that red flags of calls to registries need.

    If the address or number of a record depends on another record, the record is read in a later round.
    """
    while questions := list(dict.fromkeys(one for call in calls for one in open_questions(call, view))):
        asked = [(one.address, one.calldata) for one in questions]
        found = chain.try_calls(asked, block=view.block_number)
        # The called contracts can be of any kind. A result that cannot be decoded is not put into the view.
        known = {
            key: result if result is not None and question.decode(result) is not None else None
            for question, key, result in zip(questions, asked, found, strict=True)
        }
        view = replace(view, answers={**view.answers, **known})
    return view
