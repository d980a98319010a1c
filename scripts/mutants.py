"""Make every change of `mutation` in the contracts, and check that the tests fail: ``make mutants``.

Forge's tests and the Python tests (`mutant_killers`) run on each mutant until a test fails. A mutant on which all
tests pass is compiled with the settings of the deployment, and left out if its bytecode equals the contract's. Every
other surviving mutant must be explained in docs/contracts.md under a heading with its name. The exit status is 1 if a
survivor is not explained, an explanation has no survivor, or the tests kill less than 95 % of the mutants.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from scripts.compilation import CLONE, CONTRACTS, Layout, file_of, laid_out
from scripts.mutant_bench import as_deployed, compile_mutants, progress, run_killer
from scripts.mutant_killers import KILLERS, LIBRARIES, copy_tree
from scripts.mutation import Mutant, enumerations, mutants_of

REPORT = CLONE / ".build" / "mutants.json"
EXPLANATIONS = CLONE / "docs" / "contracts.md"
LEAST_KILLED, FEWEST = 0.95, 60
NOT_COMPILED = "solc"


@dataclass(frozen=True)
class Fate:
    """The outcome of one mutant.

    Attributes:
        contract: name of the contract or library.
        mutant: the change.
        killer: "forge" or "Ape", whose test failed; "solc" if the mutant does not compile; empty for a survivor.
        test: the first test that failed.
        same: whether the mutant's deployed bytecode equals the contract's.
    """

    contract: str
    mutant: Mutant
    killer: str = ""
    test: str = ""
    same: bool = False

    @property
    def survived(self) -> bool:
        """Whether no test failed although the bytecode differs from the contract's."""
        return not self.killer and not self.same


def main(arguments: list[str] | None = None) -> int:
    """Run the tests on all or some mutants, write the report, and print the table and the problems."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="run the mutants whose name matches this regular expression")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="number of mutants tested in parallel")
    parser.add_argument("--list", action="store_true", help="print the names and run nothing")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    with laid_out() as layout:
        chosen = [
            (contract, mutant) for contract, mutant in all_mutants(layout) if re.search(options.only, mutant.name)
        ]
        if options.list:
            print("\n".join(mutant.name for _, mutant in chosen))
            return 0
        every = campaign(layout, chosen, jobs=options.jobs)
    fates = [fate for fate in every if fate.killer != NOT_COMPILED]
    progress("")
    print(f"{len(every) - len(fates)} mutants do not compile and are left out.")
    write_report(fates, time.monotonic() - began)
    problems = complaints(fates, explanations(EXPLANATIONS.read_text()), whole=not options.only)
    print("\n".join(problems), file=sys.stderr)
    return 1 if problems else 0


def all_mutants(layout: Layout) -> list[tuple[str, Mutant]]:
    """Return all mutants, each with the name of its contract or library."""
    sources = layout.sources()
    units = layout.compile(layout.job(sources, {"*": {"": ["ast"]}}))["sources"]
    enums = {name: members for unit in units.values() for name, members in enumerations(unit["ast"]).items()}
    files = {name: file_of(name) for name in (*CONTRACTS, *LIBRARIES)}
    return [
        (name, mutant)
        for name, file in files.items()
        for mutant in mutants_of(sources[file].encode(), units[file]["ast"], enums=enums)
    ]


def campaign(layout: Layout, chosen: Sequence[tuple[str, Mutant]], *, jobs: int) -> list[Fate]:
    """Run the tests on the chosen mutants; return the outcome of each mutant, in the given order."""
    fates = {mutant.name: Fate(contract, mutant) for contract, mutant in chosen}
    variants = [
        variant
        for contract in dict.fromkeys(contract for contract, _ in chosen)
        for variant in compile_mutants(layout, contract, [m for c, m in chosen if c == contract], jobs=jobs)
    ]
    for name in fates.keys() - {variant.name for variant in variants}:
        fates[name] = replace(fates[name], killer=NOT_COMPILED)

    with TemporaryDirectory() as folder:  # not below .build, where Ape ignores contracts
        copy_tree(Path(folder) / "tree")
        for killer in KILLERS:
            for variant, test in run_killer(killer, variants, layout, folder=Path(folder), jobs=jobs):
                fates[variant.name] = replace(fates[variant.name], killer=killer.name if test else "", test=test)
            variants = [variant for variant in variants if not fates[variant.name].killer]

    for variant in variants:
        fates[variant.name] = replace(fates[variant.name], same=as_deployed(layout, variant))
    return list(fates.values())


def write_report(fates: Sequence[Fate], seconds: float) -> None:
    """Print a table by contract and kind of change, and write the outcomes of all mutants to the report."""
    table = Table("CONTRACT", "CHANGE", "MUTANTS", *(killer.name for killer in KILLERS), "SAME", "SURVIVED", box=None)
    for contract, kind in dict.fromkeys((fate.contract, fate.mutant.kind) for fate in fates):
        table.add_row(contract, kind, *counts(f for f in fates if (f.contract, f.mutant.kind) == (contract, kind)))
    table.add_row("all", "", *counts(fates), style="bold")
    Console().print(table)
    Console().print(f"{killed(fates):.1%} killed, in {seconds:.0f} s; {REPORT.relative_to(CLONE)}")
    REPORT.parent.mkdir(exist_ok=True)
    rows = [asdict(fate) | {"name": fate.mutant.name} for fate in fates]
    REPORT.write_text(json.dumps(rows, indent=1, ensure_ascii=False))


def counts(fates: Iterable[Fate]) -> list[str]:
    """Count all mutants, the mutants that each test suite killed, the mutants with equal bytecode, and survivors."""
    every = list(fates)
    by_killer = [sum(fate.killer == killer.name for fate in every) for killer in KILLERS]
    numbers = [len(every), *by_killer, sum(fate.same for fate in every), sum(fate.survived for fate in every)]
    return [str(number or "") for number in numbers]


def killed(fates: Iterable[Fate]) -> float:
    """Return the share of killed mutants among the mutants whose bytecode differs from the contract's."""
    different = [fate for fate in fates if not fate.same]
    return sum(bool(fate.killer) for fate in different) / len(different) if different else 0.0


def explanations(text: str) -> dict[str, str]:
    """Return the explanation of each mutant by its name: the text below the heading with the mutant's name."""
    sections = re.split(r"^#{3,} (?=\w+\.\w+: )", text, flags=re.MULTILINE)[1:]
    pairs = (section.partition("\n") for section in sections)
    return {heading.strip(): re.split(r"^#", body, flags=re.MULTILINE)[0].strip() for heading, _, body in pairs}


def complaints(fates: Sequence[Fate], explained: Mapping[str, str], *, whole: bool) -> list[str]:
    """Return the problems of a run, one sentence each; `whole` is true if all mutants were run."""
    survivors = [fate.mutant.name for fate in fates if fate.survived]
    problems = [f"Survived without an explanation: {name}" for name in survivors if not explained.get(name)]
    if whole:
        problems += [f"Explained, but no survivor any more: {name}" for name in explained if name not in survivors]
        contracts = {fate.contract for fate in fates}
        problems += [f"{name} has no mutants." for name in CONTRACTS if name not in contracts]
        if len(fates) < FEWEST:
            problems.append(f"There are {len(fates)} mutants, fewer than {FEWEST}.")
        if killed(fates) < LEAST_KILLED:
            problems.append(f"{killed(fates):.1%} were killed, less than {LEAST_KILLED:.0%}.")
    return problems


if __name__ == "__main__":
    sys.exit(main())
