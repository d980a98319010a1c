"""The Python binding of the BlockOTA contract on a real chain: return values and errors."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from blockota.bindings.block_ota import BlockOTAContract, pair_call, publish_call, revoke_call
from blockota.bindings.contract import PAGE, refusals_in_words
from blockota.chain import Chain
from blockota.errors import ContractRefusalError, RefusedError, UsageError
from blockota.formats.abi import interface
from blockota.formats.cid import CHUNK_SIZE, cid_of
from blockota.model.release import Product, Region, Release, Revocation, Status, Version, product_key
from tests.conftest import Cast, Vendor
from tests.support.networks import method_of, post, refusal, rpc, stand_in
from tests.support.samples import CHIP_ID, FLASH, release_of

BATCHES = ((0, 40), (40, 80), (80, PAGE * 2 + 1))


def numbered(product: Product, minor: int, **changes: Any) -> Release:
    """Return release 1.minor.0 of a product, with a unique image."""
    image = f"{product.name} {minor}".encode()
    return release_of(image, **({"product": product.name, "version": Version(1, minor, 0)} | changes))


def refused(vendor: Vendor, call: bytes) -> str:
    """Return the text of the error with which the contract refuses a call by the Safe."""
    with pytest.raises(ContractRefusalError) as refusal:
        vendor.decide(call)
    assert refusal.value.exit_status == 3
    return str(refusal.value)


def test_a_release_is_read_as_it_was_published(vendor: Vendor, product: Product) -> None:
    """A published release is read back by its version, and as the newest release."""
    wanted = numbered(product, 1)
    vendor.decide(publish_call([wanted]))
    found = vendor.contract.release(product.name, wanted.version)
    assert found is not None
    assert found == replace(wanted, active_from=vendor.chain.head().time)
    assert vendor.contract.latest(product.name) == found
    assert found.chip_id == CHIP_ID


def test_what_is_unknown_is_none(vendor: Vendor, product: Product) -> None:
    """Reading an unknown version or product returns None or an empty history."""
    contract = vendor.contract
    assert contract.release(product.name, Version(9, 9, 9)) is None
    assert contract.latest(product.name) is None
    assert contract.product("never-paired") is None
    assert list(contract.history(product.name)) == []
    assert list(contract.history("never-paired")) == []


def test_a_product_is_read_as_it_was_paired(vendor: Vendor, product: Product) -> None:
    """A paired product is read back by its name and in the list of products."""
    assert vendor.contract.product(product.name) == product
    assert product in vendor.contract.products()


def test_the_newest_is_the_greatest_that_is_not_revoked(vendor: Vendor, product: Product) -> None:
    """After the newest release is revoked, the release before it counts as the newest."""
    first, second = numbered(product, 1), numbered(product, 2)
    vendor.decide(publish_call([first, second]))
    vendor.decide(revoke_call(product.name, second.version, reason="it burns"))
    newest, revoked = vendor.contract.latest(product.name), vendor.contract.release(product.name, second.version)
    assert newest is not None
    assert revoked is not None
    assert newest.version == first.version
    assert (revoked.status, revoked.previous) == (Status.REVOKED, first.version)

    head = vendor.chain.head()
    answer = vendor.contract.answer(product.name, second.version, confirmations=0)
    assert answer.revocation == Revocation("it burns", head.time, head.number)
    assert vendor.contract.answer(product.name, first.version, confirmations=0).revocation is None
    assert vendor.contract.revocation(revoked, block=head.number - 1) is None


def test_a_revoked_release_is_answered_without_its_reason(vendor: Vendor, product: Product) -> None:
    """A revoked release is returned without a reason if the node refuses the event query for the reason."""
    made = numbered(product, 1)
    vendor.decide(publish_call([made]))
    vendor.decide(revoke_call(product.name, made.version, reason="it burns"))
    asked: list[str] = []

    def refuse_search(body: bytes) -> tuple[int, bytes]:
        asked.append(method_of(body))
        return 200, refusal("block range too large") if asked[-1] == "eth_getLogs" else post(vendor.chain.url, body)

    with stand_in(refuse_search) as url:
        contract = BlockOTAContract(Chain(url), vendor.contract.address)
        answer = contract.answer(product.name, made.version, confirmations=0)
    assert answer.release is not None
    assert (answer.release.status, answer.revocation) == (Status.REVOKED, None)
    assert asked.count("eth_getLogs") == 1


def test_a_history_longer_than_a_page_is_whole(vendor: Vendor, product: Product) -> None:
    """A release history of more than two pages is read completely, newest first."""
    for start, end in BATCHES:
        vendor.decide(publish_call([numbered(product, minor) for minor in range(start, end)]))
    found = list(vendor.contract.history(product.name))
    assert [release.version.minor for release in found] == list(reversed(range(PAGE * 2 + 1)))
    assert vendor.contract.histories(["never-paired", product.name]) == found
    assert vendor.contract.newest(["never-paired", product.name]) == found[:1]


def test_a_history_of_exactly_one_page_is_whole(vendor: Vendor, product: Product) -> None:
    """A release history that fills exactly one page is read completely."""
    vendor.decide(publish_call([numbered(product, minor) for minor in range(PAGE)]))
    assert len(list(vendor.contract.history(product.name))) == PAGE


def test_more_products_than_a_page_are_listed(anvil: Chain, cast: Cast) -> None:
    """A list of products that is longer than one page is read completely, in the order of pairing."""
    contract, _ = BlockOTAContract.deploy(anvil, cast.payer, owner=cast.payer.address)
    assert contract.products() == []
    names = [f"p{number}" for number in range(PAGE + 1)]
    for name in names:
        anvil.send(cast.payer, pair_call(Product(name, "acme", 1, FLASH, None, paired=True)), to=contract.address)
    assert [product.name for product in contract.products()] == names


def test_a_large_image_names_its_tree(vendor: Vendor, product: Product) -> None:
    """For an image above 1 MiB, the record contains the DAG root, from which the CID is computed."""
    wider = replace(product, region=Region(FLASH.start, 1 << 24))
    vendor.decide(pair_call(wider))
    image = bytes(CHUNK_SIZE + 1)
    address = cid_of(io.BytesIO(image))
    vendor.decide(publish_call([release_of(image, product=product.name, dag_root=address.digest)]))
    found = vendor.contract.latest(product.name)
    assert found is not None
    assert found.cid == address


def test_errors_of_publish_contain_their_values(vendor: Vendor, product: Product) -> None:
    """The contract's errors about publishing contain the rejected values."""
    first = numbered(product, 5)
    vendor.decide(publish_call([first]))
    again = publish_call([replace(first, version=Version(2, 0, 0))])
    far = publish_call([numbered(product, 7, load_address=FLASH.end - 1)])
    treeless = publish_call([numbered(product, 8, size=CHUNK_SIZE + 1, load_address=FLASH.start)])
    wide = pair_call(replace(product, region=Region(FLASH.start, 1 << 24)))
    assert "1.4.0 is not newer than the last release: the last published version is 1.5.0" in refused(
        vendor, publish_call([numbered(product, 4)])
    )
    assert f"already published for {product.name}: it is version 1.5.0" in refused(vendor, again)
    assert "at 0x0800ffff, the region has 65536 bytes at 0x08000000" in refused(vendor, far)
    assert "list of releases is empty" in refused(vendor, publish_call([]))
    assert "0 bytes" in refused(vendor, publish_call([numbered(product, 6, size=0)]))
    assert "has no SHA-256" in refused(vendor, publish_call([numbered(product, 6, sha256=bytes(32))]))
    vendor.decide(wide)
    assert "the DAG root of" in refused(vendor, treeless)


