"""A short run of the Solidity tests by forge, which deploy the bytecode in the package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

CLONE = Path(__file__).resolve().parents[2]
SEED = "0x2026"


def forge(*arguments: str, profile: str = "default") -> subprocess.CompletedProcess[str]:
    """Run forge with the configuration of this repository."""
    command = [sys.executable, "scripts/forge.py", *arguments]
    environment = os.environ | {"FOUNDRY_PROFILE": profile}
    return subprocess.run(command, cwd=CLONE, env=environment, capture_output=True, text=True, check=False)


def test_no_campaign_should_find_anything() -> None:
    """Every Solidity test passes with a fixed seed, and none is skipped; `make deep` uses another seed in each run."""
    done = forge("test", "--fuzz-seed", SEED)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failed, 0 skipped" in done.stdout


def test_halmos_should_compile_the_contracts_as_ape_does() -> None:
    """The compiler settings for Halmos in foundry.toml equal those of ape-config.yaml, which forge does not read."""
    settings = json.loads(forge("config", "--json", profile="halmos").stdout)
    ape = yaml.safe_load((CLONE / "ape-config.yaml").read_text())["solidity"]
    names = {
        "evm_version": "evm_version",
        "optimizer": "optimize",
        "optimizer_runs": "optimization_runs",
        "via_ir": "via_ir",
    }
    assert {name: settings[name] for name in names} == {name: ape[other] for name, other in names.items()}
    assert settings["solc"].endswith(f"solc-v{ape['version']}")
