"""Make each change of `mutation` in a copy of the contracts, and check that the tests fail: ``make mutants``.

Forge's tests and the Python tests (`mutant_killers`) run on each mutant until a test fails. If all tests pass on a
mutant, the mutant is compiled with the settings of the deployment. A mutant with the same bytecode as the contract is
left out. Every other surviving mutant must be explained in docs/contracts.md under a heading with its name. The exit
status is 1 if a survivor is not explained, an explanation has no survivor, or the tests kill less than 95 % of a
contract's mutants.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from scripts.compilation import CLONE, CONTRACTS, Layout, files_of, laid_out
from scripts.mutant_bench import as_deployed, compile_mutants, progress, run_killer
from scripts.mutant_killers import KILLERS, copy_tree
from scripts.mutation import Mutant, enumerations, mutants_of

REPORT = CLONE / ".build" / "mutants.json"
EXPLANATIONS = CLONE / "docs" / "contracts.md"
LEAST_KILLED, FEWEST = 0.95, 60
NOT_COMPILED = "solc"
SEED = 1
"""The seed of a sample, so that the same mutants are run again."""


@dataclass(frozen=True)
class Fate:
    """The outcome of one mutant.

    Attributes:
        contract: name of the contract.
        file: the changed file.
        mutant: the change.
        killer: the test suite that failed, "forge" or "Ape"; "solc" if the mutant does not compile; empty for a
            survivor.
        test: the first test that failed.
        same: whether the mutant's deployed bytecode equals the contract's.
    """

    contract: str
    file: str
    mutant: Mutant
    killer: str = ""
    test: str = ""
    same: bool = False

    @property
    def survived(self) -> bool:
        """Whether all tests passed although the mutant's bytecode differs from the contract's."""
        return not self.killer and not self.same


def main(arguments: list[str] | None = None) -> int:
    """Run the tests on all or some mutants, write the report, and print the table and the problems."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="run the mutants whose name matches this regular expression")
    parser.add_argument("--contract", action="append", help="run the mutants of this contract; can be repeated")
    parser.add_argument("--sample", type=int, help="run this number of each contract's mutants, drawn by a fixed seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="number of mutants tested in parallel")
    parser.add_argument("--list", action="store_true", help="print the names and run nothing")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    with laid_out() as layout:
        wanted = [
            fate
            for fate in all_mutants(layout)
            if re.search(options.only, fate.mutant.name) and fate.contract in (options.contract or CONTRACTS)
        ]
        chosen = drawn_of(wanted, options.sample) if options.sample else wanted
        if options.list:
            print("\n".join(fate.mutant.name for fate in chosen))
            return 0
        every = campaign(layout, chosen, jobs=options.jobs)
    fates = [fate for fate in every if fate.killer != NOT_COMPILED]
    progress("")
    print(f"{len(every) - len(fates)} mutants do not compile and are left out.")
    write_report(fates, time.monotonic() - began)
    whole = not (options.only or options.contract or options.sample)
    problems = complaints(fates, explanations(EXPLANATIONS.read_text()), whole=whole)
    print("\n".join(problems), file=sys.stderr)
    return 1 if problems else 0


def all_mutants(layout: Layout) -> list[Fate]:
    """Return all mutants, each with its contract and file; no test has run yet."""
    sources = layout.sources()
    units = layout.compile(layout.job(sources, {"*": {"": ["ast"]}}))["sources"]
    enums = {name: members for unit in units.values() for name, members in enumerations(unit["ast"]).items()}
    return [
        Fate(contract, file, mutant)
        for contract in CONTRACTS
        for file in files_of(contract)
        for mutant in mutants_of(sources[file].encode(), units[file]["ast"], enums=enums)
    ]


def drawn_of(fates: Sequence[Fate], count: int) -> list[Fate]:
    """Return a sample of at most `count` mutants of each contract, in their order."""
    drawn: list[Fate] = []
    for contract in dict.fromkeys(fate.contract for fate in fates):
        own = [fate for fate in fates if fate.contract == contract]
        places = random.Random(SEED).sample(range(len(own)), min(count, len(own)))  # noqa: S311 - no secret
        drawn += [own[place] for place in sorted(places)]
    return drawn


def campaign(layout: Layout, chosen: Sequence[Fate], *, jobs: int) -> list[Fate]:
    """Run the tests on the chosen mutants; return the outcome of each mutant, in the given order."""
    fates = {fate.mutant.name: fate for fate in chosen}
    variants = [
        variant
        for contract in dict.fromkeys(fate.contract for fate in chosen)
        for variant in compile_mutants(
            layout, contract, [(fate.file, fate.mutant) for fate in chosen if fate.contract == contract], jobs=jobs
        )
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
    for contract in dict.fromkeys(fate.contract for fate in fates):
        own = [fate for fate in fates if fate.contract == contract]
        Console().print(f"{contract}: {', '.join(counts(own))}; {killed(own):.1%} killed")
    Console().print(f"In {seconds:.0f} s; {REPORT.relative_to(CLONE)}")
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
        for name in dict.fromkeys(fate.contract for fate in fates):
            share = killed(fate for fate in fates if fate.contract == name)
            if share < LEAST_KILLED:
                problems.append(f"{share:.1%} of {name}'s were killed, less than {LEAST_KILLED:.0%}.")
    return problems


if __name__ == "__main__":
    sys.exit(main())
