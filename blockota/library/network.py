"""The class `Network`, by which scripts read, publish, sign, fetch, verify and flash a vendor's releases."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar, cast, overload

from blockota.approval.flags import RedFlag
from blockota.approval.intent import one_line
from blockota.approval.proposal import Proposal
from blockota.approval.signature import Signature
from blockota.bindings import safe
from blockota.bindings.block_ota import ContractEvent
from blockota.chain import Receipt
from blockota.connection import Connection
from blockota.desk import complete_draft, inputs_of, queued_view, review_on
from blockota.library.bench import flash_board
from blockota.library.proposals import open_key
from blockota.library.reading import fetch_image, follow_events, verify_image
from blockota.model.container import Container
from blockota.model.draft import Draft
from blockota.model.facts import Consent, ProvenRelease
from blockota.model.release import Product, Release, Version
from blockota.settings import (
    DEFAULT_STORE,
    STATE_FOLDER,
    Settings,
    default_confirmations,
    load_settings,
    require_address,
)
from blockota.stores.store import Store
from blockota.vendor.propose import Reason
from blockota.vendor.publish import propose_releases, propose_revocation
from blockota.vendor.review import review_proposal
from blockota.vendor.unattended import sign_review
from firmware_host.bench.result import BoardResult
from firmware_host.bootloader.entry import BoardLine

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

_Value = TypeVar("_Value")
_WEEK = 7 * 86400
"""The time until a proposal expires, in seconds."""


class Network:
    """A vendor's contract on a chain, with a content store. Connections are opened at their first use.

    Threads must not share a `Network`: open a `Network` in each thread.

    Args:
        settings: the settings, which `from_settings` reads from a file, and which `at` creates without a file.

    Attributes:
        settings: the settings.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings: Settings = settings
        self._connection = Connection(settings, purpose="blockota library")
        self._queue: dict[str, Proposal] = {}

    @classmethod
    def from_settings(
        cls, config: str | Path | None = None, *, network: str | None = None, store: str | None = None
    ) -> Self:
        """Open a network with the settings file that the commands use.

        Args:
            config: the settings file; None means ``blockota.toml`` in the current folder, if it exists.
            network: a network's name; None means the network that the file selects.
            store: the URL of the content store, as for `open_store`; None means the store of the settings.

        Raises:
            UsageError: the file cannot be read, or a setting is not valid.

        Examples:
            >>> with Network.from_settings("blockota.toml", network="local") as local:
            ...     local.settings.chain_id
            1337
        """
        settings = load_settings(Path(config) if config else None, network=network, environment=os.environ)
        return cls(replace(settings, store=store or settings.store))

    @classmethod
    def at(
        cls,
        url: str,
        *,
        chain_id: int,
        contract: str,
        confirmations: int | None = None,
        store: str = DEFAULT_STORE,
    ) -> Self:
        """Open a network without a settings file.

        Args:
            url: the JSON-RPC endpoint of a node, ``http://`` or ``https://``.
            chain_id: the required chain id of the node (EIP-155).
            contract: address of the vendor's contract BlockOTA.
            confirmations: the number of blocks that must follow a block before it is read; None means 12, or 0 on a
                local chain.
            store: the URL of the content store, as for `open_store`.

        Raises:
            UsageError: the contract is not an address.

        Examples:
            >>> url, contract = network.settings.url, network.settings.contract
            >>> with Network.at(url, chain_id=1337, contract=contract) as same:
            ...     [product.name for product in same.products()]
            ['acme-thermo2']
        """
        settings = Settings(
            network=f"chain {chain_id}",
            url=url,
            chain_id=chain_id,
            contract=require_address("contract", contract),
            replication=None,
            confirmations=default_confirmations(chain_id) if confirmations is None else confirmations,
            store=store,
            max_fee=None,
            transactions=Path(STATE_FOLDER) / "transactions",
            first_block=0,
        )
        return cls(settings)

    def __enter__(self) -> Self:
        """Return the network."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections to the node."""
        self.close()

    def close(self) -> None:
        """Close the connections to the node. Later calls open new connections.

        Examples:
            >>> network.close()
        """
        self._connection.close()

    @property
    def store(self) -> Store:
        """The content store: ``put``, ``open``, ``has``, ``pin`` and ``unpin``.

        Raises:
            UsageError: the URL in the settings is not the URL of a store.

        Examples:
            >>> import io
            >>> cid = network.store.put(io.BytesIO(b"an image"))
            >>> str(cid), network.store.has(cid)
            ('bafkreiff347546zabq72e6iritd6axc4fphnjrvnqy6tuthxnslsyfys7e', True)
        """
        return self._connection.store

    def products(self) -> list[Product]:
        """Return all products in the order of their first pairing, as of the newest confirmed block.

        Raises:
            UnreachableError: the node is out of reach.
            RefusedError: the node serves another chain, or the contract is not at its address.

        Examples:
            >>> [(product.name, hex(product.chip_id)) for product in network.products()]
            [('acme-thermo2', '0x410')]
        """
        return self._connection.contract.products(block=self._confirmed_block())

    def releases(self, product: str) -> list[Release]:
        """Return all releases of a product, newest first, including revoked and postponed releases.

        Args:
            product: name of the product.

        Raises:
            RefusedError: the product does not exist.
            UsageError: no product can have this name.
            UnreachableError: the node is out of reach.

        Examples:
            >>> [f"{release.version} {release.status}" for release in network.releases("acme-thermo2")]
            ['1.1.0 revoked', '1.0.0 active']
        """
        contract = self._connection.contract
        contract.known_product(product)
        return list(contract.history(product, block=self._confirmed_block()))

    def verify(
        self, image: bytes | str | Path, product: str | None = None, version: Version | str | None = None
    ) -> ProvenRelease:
        """Verify an image against the chain (checks 1 to 5).

        Args:
            image: the bytes of the image, or an image file: raw, Intel HEX, S-record, UF2, DfuSe or ELF.
            product: the expected product; None to accept each product of the vendor.
            version: the expected version; None to accept each version.

        Returns:
            The release with this image; its product and version are in `ProvenRelease.release`.

        Raises:
            VerificationError: a check failed, such as check 3 for a revoked release. The error has the check's number.
            RefusedError: the image is not a release of the product, or the file is not an image.
            UsageError: the file does not exist.
            UnreachableError: the node is out of reach.

        Examples:
            >>> release = network.verify("app-1.0.0.bin").release
            >>> release.product, str(release.version)
            ('acme-thermo2', '1.0.0')
        """
        content = image if isinstance(image, bytes) else Path(image)
        return verify_image(self._connection, content, product, _parsed(version))

    def fetch(
        self, product: str, version: Version | str | None = None, *, sources: Sequence[str] = ()
    ) -> ProvenRelease:
        """Fetch the image of a release, and verify it against the chain (checks 1 to 5).

        Args:
            product: name of the product.
            version: the version; None means the newest active version.
            sources: the URLs of repositories and gateways that are tried after the store and before the settings'
                sources.

        Returns:
            The release with its image in memory. The image is also stored in the content store if the store is local
            and writable.

        Raises:
            VerificationError: a check failed. The error has the check's number.
            UnreachableError: no source serves the image, or the node is out of reach.

        Examples:
            >>> len(network.fetch("acme-thermo2", "1.0.0").image)
            584
        """
        return fetch_image(self._connection, product, _parsed(version), sources=_several(sources))

    def events(self, *, wait: bool = False, pause: float = 12.0) -> Iterator[ContractEvent]:
        """Yield the events of the contract in confirmed blocks, oldest first, from the deployment on.

        An event is yielded once. If a reorganisation replaces a confirmed block, the method yields the events of the
        new blocks, but it cannot take back the events of the replaced block. A higher value of `confirmations` in the
        settings makes such a reorganisation less likely.

        Args:
            wait: whether to wait for further blocks; the iteration then does not end.
            pause: the seconds between two reads while waiting.

        Raises:
            UnreachableError: the node is out of reach, or has pruned the events.

        Examples:
            >>> next(network.events()).name
            'OwnershipTransferred'
        """
        return follow_events(self._connection, pause=pause if wait else None)

    def propose_release(
        self, image: str | Path, draft: Draft, *, reason: str = "", proposer: str = "", nonce: int | None = None
    ) -> Proposal:
        """Put an image into the store, and propose it as a release. The Safe's owners decide.

        Args:
            image: the image file: raw, Intel HEX, S-record, UF2, DfuSe or ELF.
            draft: product, version and options of the publisher; the image is added from the file.
            reason: why the release is proposed, one line for the other owners.
            proposer: your name or role, one line.
            nonce: the Safe's nonce; None means the first nonce after the pending proposals of this `Network`.

        Returns:
            The proposal, which expires after a week.

        Raises:
            RefusedError: the image, the version or the notes are not acceptable, or the contract would refuse them.
                Nothing is stored.
            UsageError: the file does not exist, or contradicts the draft.
            UnreachableError: the chain or the store is out of reach.

        Examples:
            >>> draft = Draft("acme-thermo2", Version(1, 2, 0), notes="Saves power.")
            >>> proposal = network.propose_release("app-1.2.0.bin", draft, reason="saves power")
            >>> proposal.intent[0]["action"]
            'publish a release'
        """
        contract = self._connection.contract
        # Accept text too, from programs without type checks.
        container, bases = Container.parse(draft.container), tuple(map(_parsed, draft.delta_from))
        draft = replace(draft, version=_parsed(draft.version), container=container, delta_from=bases)
        whole = complete_draft(self._connection, draft, Path(image))
        why = self._reason(reason, proposer, nonce)
        return self._queued(propose_releases(contract, [whole], store=self.store, reason=why)[1])

    def propose_revocation(
        self, product: str, version: Version | str, *, reason: str, proposer: str = "", nonce: int | None = None
    ) -> Proposal:
        """Propose to revoke a release permanently. The reason is recorded on the chain.

        Args:
            product: name of the product.
            version: the version to revoke.
            reason: why the release is revoked, one line.
            proposer: your name or role, one line.
            nonce: the Safe's nonce; None means the first nonce after the pending proposals of this `Network`.

        Raises:
            UsageError: the reason is empty.
            RefusedError: the release does not exist, or is revoked already.
            UnreachableError: the node is out of reach.

        Examples:
            >>> proposal = network.propose_revocation("acme-thermo2", "1.0.0", reason="loses its clock")
            >>> proposal.intent[0]["reason"]
            'loses its clock'
        """
        contract, why = self._connection.contract, self._reason(reason, proposer, nonce)
        return self._queued(propose_revocation(contract, product, version=_parsed(version), reason=why))

    def red_flags(self, proposal: Proposal, *, images: Sequence[str | Path] = ()) -> list[RedFlag]:
        """Review a proposal in the same way as `sign`, and return its red flags.

        Args:
            proposal: the proposal.
            images: files of images that the proposal publishes; other images are read from the store or the sources.

        Returns:
            The red flags, which are unusual properties of the proposal. ``what`` describes the property, and ``word``
            is its word for the argument `accept` of `sign`.

        Raises:
            RefusedError: the proposal is for another chain or Safe, or an image is not the image in the calldata.
            UnreachableError: the node is out of reach, or an image was not found.

        Examples:
            >>> proposal, _ = load_proposal("1.1.0.json")
            >>> [str(flag.word) for flag in network.red_flags(proposal)]  # it was executed
            ['nonce']
        """
        connection, now = self._connection, int(time.time())
        view, inputs = queued_view(connection, proposal, self._queue, now=now), inputs_of(connection, _paths(images))
        return review_proposal(proposal, view, inputs, is_required=True).red_flags(signer=None, now=now) or []

    def sign(
        self,
        proposal: Proposal,
        key: str | BaseAccount,
        *,
        password: str | None = None,
        images: Sequence[str | Path] = (),
        accept: Collection[str] = (),
    ) -> Signature:
        """Review a proposal, and sign it as an owner of the Safe unless it has a red flag.

        The calldata is decoded, and each image is hashed on this machine. The method does not ask for confirmation, so
        show the proposal's `intent` to the owner first.

        Args:
            proposal: the proposal.
            key: the owner's key: an account of eth-account, or ``keystore:FILE``, ``ape:ALIAS`` or ``env:NAME``. On a
                local chain, ``dev:N`` is also accepted.
            password: the password of a keystore.
            images: files of images that the proposal publishes; other images are read from the store or the sources.
            accept: the words of red flags that the owner has judged.

        Raises:
            RefusedError: the proposal can no longer be executed or has a red flag that is not accepted, an image is not
                the image in the calldata, or the password is wrong.
            UsageError: the key cannot be read.
            UnreachableError: the node is out of reach, or an image was not found.

        Examples:
            >>> proposal = network.propose_revocation("acme-thermo2", "1.0.0", reason="loses its clock")
            >>> network.sign(proposal, "dev:3").signer
            '0x90F79bf6EB2c4f870365E785982E1f101E93b906'
        """
        account, now = open_key(self._connection, key, password=password), int(time.time())
        review = review_on(self._connection, proposal, self._queue, now=now, images=_paths(images))
        return sign_review(review, account, now=now, accepted=_several(accept))

    def execute(
        self,
        proposal: Proposal,
        signatures: Sequence[Signature],
        key: str | BaseAccount,
        *,
        password: str | None = None,
    ) -> Receipt:
        """Check a signed proposal by the rules of the Safe, simulate its execution, and send the transaction.

        Args:
            proposal: the proposal.
            signatures: signatures of at least as many owners as the Safe's threshold.
            key: the key that pays for the transaction, in one of the forms that `sign` accepts. The payer need not be
                an owner.
            password: the password of a keystore.

        Returns:
            The receipt of the transaction, after the configured number of confirmations.

        Raises:
            RefusedError: the proposal has expired, was executed, or has too few signatures; the contract refused the
                call; or the key cannot pay for the transaction.
            UsageError: the key cannot be read.
            UnreachableError: the node is out of reach.

        Examples:
            >>> proposal, signatures = load_proposal("1.1.0.json")
            >>> network.execute(proposal, signatures, "dev:0")
            Traceback (most recent call last):
            blockota.errors.ProposalError: ...
        """
        account = open_key(self._connection, key, password=password)
        chain, now = self._connection.chain, int(time.time())
        return safe.execute(chain, proposal, signatures=signatures, account=account, now=now)

    def flash(
        self,
        port: str | BoardLine,
        product: str,
        version: Version | str | None = None,
        *,
        consent: Consent | None = None,
        operator: str = "",
    ) -> BoardResult:
        """Write a verified release to one board, check the written flash, and record the board in the bench log.

        The board's bootloader must be running: set BOOT0 to 1 and reset the board, or give a `BoardLine` with the
        wiring of its control lines. A KeyboardInterrupt, for example from Ctrl-C, ends the run with a `BoardError` that
        describes the state of the flash. The next call completes an interrupted run.

        Args:
            port: a serial device, ``socket://HOST:PORT`` or ``rfc2217://HOST:PORT``; or a `BoardLine`.
            product: name of the product.
            version: the version; None means the newest active version.
            consent: the board contents that may be replaced; None to refuse all replacements that need consent.
            operator: the operator's name in the bench log; empty for the login name.

        Returns:
            The result, with the passed checks, the board's identity and the line of the bench log.

        Raises:
            VerificationError: one of checks 1 to 9 failed; nothing was changed.
            BoardError: the board or its line failed, the run was interrupted, or check 10 failed.
            RefusedError: the bench log is damaged.
            UnreachableError: the node is out of reach, or no source serves the image.

        Examples:
            >>> network.flash("socket://127.0.0.1:1", "acme-thermo2")
            Traceback (most recent call last):
            blockota.errors.LinkError: ...
        """
        line, wanted = BoardLine(port) if isinstance(port, str) else port, (product, _parsed(version))
        return flash_board(self._connection, line, wanted, consent=consent or Consent(), operator=operator)

    def _confirmed_block(self) -> int:
        return self._connection.chain.head().last_confirmed(self.settings.confirmations)

    def _reason(self, text: str, proposer: str, nonce: int | None) -> Reason:
        return Reason(
            one_line(text), int(time.time()), _WEEK, nonce=nonce, proposer=one_line(proposer), queued=self._queue
        )

    def _queued(self, proposal: Proposal) -> Proposal:
        """Record the nonce of a proposal, so that the next proposal uses a later nonce."""
        self._queue[f"proposal {len(self._queue) + 1}"] = proposal
        return proposal


@overload
def _parsed(version: Version | str) -> Version: ...
@overload
def _parsed(version: Version | str | None) -> Version | None: ...
def _parsed(version: Version | str | None) -> Version | None:
    return Version.parse(version) if isinstance(version, str) else version


def _paths(images: Sequence[str | Path]) -> list[Path]:
    return [Path(image) for image in _several(images)]


def _several(values: Collection[_Value]) -> list[_Value]:
    """Return the values of an argument as a list.

    A program without type checks may pass a single text or path, which is treated as one value. Without this rule, the
    argument "unpairing" would also accept the red flag "pairing", because "unpairing" contains this word.
    """
    return [cast("_Value", values)] if isinstance(values, str | Path) else list(values)
