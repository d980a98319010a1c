"""The BlockOTA contract: read products and releases as values, and encode calls of its functions as calldata."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from blockota.bindings.contract import PAGE, OwnedContract, refusals_in_words, status_of
from blockota.chain import BlockHead, Chain, Log, Receipt
from blockota.errors import Action, ChainError, RefusedError, shortened
from blockota.ethereum import keccak
from blockota.formats.abi import DecodingError, interface
from blockota.formats.cid import CID, RAW
from blockota.model.facts import ChainAnswer, KnownReleases
from blockota.model.release import Product, Region, Release, Revocation, Status, Version, product_key, product_name

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

_RELEASE_PUBLISHED = keccak(
    text="ReleasePublished(bytes32,uint64,bytes32,uint32,uint32,uint40,bytes32,bytes32)",
)
_RELEASE_REVOKED = keccak(text="ReleaseRevoked(bytes32,uint64,bytes32,string)")

# The product's key, the packed version and the SHA-256 in a ``ReleasePublished`` event.
Publication = tuple[bytes, int, bytes]


@dataclass(frozen=True)
class ContractEvent:
    """An event of the contract BlockOTA, such as the publication of a release.

    Attributes:
        name: ``ReleasePublished``, ``ReleaseRevoked``, ``OemPaired``, ``OemUnpaired``, ``MinimumVersionRaised``,
            ``Paused``, ``Unpaused``, or an event about a change of the contract's owner.
        product: name of the product; empty if the event concerns the whole contract.
        version: version of the release, or the new floor (minimum version); None if the event has no version.
        block_number: number of the block with the event.
        transaction: hash of the transaction, ``0x`` and 64 hexadecimal digits.
        arguments: all arguments by name, as in the contract's interface.

    Examples:
        >>> [event] = [event for event in network.events() if event.name == "ReleaseRevoked"]
        >>> event.product, str(event.version), event.arguments["reason"]
        ('acme-thermo2', '1.1.0', 'reboots at 60 °C')
    """

    name: str
    product: str
    version: Version | None
    block_number: int
    transaction: str
    arguments: Mapping[str, Any]


class BlockOTAContract(OwnedContract):
    """The contract that records releases."""

    NAME, SETTING = "BlockOTA", "contract"

    @classmethod
    def deploy(cls, chain: Chain, account: BaseAccount, *, owner: str) -> tuple[Self, Receipt]:
        """Deploy a contract whose owner is the vendor's Safe."""
        return cls._create(chain, account, owner)

    def latest(self, product: str, *, block: int | None = None) -> Release | None:
        """Return the unrevoked release of a product with the greatest version; None without an unrevoked release."""
        return _release(self._ask("latest", product_key(product), block=block))

    def release(self, product: str, version: Version, *, block: int | None = None) -> Release | None:
        """Return one release; None if the release does not exist."""
        return _release(self._ask("release", product_key(product), version.packed, block=block))

    def known_release(self, product: str, version: Version) -> Release:
        """Return one release.

        Raises:
            RefusedError: the product or the release does not exist.
        """
        self.known_product(product)
        found = self.release(product, version)
        if found is None:
            raise RefusedError(
                f"release {product} {version} does not exist",
                why="the contract has no record of it",
                remedy="list the releases",
                action=Action.LIST_RELEASES,
            )
        return found

    def releases(
        self, names: Iterable[tuple[str, Version]], *, block: int | None = None
    ) -> dict[tuple[str, Version], Release]:
        """Return the releases of the given products and versions. The result omits releases that do not exist."""
        wanted = list(dict.fromkeys(names))
        keys = [(product_key(product), version.packed) for product, version in wanted]
        records = self._ask_many("release", keys, block=block)
        found = {name: _release(record) for name, record in zip(wanted, records, strict=True)}
        return {name: release for name, release in found.items() if release}

    def history(self, product: str, *, block: int | None = None) -> Iterator[Release]:
        """Yield all releases of a product, newest first. The contract is read page by page.

        Raises:
            RefusedError: the versions do not decrease from release to release. Without this check, a dishonest node
                could send endless pages.
        """
        start: Version | None = None
        before: Version | None = None

        while True:
            cursor = start.packed if start else 0
            releases = _history_page(
                self._ask("history", product_key(product), cursor, PAGE, block=block), before=before
            )
            yield from releases
            if not releases or releases[-1].previous is None:
                return
            before, start = releases[-1].version, releases[-1].previous

    def histories(self, products: Iterable[str], *, block: int | None = None) -> list[Release]:
        """Return all releases of several products, in few requests. The releases of each product are newest first.

        Raises:
            RefusedError: the versions of a product do not decrease.
        """
        found: dict[str, list[Release]] = {product: [] for product in products}
        cursors = dict.fromkeys(found, 0)

        while cursors:
            questions = [(product_key(product), cursor, PAGE) for product, cursor in cursors.items()]
            pages = zip(cursors, self._ask_many("history", questions, block=block), strict=True)
            cursors = {}
            for product, page in pages:
                known = found[product]
                releases = _history_page(page, before=known[-1].version if known else None)
                known += releases
                if releases and (previous := releases[-1].previous):
                    cursors[product] = previous.packed
        return [release for releases in found.values() for release in releases]

    def newest(self, products: Iterable[str], *, block: int | None = None) -> list[Release]:
        """Return each product's newest unrevoked release. The result omits products without an unrevoked release."""
        records = self._ask_many("latest", [(product_key(product),) for product in products], block=block)
        return [release for record in records if (release := _release(record))]

    def product(self, name: str, *, block: int | None = None) -> Product | None:
        """Return one product; None if the product was never paired."""
        return _product(self._ask("productRecord", product_key(name), block=block))

    def known_product(self, name: str) -> Product:
        """Return one product that was paired at least once.

        Raises:
            RefusedError: the product was never paired.
        """
        product = self.product(name)
        if product is None:
            raise RefusedError(
                f"product {name} does not exist",
                why="the contract has no record of this product",
                remedy="check the name",
                action=Action.LIST_PRODUCTS,
            )
        return product

    def paired_product(self, name: str) -> Product:
        """Return one product for which releases can be published.

        Raises:
            RefusedError: the product does not exist, or is not paired.
        """
        product = self.product(name)
        if product is None or not product.paired:
            known = shortened(product.name for product in self.products() if product.paired)
            raise RefusedError(
                f"{name} is not paired with an OEM",
                why=f"the contract's paired products are: {known or 'none'}",
                remedy="check the name, or pair the product",
                action=Action.PAIR_PRODUCT,
            )
        return product

    def products(self, *, block: int | None = None) -> list[Product]:
        """Return all products in the order of their first pairing."""
        return self._pages("products", _product, block=block)

    def owner_and_paused(self) -> tuple[str, bool]:
        """Return the contract's owner, and whether the contract is paused, in one request."""
        owner, paused = self._ask_all([("owner", ()), ("paused", ())])
        return str(owner), bool(paused)

    def is_paused(self, *, block: int | None = None) -> bool:
        """Whether the contract is paused, which stops all releases."""
        return bool(self._ask("paused", block=block))

    def pause(self, account: BaseAccount) -> Receipt:
        """Pause all releases immediately, as the contract's owner or as one owner of the vendor's Safe.

        Raises:
            ContractRefusalError: the account may not pause the contract, or the contract is already paused.
        """
        return self._send(account, "pause")

    def find_poor(self, owners: Sequence[str]) -> tuple[int, dict[str, int]]:
        """Find the owners of the vendor's Safe whose balance does not cover the cost of a pause.

        Returns:
            The maximum cost of a pause at the current fees, and a dict from owner to balance. The dict contains only
            balances below this cost. All amounts are in wei.

        Raises:
            RefusedError: the contract is already paused, or the fees exceed the limit.
        """
        with refusals_in_words():
            return self.chain.find_poor(owners, pause_call(), to=self.address)

    def manifest_address(self, release: Release) -> CID | None:
        """Return the content address of a release's manifest; None if the release has no manifest.

        Raises:
            RefusedError: the node does not have the event of the publication.
            ChainError: the node is out of reach, or no longer has the events.
        """
        topics = _topics(_RELEASE_PUBLISHED, release)
        manifests = published_manifests(self.chain.logs(self.address, topics, from_block=self.first_block))
        if publication_of(release) not in manifests:
            raise RefusedError(
                f"the event that published {release.product} {release.version} cannot be found",
                why="the node does not have this log of the contract",
                remedy="use another node, because some nodes store only the logs of recent blocks",
            )
        return manifests[publication_of(release)]

    def revocation(self, release: Release, *, block: int | None = None, in_parts: bool = True) -> Revocation | None:
        """Return when and why a release was revoked; None if the node does not have the event of a revocation.

        Args:
            release: the release.
            block: the last block to search; None means the newest block.
            in_parts: whether to search in smaller ranges of blocks if the node refuses the whole range as too large.

        Raises:
            ChainError: the node is out of reach, or no longer has the events.
        """
        topics, first = _topics(_RELEASE_REVOKED, release), self.first_block
        for log in self.chain.logs(self.address, topics, from_block=first, to_block=block, in_parts=in_parts):
            if event := read_event(log):
                time = self.chain.head(event.block_number).time
                return Revocation(event.arguments["reason"], time, event.block_number)
        return None

    def _newest_active(self, product: str, head: BlockHead) -> Release | None:
        """Find the newest active release whose activation time is not after the time of a block.

        If the activation time of each release is later, return the newest release.
        """
        newest = self.latest(product, block=head.number)
        if newest is None or newest.active_from <= head.time:
            return newest
        older = self.history(product, block=head.number)
        return next((r for r in older if r.status is Status.ACTIVE and r.active_from <= head.time), newest)

    def answer(self, product: str, version: Version | None, *, confirmations: int) -> ChainAnswer:
        """Read all chain facts that the verification needs, at one confirmed block.

        Args:
            product: the product's name.
            version: the version; None means the newest version that is active at the confirmed block.
            confirmations: the number of blocks that must follow the confirmed block.

        Raises:
            ChainError: a reorganisation replaced the block while it was read.
        """
        # (1) Choose the block.
        newest, head = self.chain.heads(confirmations)
        # (2) Read everything at the block's number.
        at = head.number
        active = self._newest_active(product, head)
        release = self.release(product, version, block=at) if version else active
        revocation = None
        if release and release.status is Status.REVOKED:
            with suppress(ChainError):  # a revoked release is refused even without the reason
                revocation = self.revocation(release, block=at, in_parts=False)
        answer = ChainAnswer(
            chain_id=self.chain.chain_id,
            contract=self.address,
            block_number=at,
            block_time=head.time,
            newest_block=newest.number,
            paused=self.is_paused(block=at),
            requested=product,
            product=self.product(product, block=at),
            version=version,
            release=release,
            newest=active.version if active else None,
            revocation=revocation,
        )
        # (3) Check that the block was not replaced meanwhile.
        self.chain.check_unchanged(head)
        return answer


