"""Foundry's campaigns in a short run, and a check that they test the bytecode that the package ships."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

CLONE = Path(__file__).resolve().parents[2]
CONTRACTS = ("BlockOTA", "FirmwareReplication")
SEED = "0x2026"


def forge(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run forge with the repository's configuration."""
    command = [sys.executable, "scripts/forge.py", *arguments]
    return subprocess.run(command, cwd=CLONE, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def campaigns() -> subprocess.CompletedProcess[str]:
    """Run all Solidity tests with a fixed seed; `make deep` takes another seed for each run."""
    return forge("test", "--fuzz-seed", SEED)


def built(contract: str) -> dict[str, Any]:
    """The artifacts that forge compiled for the campaigns."""
    answer: dict[str, Any] = json.loads((CLONE / f".build/forge/out/{contract}.sol/{contract}.json").read_text())
    return answer


def test_no_campaign_should_find_anything(campaigns: subprocess.CompletedProcess[str]) -> None:
    """Every campaign passes; on failure the message contains forge's failing call sequence."""
    assert campaigns.returncode == 0, campaigns.stdout + campaigns.stderr
    assert "0 failed, 0 skipped" in campaigns.stdout


def test_the_compiler_s_settings_should_be_those_of_ape() -> None:
    """foundry.toml repeats the settings of ape-config.yaml, because forge reads no other file."""
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
    """Both bytecodes agree up to the metadata hash, whose length the last two bytes give."""
    assert campaigns.returncode == 0
    shipped = json.loads((CLONE / f"blockota/artifacts/{contract}.json").read_text())["bytecode"]
    tried = built(contract)["bytecode"]["object"]
    assert without_metadata(tried) == without_metadata(shipped)
    assert built(contract)["metadata"]["settings"]["viaIR"] is True


def without_metadata(bytecode: str) -> str:
    """Return the code without the metadata hash at its end."""
    code = bytes.fromhex(bytecode.removeprefix("0x"))
    return code[: -2 - int.from_bytes(code[-2:], "big")].hex()


def test_the_storage_should_be_laid_out_as_documented(campaigns: subprocess.CompletedProcess[str]) -> None:
    """The table of the page equals the compiler's storage layout, row by row."""
    assert campaigns.returncode == 0
    page = (CLONE / "docs/contracts.md").read_text()
    documented = re.findall(r"^\| \w+(?:\.\w+)? \| \d+ \| \d+ \| `\w+` \| .* \|$", page, re.MULTILINE)
    assert documented == [row for contract in CONTRACTS for row in layout(contract)]


def layout(contract: str) -> list[str]:
    """Return the variables of a contract, and the members of its structs, as rows of the page's table."""
    answer = built(contract)["storageLayout"]
    types = answer["types"]
    named = [(contract, variable) for variable in answer["storage"]]
    for kind in types.values():
        named += [(kind["label"].removeprefix("struct "), member) for member in kind.get("members", [])]
    return [
        f"| {owner} | {item['slot']} | {item['offset']} | `{item['label']}` | {types[item['type']]['label']} |"
        for owner, item in named
    ]
