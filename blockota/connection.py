"""The chain, the contracts and the content store that settings select, for the command line and the library."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from blockota.bindings.block_ota import BlockOTAContract
from blockota.bindings.contract import Contract, OwnedContract, registry_at
from blockota.bindings.replication import ReplicationContract
from blockota.chain import LOCAL_CHAIN_IDS, Chain, Sending
from blockota.chain.local import LocalChain
from blockota.deployment import GATEWAY_FOLDER
from blockota.errors import Action, ChainError, RefusedError, UsageError
from blockota.model.agreement import Agreement
from blockota.model.facts import Trust
from blockota.model.release import Release
from blockota.settings import FILE_NAME, LOCAL_URL, REGISTRIES, Settings, publisher_of
from blockota.stores.search import ImageSources
from blockota.stores.source import Credentials
from blockota.stores.store import Store, open_store

Opened = TypeVar("Opened", bound=Contract)


class Connection:
    """Opens the chain, the contracts and the store that settings select, each at its first use.

    Args:
        settings: the settings.
        purpose: the command that sends transactions, recorded in the journal.
        note: called with a sentence for each state of a pending transaction.

    Attributes:
        settings: the settings.
    """

    def __init__(
        self, settings: Settings, *, purpose: str = "", note: Callable[[str], object] = lambda _: None
    ) -> None:
        self.settings, self._purpose, self._note = settings, purpose, note

    def close(self) -> None:
        """Close the open connections to the node.

        A later read opens the connections again.
        """
        if "chain" in self.__dict__:
            self.chain.close()

    @functools.cached_property
    def chain(self) -> Chain:
        """The configured chain."""
        settings = self.settings
        limits = (settings.confirmations, settings.max_fee, settings.transactions)
        sending = Sending(*limits, purpose=self._purpose, max_cost=settings.max_cost, note=self._note)
        try:
            return Chain(settings.url, chain_id=settings.chain_id, sending=sending)
        except ChainError as error:
            remedy, action = self._remedy(error.remedy, is_set=settings.url != LOCAL_URL)
            is_missing = action is Action.NAME_SETTINGS
            why = f"{error.why}, and no {FILE_NAME} in this folder names another node" if is_missing else error.why
            raise ChainError(error.what, why=why, remedy=remedy, action=action) from error

    def _remedy(self, otherwise: str, *, is_set: bool = False, owner: str = "vendor") -> tuple[str, Action | None]:
        """Return the remedy for a missing node or contract.

        If the configured node is a local chain in the project's folder, the remedy is to start this chain. If the
        setting is missing because no settings file was read, the remedy is to copy or name the settings file. In all
        other cases, the function returns `otherwise`.
        """
        folder = self.settings.transactions.parent
        ports = [(place, LocalChain.last_port(place)) for place in (folder, folder / GATEWAY_FOLDER)]
        if any(port and LocalChain(place, port).is_at(self.settings.url) for place, port in ports):
            return f"start the local chain in {folder.parent.resolve()}", Action.START_LOCAL_CHAIN
        if self.settings.file is None and not is_set:
            return f"copy the {owner}'s {FILE_NAME} to this folder, or name its path", Action.NAME_SETTINGS
        return otherwise, None

    @property
    def contract_address(self) -> str:
        """Address of the configured contract BlockOTA.

        Raises:
            UsageError: no contract is configured.
        """
        if self.settings.contract is None:
            raise self._not_set("contract", "the vendor's contract")
        return self.settings.contract

    def _not_set(self, key: str, name: str) -> UsageError:
        """Return the error for a contract whose address is not set.

        The remedy refers to the settings file that the contract's publisher provides.
        """
        owner = publisher_of(key)
        file, why = self.settings.file, f"there is no {FILE_NAME} in this folder"
        if file is not None:
            why = f"{file} does not set {key} for the network {self.settings.network!r}"
        remedy, action = self._remedy(f"compare the file with the {owner}'s settings file, and set {key}", owner=owner)
        if file is not None and action is Action.START_LOCAL_CHAIN:
            remedy = f"use the network that has it, or {remedy}"  # the chain can run, and the network be another one
        return UsageError(f"{name} is not known", why=why, remedy=remedy, action=action)

    @functools.cached_property
    def contract(self) -> BlockOTAContract:
        """The configured contract BlockOTA."""
        address = self.contract_address  # report a missing setting before the chain is asked
        return BlockOTAContract(self.chain, address, first_block=self.settings.first_block)

    @functools.cached_property
    def replication(self) -> ReplicationContract:
        """The configured contract FirmwareReplication.

        Raises:
            UsageError: no replication contract is configured.
            RefusedError: the replication contract belongs to another BlockOTA contract.
        """
        address = self.settings.replication
        if address is None:
            raise self._not_set("replication", "the vendor's replication contract")
        contract = ReplicationContract(self.chain, address)
        # Agreements name releases of one BlockOTA contract. In another contract, the same names belong to other images.
        if contract.block_ota().lower() != self.contract_address.lower():
            raise RefusedError(
                "the configured contracts do not belong together",
                why=f"{address} refers to the contract {contract.block_ota()}, not to {self.contract_address}",
                remedy="correct the setting contract or replication in blockota.toml",
            )
        return contract

    def open(self, kind: type[Opened]) -> Opened:
        """Open a contract at the address in the settings, for example ``open(ProducersContract)``.

        Raises:
            UsageError: the settings do not name the contract.
        """
        address = self.registry_address(kind.SETTING)  # report a missing setting before the chain is asked
        return kind(self.chain, address, first_block=self.settings.first_block)

    def owned(self, setting: str) -> OwnedContract:
        """Return a contract that a Safe owns, by the name of its setting: ``contract`` or one of `REGISTRIES`.

        Raises:
            UsageError: the settings do not name the contract.
        """
        if setting == BlockOTAContract.SETTING:
            return self.contract
        address = self.registry_address(setting)
        return registry_at(self.chain, setting, address)

    def registry_address(self, setting: str) -> str:
        """Return the address of a contract by its setting, one of `REGISTRIES`.

        Raises:
            UsageError: the settings do not name the contract.
        """
        if (address := self.settings.registries.get(setting)) is None:
            raise self._not_set(setting, f"the contract {REGISTRIES[setting]}")
        return address

    @property
    def trust(self) -> Trust:
        """The chain, contract and confirmations with which release records are verified."""
        return Trust(self.settings.chain_id, self.contract_address, self.settings.confirmations)

    @functools.cached_property
    def store(self) -> Store:
        """The configured content store."""
        return open_store(self.settings.store, credentials=self.credentials)

    @functools.cached_property
    def credentials(self) -> Credentials:
        """The bearer tokens of repositories and gateways."""
        return Credentials(self.settings.tokens, os.environ)

    @property
    def is_local_chain(self) -> bool:
        """Whether the configured chain is a local development chain."""
        return self.settings.chain_id in LOCAL_CHAIN_IDS

    def image_sources(self, named: Sequence[str] = ()) -> ImageSources:
        """Return the sources of an image.

        The URLs in `named` come first, followed by the sources from the settings and from the chain.
        """

        def replicas(release: Release) -> Iterable[Agreement]:
            return self.replication.replicas(release.product, release.version) if self.settings.replication else ()

        return ImageSources(
            named=tuple(named),
            vendor=self.settings.vendor_sources,
            gateways=self.settings.gateways,
            replicas=replicas,
            allow_private=self.is_local_chain,  # on a public chain, a broker's URL could point into this network
            credentials=self.credentials,
        )