def read_event(log: Log) -> ContractEvent | None:
    """Decode a log of the contract; None if the contract's interface does not define the event."""
    try:
        event = interface("BlockOTA").decode_event(log.topics, log.data)
    except DecodingError:
        return None
    if event is None:
        return None

    found = event.arguments
    return ContractEvent(
        name=event.name,
        product=product_name(found.get("product", b"")),
        version=Version.unpack(found.get("version", found.get("minimumVersion", 0))),
        block_number=log.block_number,
        transaction="0x" + log.transaction.hex(),
        arguments=found,
    )


def publish_call(releases: Sequence[Release]) -> bytes:
    """Return the calldata that publishes releases, oldest first."""
    return interface("BlockOTA").encode_call("publish", [_release_argument(release) for release in releases])


def pair_call(product: Product) -> bytes:
    """Return the calldata that pairs a product with its OEM, chip and region."""
    return interface("BlockOTA").encode_call(
        "pairOem",
        product_key(product.name),
        product_key(product.oem),
        product.chip_id,
        product.region.start,
        product.region.size,
    )


def revoke_call(product: str, version: Version, *, reason: str) -> bytes:
    """Return the calldata that revokes a release. A revocation is final."""
    return interface("BlockOTA").encode_call("revoke", product_key(product), version.packed, reason)


