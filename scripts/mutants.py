"""Spoil the contracts in every way of `mutation`, and see whether the tests notice: ``make mutants``.

Each mutant meets the killers of `mutant_killers` in their order until one fails. A survivor whose bytecode, compiled
as it is deployed, is the contract's own is no mutant at all. Every other survivor must be explained in docs/mutants.md
under a heading with its name, and 95 % must be killed all the same. The exit status is 1 when something of this does
not hold, or when an explanation explains nothing any more.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from scripts.build_artifacts import CONTRACTS
from scripts.compilation import CLONE, Layout, laid_out
from scripts.mutant_bench import Bench, examine, file_of, progress
from scripts.mutant_journal import Examined, Journal
from scripts.mutant_killers import KILLERS, copy_tree
from scripts.mutation import Mutant, enumerations, mutants_of

FOLDER = CLONE / ".build" / "mutants"
JOURNAL = FOLDER / "fates.jsonl"
EXPLANATIONS = CLONE / "docs" / "mutants.md"
LEAST_KILLED, FEWEST = 0.95, 60


@dataclass(frozen=True)
class Fate:
    """What became of a mutant.

    Attributes:
        contract: the contract.
        mutant: the change.
        killer: who killed it, "forge" or "Ape", or "solc" that does not compile it; nothing when it survived.
        test: the first test that failed.
        same: whether its bytecode is the contract's own.
    """

    contract: str
    mutant: Mutant
    killer: str = ""
    test: str = ""
    same: bool = False

    @property
    def survived(self) -> bool:
        """Whether it is another contract, and no test noticed."""
        return not self.killer and not self.same


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign, or a part of it; write the report, print the table and what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="mutants whose name this regular expression finds")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many mutants to test side by side")
    parser.add_argument("--list", action="store_true", help="name the mutants, and run none")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier campaigns found")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    with laid_out() as layout:
        chosen = [(contract, mutant) for contract, mutant in spoil(layout) if re.search(options.only, mutant.name)]
        if options.list:
            print("\n".join(mutant.name for _, mutant in chosen))
            return 0
        every = campaign(layout, chosen, jobs=options.jobs, fresh=options.fresh)
    fates = [fate for fate in every if fate.killer != "solc"]
    progress("")
    print(f"{len(every) - len(fates)} mutants do not compile, and are left out.")
    write_report(fates, time.monotonic() - began)
    problems = complaints(fates, explanations(EXPLANATIONS.read_text()), whole=not options.only)
    print("\n".join(problems), file=sys.stderr)
    return 1 if problems else 0


def spoil(layout: Layout) -> list[tuple[str, Mutant]]:
    """All mutants, each with its contract's name."""
    sources = layout.sources()
    units = layout.compile(layout.job(sources, {"*": {"": ["ast"]}}))["sources"]
    enums = {name: members for unit in units.values() for name, members in enumerations(unit["ast"]).items()}
    files = {name: file_of(name) for name in CONTRACTS}
    return [
        (name, mutant)
        for name, file in files.items()
        for mutant in mutants_of(sources[file].encode(), units[file]["ast"], enums=enums)
    ]


def campaign(layout: Layout, chosen: Sequence[tuple[str, Mutant]], *, jobs: int, fresh: bool) -> list[Fate]:
    """The fate of every mutant chosen, from the journal where it is known already."""
    if fresh:
        JOURNAL.unlink(missing_ok=True)
    with TemporaryDirectory() as folder:  # Ape finds no contracts below .build
        tree = Path(folder) / "tree"
        copy_tree(tree)
        journal = Journal(JOURNAL, root=tree)
        undecided = [key for key in chosen if fate_of(journal, *key) is None]
        print(f"{len(chosen) - len(undecided)} of {len(chosen)} mutants are known from {JOURNAL.relative_to(CLONE)}")
        examine(Bench(layout, journal, Path(folder), jobs), undecided)
    return [fate for key in chosen if (fate := fate_of(journal, *key))]


def fate_of(journal: Journal, contract: str, mutant: Mutant) -> Fate | None:
    """What the journal tells of a mutant: who objected, or that all let it pass; None when somebody must be asked."""
    examiners = ("solc", *(killer.name for killer in KILLERS), "bytecode")
    found = {name: journal.find(Examined(name, contract, mutant.name)) for name in examiners}
    for examiner in examiners[:-1]:
        if test := found[examiner]:
            return Fate(contract, mutant, examiner, test)
    asked = all(found[name] is not None for name in examiners[1:])
    return Fate(contract, mutant, same=bool(found["bytecode"])) if asked else None


def write_report(fates: Sequence[Fate], seconds: float) -> None:
    """Print a table by contract and kind of change, and write everything to report.json."""
    table = Table("CONTRACT", "CHANGE", "MUTANTS", *(killer.name for killer in KILLERS), "SAME", "SURVIVED", box=None)
    for contract, kind in dict.fromkeys((fate.contract, fate.mutant.kind) for fate in fates):
        table.add_row(contract, kind, *counts(f for f in fates if (f.contract, f.mutant.kind) == (contract, kind)))
    table.add_row("all", "", *counts(fates), style="bold")
    Console().print(table)
    Console().print(f"{killed(fates):.1%} killed, in {seconds:.0f} s; {FOLDER.relative_to(CLONE)}/report.json")
    FOLDER.mkdir(parents=True, exist_ok=True)
    rows = [asdict(fate) | {"name": fate.mutant.name} for fate in fates]
    (FOLDER / "report.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False))


def counts(fates: Iterable[Fate]) -> list[str]:
    """Mutants in all, by killer, of the same bytecode, and survivors."""
    every = list(fates)
    by_killer = [sum(fate.killer == killer.name for fate in every) for killer in KILLERS]
    numbers = [len(every), *by_killer, sum(fate.same for fate in every), sum(fate.survived for fate in every)]
    return [str(number or "") for number in numbers]


def killed(fates: Iterable[Fate]) -> float:
    """The share of mutants killed, of those that are another contract."""
    different = [fate for fate in fates if not fate.same]
    return sum(bool(fate.killer) for fate in different) / len(different) if different else 0.0


def explanations(text: str) -> dict[str, str]:
    """What docs/mutants.md says, by the name of the mutant: third-level headings and the text below each."""
    sections = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    pairs = (section.partition("\n") for section in sections)
    return {heading.strip(): re.split(r"^#", body, flags=re.MULTILINE)[0].strip() for heading, _, body in pairs}


def complaints(fates: Sequence[Fate], explained: Mapping[str, str], *, whole: bool) -> list[str]:
    """What is wrong, a sentence each.

    Args:
        fates: of the mutants that were run.
        explained: explanations by name.
        whole: whether all mutants were run.
    """
    survivors = [fate.mutant.name for fate in fates if fate.survived]
    problems = [f"Survived without an explanation: {name}" for name in survivors if not explained.get(name)]
    if whole:
        problems += [f"Explained, but no survivor any more: {name}" for name in explained if name not in survivors]
        contracts = {fate.contract for fate in fates}
        problems += [f"There are no mutants of {name}." for name in CONTRACTS if name not in contracts]
        if len(fates) < FEWEST:
            problems.append(f"There are {len(fates)} mutants, fewer than {FEWEST}.")
        if killed(fates) < LEAST_KILLED:
            problems.append(f"{killed(fates):.1%} were killed, less than {LEAST_KILLED:.0%}.")
    return problems


if __name__ == "__main__":
    sys.exit(main())
