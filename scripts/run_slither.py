"""Run Slither on the contracts: ``make slither``.

The exit status is 1 if Slither analysed fewer contracts than BlockOTA has, if a finding is not explained in
`EXPLAINED`, or if an explanation has no finding.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from scripts.compilation import CLONE, CONTRACTS, compiler, laid_out

SLITHER = CLONE / ".build" / "slither" / "bin" / "slither"
OUTPUTS = ["abi", "evm.bytecode", "evm.deployedBytecode", "evm.methodIdentifiers", "userdoc", "devdoc", "metadata"]
"""Outputs that Slither needs in standard JSON."""
SECONDS = (
    "a block producer can shift its time by some seconds; releases and agreements begin and end by the day, and"
    " clients use the time of a block that is some confirmations deep"
)
OWN_RECORD = "`acceptAll` asks BlockOTA alone, whose code never changes, once for each agreement that the vendor names"
PACKED = (
    "the word of an identity or a producer also has times, so Slither finds a time in each comparison with the word;"
    " only the limit of an Administrator's bans compares times, by the hour"
)

SAME_WORD = (
    "the word of a log, a group or an order also has times, so Slither finds a time in each comparison with the word;"
    " only the window and the ban of an order are compared with times, by the hour or the day"
)
DEVICE_WORD = (
    "the word of a device and the code of its version also have times, so Slither finds a time in each comparison with"
    " them; DeviceRegistry compares no times"
)
NAMED = "a parameter in the interface has the name of a getter; the contract names its parameter otherwise"
SLICED = "the constant is the start of a slice"


@dataclass(frozen=True, order=True)
class SlitherFinding:
    """A finding of Slither: the detector, and the place, such as "BlockOTA.publish", or the contract alone.

    The place of an explained finding can be a pattern, such as "IdentityRegistry.*".
    """

    detector: str
    place: str


EXPLAINED = {
    SlitherFinding("timestamp", "BlockOTA.isAuthentic"): SECONDS,
    SlitherFinding("timestamp", "BlockOTA._publish"): SECONDS,
    SlitherFinding("timestamp", "FirmwareReplication.propose"): SECONDS,
    SlitherFinding("timestamp", "FirmwareReplication._isExpired"): SECONDS,
    SlitherFinding("timestamp", "FirmwareReplication._serving"): SECONDS,
    SlitherFinding("calls-loop", "FirmwareReplication._requireVendor"): OWN_RECORD,
    SlitherFinding("calls-loop", "FirmwareReplication._statusOf"): OWN_RECORD,
    SlitherFinding("timestamp", "Producers.*"): PACKED,
    SlitherFinding("timestamp", "IdentityRegistry.*"): PACKED,
    SlitherFinding("incorrect-equality", "IdentityRegistry.*"): PACKED,
    SlitherFinding("uninitialized-state", "IdentityRegistry._bans"): "a storage reference to the array is written",
    SlitherFinding("costly-loop", "IdentityRegistry._enrol"): (
        "the newest identity is part of each record; writing it once for a list would save 100 gas for each identity"
    ),
    SlitherFinding("assembly", "CodeRecord*"): "Solidity neither returns data as code nor copies a part of code",
    SlitherFinding("assembly", "IOTRecords.toHex"): "16 bytes become 32 characters at once",
    SlitherFinding("assembly", "MerkleLog._item"): "the loops check the bounds; a second check costs gas for each hash",
    SlitherFinding("assembly", "Texts.*"): "Solidity neither shortens a text in memory nor hashes a part of one",
    SlitherFinding(
        "encode-packed-collision", "DeviceSpecs._write"
    ): "each text follows its length, and nothing is hashed",
    SlitherFinding("incorrect-equality", "DeviceRegistry.*"): DEVICE_WORD,
    SlitherFinding("timestamp", "DeviceRegistry.*"): DEVICE_WORD,
    SlitherFinding("too-many-digits", "IOTRecords._hexOf"): "the masks are words whose halves alternate",
    SlitherFinding("unused-return", "DeviceRegistry.register"): "a signature that cannot be recovered has the signer 0",
    SlitherFinding("uninitialized-local", "version"): "the fields of the struct are set one by one",
    SlitherFinding("shadowing-local", "registrant"): NAMED,
    SlitherFinding("shadowing-local", "site"): NAMED,
    SlitherFinding("timestamp", "UpdateLedger.*"): SAME_WORD,
    SlitherFinding("timestamp", "UpdateOrders.*"): SAME_WORD,
    SlitherFinding(
        "assembly", "MerkleLog._parent"
    ): "65 bytes beyond the free memory are hashed, without allocating them",
    SlitherFinding("assembly", "UpdateLedger._item"): "a checked access costs more gas for each word of devices",
    SlitherFinding("uninitialized-state", "UpdateLedger._installed"): "a storage reference to the mapping is written",
    SlitherFinding("unused-state", "UpdateLedger.NUMBER_AT"): SLICED,
    SlitherFinding("unused-state", "UpdateLedger.RELEASE_AT"): SLICED,
    SlitherFinding("unused-state", "UpdateLedger.RELEASE_HEADER_AT"): SLICED,
}
"""The reason why each finding is acceptable."""


def main() -> int:
    """Run Slither and compare its findings with the explanations."""
    output, results = run()
    problems = list(complaints(findings(results), EXPLAINED))
    analysed = count_analysed(output)
    if analysed < len(CONTRACTS):
        problems.append(f"Slither analysed {analysed} contracts, fewer than the {len(CONTRACTS)} of BlockOTA.")
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print(output, file=sys.stderr)
        return 1
    print(f"Slither analysed {analysed} contracts: {len(EXPLAINED)} findings, each explained in {Path(__file__).name}.")
    return 0


def run() -> tuple[str, list[dict[str, Any]]]:
    """Run Slither and return its output and results; the optimizer is off, because Slither reads the syntax tree."""
    with laid_out() as layout:
        selection = {"*": {"*": OUTPUTS, "": ["ast"]}}
        job = layout.job(layout.sources(), selection, via_ir=False, optimize=False)
        (layout.folder / "input.json").write_text(json.dumps(job))
        command = [str(SLITHER), "input.json", "--compile-force-framework", "solc-json"]
        command += ["--solc", str(compiler(layout.solidity)), "--filter-paths", "contracts/.cache"]
        command += ["--json", "results.json"]
        done = subprocess.run(command, cwd=layout.folder, capture_output=True, text=True, check=False)
        report = layout.folder / "results.json"
        results = json.loads(report.read_text()) if report.exists() else {}
    return done.stdout + done.stderr, results.get("results", {}).get("detectors", [])


def count_analysed(output: str) -> int:
    """Return the number of analysed contracts in Slither's output; 0 if the output has no number."""
    match = re.search(r"analyzed \((\d+) contracts", output)
    return int(match[1]) if match else 0