def test_other_errors_contain_their_values(vendor: Vendor, product: Product) -> None:
    """The contract's errors about pairing, revoking, floors and pausing contain the rejected values."""
    name = product.name
    stranger = replace(product, name="stranger")
    floor = interface("BlockOTA").encode_call("setMinimumVersion", product_key(name), Version(1, 5, 0).packed)
    pause, resume = (interface("BlockOTA").encode_call(word) for word in ("pause", "resume"))
    vendor.decide(floor)
    assert "is not paired with an OEM" in refused(vendor, publish_call([numbered(stranger, 1)]))
    assert "does not exist" in refused(vendor, revoke_call(name, Version(9, 9, 9), reason=""))
    assert "cannot become 1.5.0: the floor is 1.5.0" in refused(vendor, floor)
    assert "1.4.0 is below the floor: a version below 1.5.0" in refused(vendor, publish_call([numbered(product, 4)]))
    assert "the contract is not paused" in refused(vendor, resume)
    vendor.decide(pause)
    assert "the contract is paused" in refused(vendor, publish_call([numbered(product, 6)]))
    vendor.decide(resume)


def test_a_stranger_is_refused_by_the_contract(vendor: Vendor, product: Product, cast: Cast) -> None:
    """A call by an account that does not own the contract is refused with an error that names the account."""
    words = f"{cast.mallory.address} may not do that: it does not own the contract"
    with pytest.raises(ContractRefusalError, match=words), refusals_in_words():
        vendor.chain.send(cast.mallory, publish_call([numbered(product, 1)]), to=vendor.contract.address)


@pytest.mark.parametrize(
    "call", [lambda c: c.latest("x"), lambda c: c.products(), lambda c: c.owner(), lambda c: list(c.history("x"))]
)
def test_an_address_of_something_else_is_reported(vendor: Vendor, cast: Cast, call: Any) -> None:
    """The address of an account, a Safe or another contract is reported as not being a BlockOTA contract."""
    for address in (cast.payer.address, vendor.safe, other_contract(vendor)):
        with pytest.raises(RefusedError, match=rf"no BlockOTA contract at {address}: .*chain 1337.*blockota\.toml"):
            call(BlockOTAContract(vendor.chain, address))


