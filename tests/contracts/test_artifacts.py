"""Tests of the package's contract artifacts.

The artifacts must be made from the present Solidity sources. The bytecode of a contract ends with a hash of the
contract's metadata: the hashes of all sources, and the compiler settings. The check takes seconds, because the compiler
only makes the metadata and no code. `make check` also compiles the sources completely and compares the bytecode.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from blockota.formats.cid import varint
from scripts.build_artifacts import artifact, write
from scripts.compilation import CONTRACTS, file_of, laid_out

CLONE = Path(__file__).resolve().parents[2]
ARTIFACT = "blockota/artifacts/BlockOTA.json"
Analysis = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def analysed() -> Analysis:
    """Return the compiler's output for each contract by name, without code."""
    with laid_out() as layout:
        selection = {file_of(name): {name: ["abi", "metadata", "storageLayout"]} for name in CONTRACTS}
        found = layout.compile(layout.job(layout.sources(), selection))["contracts"]
        settings = layout.solidity
    ours = {name: found[file_of(name)][name] for name in CONTRACTS}
    nothing = {"bytecode": {"object": ""}}
    return {
        name: one | {"artifact": json.loads(artifact(name, one | {"evm": nothing}, settings))}
        for name, one in ours.items()
    }


@pytest.mark.parametrize("contract", CONTRACTS)
def test_the_bytecode_should_be_made_from_the_present_sources(analysed: Analysis, contract: str) -> None:
    """The bytecode contains the hash of the metadata of the present sources and settings.

    The artifact has their ABI.
    """
    shipped = json.loads((CLONE / "blockota" / "artifacts" / f"{contract}.json").read_text())
    tail = b"\x64ipfs\x58\x22\x12\x20" + ipfs_digest(analysed[contract]["metadata"].encode())
    assert tail in bytes.fromhex(shipped["bytecode"].removeprefix("0x"))
    assert shipped | {"bytecode": "0x"} == analysed[contract]["artifact"]


def ipfs_digest(content: bytes) -> bytes:
    """Return the SHA-256 that the compiler computes for a file: the digest of the file's IPFS block (dag-pb)."""
    assert len(content) <= 1 << 18, "the compiler would split the content into several blocks"
    length = varint(len(content))
    file = b"\x08\x02\x12" + length + content + b"\x18" + length
    return hashlib.sha256(b"\x0a" + varint(len(file)) + file).digest()


def test_the_storage_should_be_laid_out_as_documented(analysed: Analysis) -> None:
    """The storage table in docs/contracts.md equals the compiler's storage layout."""
    page = (CLONE / "docs/contracts.md").read_text()
    documented = re.findall(r"^\| \w+(?:\.\w+)? \| \d+ \| \d+ \| `\w+` \| .* \|$", page, re.MULTILINE)
    assert documented == [row for contract in CONTRACTS for row in layout_of(contract, analysed)]


def layout_of(contract: str, analysed: Analysis) -> list[str]:
    """Return the variables and struct members of a contract as rows of the storage table in docs/contracts.md."""
    answer = analysed[contract]["storageLayout"]
    types = answer["types"] or {}
    named = [(contract, variable) for variable in answer["storage"]]
    for kind in types.values():
        named += [(kind["label"].removeprefix("struct "), member) for member in kind.get("members", [])]
    return [
        f"| {owner} | {item['slot']} | {item['offset']} | `{item['label']}` | {types[item['type']]['label']} |"
        for owner, item in named
    ]


@pytest.mark.parametrize("before", ["old", None], ids=["another", "none"])
def test_a_check_should_fail_and_write_nothing(
    tmp_path: Path, before: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """`only_check` reports a differing artifact with the remedy; without `only_check`, the artifact is written."""
    path = tmp_path / ARTIFACT
    path.parent.mkdir(parents=True)
    if before:
        path.write_text(before)
    assert write({"BlockOTA": "new"}, tmp_path, only_check=True) == 1
    assert capsys.readouterr().err == f"{ARTIFACT}: not equal to the compiled contracts. Run `make artifacts`.\n"
    assert (path.read_text() if path.exists() else None) == before
    assert write({"BlockOTA": "new"}, tmp_path, only_check=False) == 0
    assert (path.read_text(), write({"BlockOTA": "new"}, tmp_path, only_check=True)) == ("new", 0)