def unpair_call(product: str) -> bytes:
    """Return the calldata that dissolves a product's pairing."""
    return interface("BlockOTA").encode_call("unpairOem", product_key(product))


def floor_call(product: str, version: Version) -> bytes:
    """Return the calldata that raises a product's floor (minimum version). A floor cannot be lowered again."""
    return interface("BlockOTA").encode_call("setMinimumVersion", product_key(product), version.packed)


def pause_call() -> bytes:
    """Return the calldata that stops all releases."""
    return interface("BlockOTA").encode_call("pause")


def resume_call() -> bytes:
    """Return the calldata that allows releases again."""
    return interface("BlockOTA").encode_call("resume")


def publication_of(release: Release) -> Publication:
    """Return the key that identifies the publication of a release in the contract's events."""
    return product_key(release.product), release.version.packed, release.sha256


def published_manifests(logs: Iterable[Log]) -> dict[Publication, CID | None]:
    """Collect the manifests of published releases from the contract's events.

    Args:
        logs: the contract's logs, oldest first. Events other than ``ReleasePublished`` are skipped.

    Returns:
        A dict from publication to the manifest's content address; None for a publication without a manifest.
    """
    manifests: dict[Publication, CID | None] = {}
    for log in logs:
        event = read_event(log)
        if event and event.name == "ReleasePublished":
            found = event.arguments
            digest = _word(found["manifest"])
            address = CID(RAW, digest) if digest else None
            manifests[found["product"], found["version"], found["sha256"]] = address
    return manifests


