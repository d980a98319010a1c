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
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from scripts.build_artifacts import CONTRACTS
from scripts.compilation import CLONE, CompilationError, Layout, laid_out
from scripts.mutant_killers import KILLERS, Ape, Forge, Variant
from scripts.mutation import Mutant, enumerations, mutants_of

FOLDER = CLONE / ".build" / "mutants"
EXPLANATIONS = CLONE / "docs" / "mutants.md"
LEAST_KILLED, FEWEST = 0.95, 60
BATCH = 25
"""Mutants compiled by one process: few enough for its memory."""
SELDOM = 50
"""How many of them are passed over in a log before the next line."""
BROKEN = b"\xfe"
"""Bytecode that cannot be created: whatever tests the contract must notice."""

Tables = SimpleQueue[Forge | Ape]


@dataclass(frozen=True)
class Fate:
    """What became of a mutant.

    Attributes:
        contract: the contract.
        mutant: the change.
        killer: who killed it, "forge" or "Ape"; nothing when it survived.
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
    options = parser.parse_args(arguments)
    began = time.monotonic()
    with laid_out() as layout:
        chosen = {name: [m for m in every if re.search(options.only, m.name)] for name, every in spoil(layout).items()}
        if options.list:
            print("\n".join(mutant.name for every in chosen.values() for mutant in every))
            return 0
        fates = sorted(
            campaign(layout, chosen, jobs=options.jobs),
            key=lambda fate: (fate.contract, fate.mutant.start, fate.mutant.name),
        )
    progress("")
    print(f"{sum(map(len, chosen.values())) - len(fates)} mutants do not compile, and are left out.")
    write_report(fates, time.monotonic() - began)
    problems = complaints(fates, explanations(EXPLANATIONS.read_text()), whole=not options.only)
    print("\n".join(problems), file=sys.stderr)
    return 1 if problems else 0


def spoil(layout: Layout) -> dict[str, list[Mutant]]:
    """All mutants by contract."""
    sources = layout.sources()
    units = layout.compile(layout.job(sources, {"*": {"": ["ast"]}}))["sources"]
    enums = {name: members for unit in units.values() for name, members in enumerations(unit["ast"]).items()}
    return {
        name: mutants_of(sources[file].encode(), units[file]["ast"], enums=enums)
        for name, file in ((name, file_of(name)) for name in CONTRACTS)
    }


def campaign(layout: Layout, chosen: Mapping[str, Sequence[Mutant]], *, jobs: int) -> Iterator[Fate]:
    """The fate of every mutant that compiles; what no killer noticed is named at once, lest it be lost."""
    with TemporaryDirectory() as folder:  # Ape finds no contracts below .build
        tables = [lay_tables(killer, Path(folder) / killer.name, jobs=jobs) for killer in KILLERS]
        contracts = [name for name, every in chosen.items() if every]
        for table, contract in product(tables, contracts):
            check_killer(layout, contract, tables=table)
        variants = {
            (name, mutant): variant
            for name in contracts
            for mutant, variant in build(layout, name, every=chosen[name], jobs=jobs)
        }
        for killer, table in zip(KILLERS, tables, strict=True):
            results = meet(table, killer.name, variants=list(variants.values()), jobs=jobs)
            tests = dict(zip(variants, results, strict=True))
            yield from (Fate(*key, killer.name, test) for key, test in tests.items() if test)
            variants = {key: variant for key, variant in variants.items() if not tests[key]}
            progress(f"\nNot noticed by {killer.name}:\n" + "\n".join(mutant.name for _, mutant in variants))
    for number, ((name, mutant), variant) in enumerate(variants.items(), 1):
        progress("Compiling survivors as they are deployed", number, total=len(variants))
        yield Fate(name, mutant, same=is_same(layout, variant))


def build(layout: Layout, contract: str, *, every: Sequence[Mutant], jobs: int) -> Iterator[tuple[Mutant, Variant]]:
    """Each mutant with its bytecode, by the compiler's short way; those that do not compile are left out."""
    source = layout.sources()[file_of(contract)].encode()
    texts = [mutant.apply(source).decode() for mutant in every]
    parts = [range(start, min(start + BATCH, len(texts))) for start in range(0, len(texts), BATCH)]
    with ThreadPoolExecutor(jobs) as pool:
        built = pool.map(lambda part: compile_part(layout, contract, {i: texts[i] for i in part}), parts)
        for part, creations in zip(parts, built, strict=True):
            progress(f"Compiling mutants of {contract}", part.stop, total=len(texts))
            yield from ((every[i], Variant(contract, texts[i], creation)) for i, creation in creations.items())


