"""A short run of the Solidity tests by forge, and a check that they test the bytecode in the package."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.compilation import CONTRACTS

CLONE = Path(__file__).resolve().parents[2]
SEED = "0x2026"


def forge(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run forge with the configuration of this repository."""
    command = [sys.executable, "scripts/forge.py", *arguments]
    return subprocess.run(command, cwd=CLONE, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def campaigns() -> subprocess.CompletedProcess[str]:
    """Run all Solidity tests with a fixed seed; `make deep` uses another seed in each run."""
    return forge("test", "--fuzz-seed", SEED)


def built(contract: str) -> dict[str, Any]:
    """Return the artifact of a contract that forge compiled for the Solidity tests."""
    answer: dict[str, Any] = json.loads((CLONE / f".build/forge/out/{contract}.sol/{contract}.json").read_text())
    return answer


def test_no_campaign_should_find_anything(campaigns: subprocess.CompletedProcess[str]) -> None:
    """Every Solidity test passes, and none is skipped."""
    assert campaigns.returncode == 0, campaigns.stdout + campaigns.stderr
    assert "0 failed, 0 skipped" in campaigns.stdout


def test_the_compiler_s_settings_should_be_those_of_ape() -> None:
    """The compiler settings in foundry.toml equal those of ape-config.yaml, which forge does not read."""
    settings = json.loads(forge("config", "--json").stdout)
    ape = yaml.safe_load((CLONE / "ape-config.yaml").read_text())["solidity"]
    names = {
        "evm_version": "evm_version",
        "optimizer": "optimize",
        "optimizer_runs": "optimization_runs",
        "via_ir": "via_ir",
    }
    assert {name: settings[name] for name in names} == {name: ape[other] for name, other in names.items()}
    assert settings["solc"].endswith(f"solc-v{ape['version']}")


@pytest.mark.parametrize("contract", CONTRACTS)
def test_the_bytecode_tried_should_be_the_package_s_but_for_the_metadata(
    campaigns: subprocess.CompletedProcess[str], contract: str
) -> None:
    """The bytecode that forge tests equals the package's bytecode, except for the metadata hash at the end."""
    assert campaigns.returncode == 0
    shipped = json.loads((CLONE / f"blockota/artifacts/{contract}.json").read_text())["bytecode"]
    tried = built(contract)["bytecode"]["object"]
    assert without_metadata(tried) == without_metadata(shipped)
    assert built(contract)["metadata"]["settings"]["viaIR"] is True


def without_metadata(bytecode: str) -> str:
    """Return the bytecode without the metadata at its end, whose length is in the last two bytes."""
    code = bytes.fromhex(bytecode.removeprefix("0x"))
    return code[: -2 - int.from_bytes(code[-2:], "big")].hex()


def test_the_storage_should_be_laid_out_as_documented(campaigns: subprocess.CompletedProcess[str]) -> None:
    """The storage table in docs/contracts.md equals the compiler's storage layout."""
    assert campaigns.returncode == 0
    page = (CLONE / "docs/contracts.md").read_text()
    documented = re.findall(r"^\| \w+(?:\.\w+)? \| \d+ \| \d+ \| `\w+` \| .* \|$", page, re.MULTILINE)
    assert documented == [row for contract in CONTRACTS for row in layout(contract)]


def layout(contract: str) -> list[str]:
    """Return the variables and struct members of a contract as rows of the storage table in docs/contracts.md."""
    answer = built(contract)["storageLayout"]
    types = answer["types"]
    named = [(contract, variable) for variable in answer["storage"]]
    for kind in types.values():
        named += [(kind["label"].removeprefix("struct "), member) for member in kind.get("members", [])]
    return [
        f"| {owner} | {item['slot']} | {item['offset']} | `{item['label']}` | {types[item['type']]['label']} |"
        for owner, item in named
    ]