def _release_argument(release: Release) -> dict[str, Any]:
    return {
        "product": product_key(release.product),
        "version": release.version.packed,
        "sha256": release.sha256,
        "size": release.size,
        "loadAddress": release.load_address,
        "activeFrom": release.active_from,
        "dagRoot": release.dag_root or bytes(32),
        "manifest": release.manifest or bytes(32),
    }


def argument_release(argument: Mapping[str, Any]) -> Release | None:
    """Return the release in an argument of ``publish``. The argument lacks the chip id, so the release has chip id 0.

    Args:
        argument: the argument, decoded by `Interface.decode_call`.

    Returns:
        The release; None for version 0, because the contract refuses version 0.
    """
    return _release({**argument, "chipId": 0, "status": Status.ACTIVE.value, "previous": 0})


def _topics(event: bytes, release: Release) -> list[bytes]:
    """Return the topics of the events that publish or revoke a release."""
    return [event, product_key(release.product), release.version.packed.to_bytes(32, "big"), release.sha256]


def _release(record: Mapping[str, Any]) -> Release | None:
    version = Version.unpack(record["version"])
    if version is None:
        return None
    return Release(
        product=product_name(record["product"]),
        version=version,
        sha256=record["sha256"],
        size=record["size"],
        load_address=record["loadAddress"],
        active_from=record["activeFrom"],
        chip_id=record["chipId"],
        status=status_of(Status, record["status"], of="a release", setting="contract"),
        previous=Version.unpack(record["previous"]),
        dag_root=_word(record["dagRoot"]),
        # The contract's record has no manifest: only the event names the manifest.
        manifest=_word(record.get("manifest", b"")),
    )


def _history_page(records: Iterable[Mapping[str, Any]], *, before: Version | None) -> list[Release]:
    """Decode the releases of one page of a history. Each version must be lower than the previous version."""
    releases = [release for record in records if (release := _release(record))]
    for release in releases:
        if before is not None and release.version >= before:
            raise RefusedError(
                "the contract's answer is not valid",
                why=f"the history has {release.version} after {before}, but its versions must decrease",
                remedy="use another node: change the network's url in blockota.toml",
            )
        before = release.version
    return releases


def _word(value: bytes) -> bytes | None:
    return value if any(value) else None


def _product(record: Mapping[str, Any]) -> Product | None:
    if not any(record["product"]):
        return None
    return Product(
        name=product_name(record["product"]),
        oem=product_name(record["oem"]),
        chip_id=record["chipId"],
        region=Region(record["flashStart"], record["flashSize"]),
        minimum_version=Version.unpack(record["minimumVersion"]),
        paired=record["paired"],
    )


def known_releases(contract: BlockOTAContract, product: str, *, block: int) -> KnownReleases:
    """Return the releases that the contract records at one block."""

    def others() -> list[Release]:
        names = (known.name for known in contract.products(block=block) if known.name != product)
        return contract.histories(names, block=block)

    return KnownReleases(tuple(contract.history(product, block=block)), others)