def compile_part(layout: Layout, contract: str, texts: Mapping[int, str]) -> dict[int, bytes]:
    """Creation bytecode of several changed sources by their number, compiled side by side in one process."""
    files = {f"contracts/mutant{number}.sol": number for number in texts}
    while files:
        sources = {file: texts[number] for file, number in files.items()}
        selection = {file: {contract: ["evm.bytecode.object"]} for file in files}
        job = layout.job(sources, selection, via_ir=False, optimize=False)
        try:
            compiled = layout.compile(job)["contracts"]
        except CompilationError as error:
            files = {file: number for file, number in files.items() if file not in error.files}
            continue
        return {number: bytecode(compiled[file][contract]) for file, number in files.items()}
    return {}


def meet(tables: Tables, killer: str, *, variants: Sequence[Variant], jobs: int) -> list[str]:
    """The test that failed, or nothing, for each variant; in copies of the tree, side by side."""
    found = []
    with ThreadPoolExecutor(jobs) as pool:
        for test in pool.map(lambda variant: at_a_table(tables, variant), variants):
            found.append(test)
            progress(f"Giving mutants to {killer}", len(found), total=len(variants))
    return found


def at_a_table(tables: Tables, variant: Variant) -> str:
    """What killed a variant, in the first copy of the tree that is free."""
    table = tables.get()
    try:
        return table.kills(variant)
    finally:
        tables.put(table)


def lay_tables(killer: type[Forge | Ape], folder: Path, *, jobs: int) -> Tables:
    """A copy of the tree a job, of which one is prepared."""
    progress(f"Preparing the tests by {killer.name}")
    tables: Tables = SimpleQueue()
    killer.prepare(folder / "0")
    for number in range(jobs):
        if number:
            shutil.copytree(folder / "0", folder / str(number), symlinks=True)
        tables.put(killer(folder / str(number)))
    return tables


def check_killer(layout: Layout, contract: str, *, tables: Tables) -> None:
    """Make sure that the contract as it stands passes, and that one which cannot be created does not.

    Raises:
        RuntimeError: one of both is not so, and the tests prove nothing.
    """
    source = layout.sources()[file_of(contract)]
    creation = compile_part(layout, contract, {0: source})[0]
    if test := at_a_table(tables, Variant(contract, source, creation)):
        raise RuntimeError(f"{contract} as it stands does not pass: {test}")
    if not at_a_table(tables, Variant(contract, "", BROKEN)):
        raise RuntimeError(f"the tests pass without {contract}")


def is_same(layout: Layout, variant: Variant) -> bool:
    """Whether a variant has the contract's own bytecode, compiled as it is deployed."""
    file = file_of(variant.contract)
    codes = []
    for text in (layout.sources()[file], variant.source):
        job = layout.job({file: text}, {file: {variant.contract: ["evm.bytecode.object"]}})
        job["settings"]["metadata"] = {"appendCBOR": False}
        codes.append(bytecode(layout.compile(job)["contracts"][file][variant.contract]))
    return codes[0] == codes[1]


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


def file_of(contract: str) -> str:
    """The file that defines a contract."""
    return f"contracts/{contract}.sol"


def bytecode(compiled: Mapping[str, Mapping[str, Mapping[str, str]]]) -> bytes:
    """The creation bytecode in a compiler's output."""
    return bytes.fromhex(compiled["evm"]["bytecode"]["object"])


def progress(text: str, done: int = 0, *, total: int = 0) -> None:
    """Overwrite the last line of a terminal; elsewhere print a line now and then."""
    line = f"{text}: {done} of {total}" if total else text
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{line}")
        sys.stderr.flush()
    elif text and done % SELDOM == 0:
        print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