def findings(results: Iterable[dict[str, Any]]) -> list[SlitherFinding]:
    """Return Slither's results as sorted findings."""
    return sorted(SlitherFinding(result["check"], place_of(result["elements"])) for result in results)


def place_of(elements: list[dict[str, Any]]) -> str:
    """Return contract and function of a result's first element, or the element's name alone."""
    if not elements:
        return ""
    first = elements[0]
    parent = first.get("type_specific_fields", {}).get("parent") or {}
    if parent.get("type") == "contract":
        return f"{parent['name']}.{first['name']}"
    return str(first["name"])


def complaints(found: Iterable[SlitherFinding], explained: dict[SlitherFinding, str]) -> list[str]:
    """Return a sentence for each finding without an explanation, and for each explanation without a finding."""
    seen = sorted(set(found))
    new = [one for one in seen if not any(explains(finding, one) for finding in explained)]
    stale = [finding for finding in explained if not any(explains(finding, one) for one in seen)]
    return [
        *(f"{one.place}: {one.detector} is not explained." for one in new),
        *(f"{finding.place}: {finding.detector} is explained, but not found any more." for finding in stale),
    ]


def explains(pattern: SlitherFinding, found: SlitherFinding) -> bool:
    """Return whether an explained finding covers a finding."""
    return pattern.detector == found.detector and fnmatchcase(found.place, pattern.place)


if __name__ == "__main__":
    sys.exit(main())
