"""The public interface of ``import blockota``."""

from __future__ import annotations

import io
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import blockota
from blockota import library
from blockota.bindings.block_ota import BlockOTAContract, pair_call, publish_call
from blockota.model.release import Version
from blockota.stores.local import LocalStore
from tests.conftest import Cast
from tests.support.networks import fresh_anvil
from tests.support.samples import PRODUCT, release_of

IMAGE = bytes(range(256)) * 8


@pytest.fixture
def contract(cast: Cast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BlockOTAContract]:
    """Deploy a contract with one release, whose image is in the store of the documented example."""
    monkeypatch.chdir(tmp_path)
    LocalStore(tmp_path / "firmware").put(io.BytesIO(IMAGE))
    with fresh_anvil() as chain:
        made, _ = BlockOTAContract.deploy(chain, cast.payer, owner=cast.payer.address)
        chain.send(cast.payer, pair_call(PRODUCT), to=made.address)
        release = release_of(IMAGE, version=Version(1, 2, 3), manifest=bytes(32))
        chain.send(cast.payer, publish_call([release]), to=made.address)
        yield made


def test_the_example_of_the_docstring_runs(contract: BlockOTAContract, capsys: pytest.CaptureFixture[str]) -> None:
    """The documented example prints the newest release of each product and the size of its image."""
    assert library.__doc__
    example = textwrap.dedent(library.__doc__.partition("::\n")[2])
    exec(example, {"url": contract.chain.url, "contract": contract.address})  # noqa: S102 - the documented example
    assert capsys.readouterr().out == f"{PRODUCT.name} 1.2.3: {len(IMAGE)} bytes\n"


def test_an_image_that_is_not_the_release_is_refused(contract: BlockOTAContract) -> None:
    """An image with a flipped bit fails check 4, and an unknown version fails check 3."""
    record = blockota.VendorRecord(contract.chain.url, chain_id=1337, contract=contract.address, confirmations=0)
    assert [release.version for release in record.releases(PRODUCT.name)] == [blockota.Version(1, 2, 3)]
    with pytest.raises(blockota.VerificationError) as changed:
        record.verify(bytes([IMAGE[0] ^ 1]) + IMAGE[1:], PRODUCT.name)
    with pytest.raises(blockota.VerificationError) as missing:
        record.fetch(PRODUCT.name, blockota.Version(9, 0, 0), store="file:firmware")
    assert (changed.value.number, missing.value.number) == (4, 3)


def test_an_image_that_no_source_serves_is_a_store_error(contract: BlockOTAContract) -> None:
    """Fetching an image that no source serves raises a store error."""
    record = blockota.VendorRecord(contract.chain.url, chain_id=1337, contract=contract.address, confirmations=0)
    with pytest.raises(blockota.StoreError):
        record.fetch(PRODUCT.name, store="file:empty")


def test_all_names_of_the_library_are_offered_and_loaded_late() -> None:
    """The names of the library are imported on first use, and an unknown name raises AttributeError."""
    assert sorted(blockota.__all__) == sorted(library.__all__)
    assert blockota.VendorRecord is library.VendorRecord
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = blockota.nothing
    script = "import sys, blockota; print([name for name in sys.modules if name.startswith('blockota.')])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