def other_contract(vendor: Vendor) -> str:
    """Deploy a contract whose code reverts every call (PUSH0 PUSH0 REVERT), and return its address."""
    runtime = bytes.fromhex("5f5ffd")
    creation = bytes.fromhex("625f5ffd5f526003601df3")
    address = vendor.chain.send(vendor.cast.payer, creation).contract
    assert address is not None
    assert rpc(vendor.chain, "eth_getCode", address, "latest") == "0x" + runtime.hex()
    return address


def test_a_history_that_does_not_fall_is_not_followed(vendor: Vendor, product: Product) -> None:
    """Reading a history ends although the node always returns the same page."""

    class ForgetfulContract(BlockOTAContract):
        """A contract binding whose node ignores the cursor, and always returns the first page of a history."""

        def _ask_many(
            self, function: str, arguments: Iterable[Sequence[Any]], *, block: int | None = None
        ) -> list[Any]:
            forgotten = [(one[0], 0, 1) for one in arguments] if function == "history" else arguments
            return super()._ask_many(function, forgotten, block=block)

    vendor.decide(publish_call([numbered(product, 1), numbered(product, 2)]))
    assert [str(r.version) for r in vendor.contract.history(product.name)] == ["1.2.0", "1.1.0"]
    forgetful = ForgetfulContract(vendor.chain, vendor.contract.address)
    refusal = r"is not valid: the history has 1\.2\.0 after 1\.2\.0"
    with pytest.raises(RefusedError, match=refusal):
        list(forgetful.history(product.name))
    with pytest.raises(RefusedError, match=refusal):
        forgetful.histories([product.name])


@pytest.mark.parametrize("name", ["", "a b", "a" * 32])
def test_an_invalid_name_is_a_usage_error(vendor: Vendor, name: str) -> None:
    """An invalid product name is refused as a usage error."""
    with pytest.raises(UsageError, match="cannot be a name"):
        vendor.contract.latest(name)


def test_the_answer_is_as_deep_as_asked(vendor: Vendor, product: Product) -> None:
    """`answer` reads the contract at the newest block that has the required number of confirmations."""
    vendor.decide(publish_call([numbered(product, 1)]))
    published = vendor.chain.head().number
    rpc(vendor.chain, "anvil_mine", hex(4))
    deep = vendor.contract.answer(product.name, None, confirmations=4)
    deeper = vendor.contract.answer(product.name, None, confirmations=5)
    assert (deep.block_number, deep.newest_block) == (published, published + 4)
    assert deep.release is not None
    assert (deeper.block_number, deeper.release, deeper.product) == (published - 1, None, product)
    assert deep.block_time == vendor.chain.head(published).time


def test_the_answer_names_what_was_asked(vendor: Vendor, product: Product) -> None:
    """With 0 confirmations, `answer` returns the requested version and the contract's state at the newest block."""
    vendor.decide(publish_call([numbered(product, 1), numbered(product, 2)]))
    answer = vendor.contract.answer(product.name, Version(1, 1, 0), confirmations=0)
    assert (answer.chain_id, answer.contract, answer.paused) == (1337, vendor.contract.address, False)
    assert answer.block_number == answer.newest_block == vendor.chain.head().number
    assert answer.release is not None
    assert answer.release.version == answer.version == Version(1, 1, 0)


def test_a_postponed_release_does_not_hide_the_active_one(vendor: Vendor, product: Product) -> None:
    """Without a version, `answer` returns the newest active release, not a postponed or revoked one."""
    later = vendor.chain.head().time + 86400
    vendor.decide(publish_call([numbered(product, 1), numbered(product, 2)]))
    vendor.decide(publish_call([numbered(product, 3, active_from=later), numbered(product, 4, active_from=later)]))
    vendor.decide(revoke_call(product.name, Version(1, 2, 0), reason="reboots"))
    found = vendor.contract.answer(product.name, None, confirmations=0).release
    named = vendor.contract.answer(product.name, Version(1, 3, 0), confirmations=0).release
    assert found is not None
    assert named is not None
    assert (found.version, named.version) == (Version(1, 1, 0), Version(1, 3, 0))


def test_where_all_are_postponed_the_newest_is_reported(vendor: Vendor, product: Product) -> None:
    """If all releases are postponed, `answer` returns the newest of these releases."""
    later = vendor.chain.head().time + 86400
    vendor.decide(publish_call([numbered(product, 1, active_from=later), numbered(product, 2, active_from=later)]))
    found = vendor.contract.answer(product.name, None, confirmations=0).release
    assert found is not None
    assert found.version == Version(1, 2, 0)


def test_a_contract_younger_than_the_depth_is_reported(vendor: Vendor) -> None:
    """If the contract did not exist yet at the confirmed block, the error contains the number of this block."""
    fresh, _ = BlockOTAContract.deploy(vendor.chain, vendor.cast.payer, owner=vendor.safe)
    before = vendor.chain.head().number - 1
    with pytest.raises(
        RefusedError, match=f"no BlockOTA contract at .*, at block {before}, does not implement.* wait for conf"
    ):
        fresh.answer("acme-thermo2", None, confirmations=1)
    with pytest.raises(RefusedError, match="at block 0"):
        fresh.answer("acme-thermo2", None, confirmations=1_000_000)
