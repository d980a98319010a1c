"""Compile mutants, and run the tests of `mutant_killers` on them in parallel."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue

from scripts.compilation import CompilationError, Layout, file_of
from scripts.mutant_killers import KILLED_BY_TIME, Ape, Forge, Variant
from scripts.mutation import Mutant

BATCH = 25
"""Mutants compiled by one process; more would exhaust its memory."""
LOG_EVERY = 50
"""Without a terminal, a line is printed each time this number of mutants is done."""
BROKEN = b"\xfe"
"""Creation bytecode that reverts: every suite of tests must fail on it."""

Tables = SimpleQueue[Forge | Ape]


def compile_mutants(layout: Layout, contract: str, mutants: Sequence[Mutant], *, jobs: int) -> Iterator[Variant]:
    """The mutants of a contract that compile, with their bytecode; without optimizer and IR, which are slow."""
    source = layout.sources()[file_of(contract)].encode()
    parts = [mutants[start : start + BATCH] for start in range(0, len(mutants), BATCH)]
    texts = [{mutant.name: mutant.apply(source).decode() for mutant in part} for part in parts]
    with ThreadPoolExecutor(jobs) as pool:
        built = pool.map(lambda part: compile_part(layout, contract, part), texts)
        for number, (part, creations) in enumerate(zip(texts, built, strict=True), 1):
            progress(f"Compiling mutants of {contract}, by {BATCH}", number, total=len(parts))
            yield from (Variant(contract, part[name], creation, name) for name, creation in creations.items())


def compile_part(layout: Layout, contract: str, texts: Mapping[str, str]) -> dict[str, bytes]:
    """Creation bytecode of changed sources by name, compiled in one process; those with errors are left out."""
    files = {f"contracts/mutant{number}.sol": name for number, name in enumerate(texts)}
    while files:
        sources = {file: texts[name] for file, name in files.items()}
        selection = {file: {contract: ["evm.bytecode.object"]} for file in files}
        job = layout.job(sources, selection, via_ir=False, optimize=False)
        try:
            compiled = layout.compile(job)["contracts"]
        except CompilationError as error:
            # One error fails the whole job: compile again without the files that have one.
            files = {file: name for file, name in files.items() if file not in error.files}
            continue
        return {name: bytecode(compiled[file][contract]) for file, name in files.items()}
    return {}


def run_killer(
    killer: type[Forge | Ape], variants: Sequence[Variant], layout: Layout, *, folder: Path, jobs: int
) -> Iterator[tuple[Variant, str]]:
    """Run one suite of tests on variants; yields each with the test that failed, "" if all passed.

    The folder contains a copy of the tree, "tree", and gets a copy for each of the jobs.

    Raises:
        RuntimeError: the suite fails on an unchanged contract, or passes on a broken one.
    """
    if not variants:
        return
    tables = lay_tables(killer, folder, jobs=jobs)
    for contract in dict.fromkeys(variant.contract for variant in variants):
        # The unchanged contract must pass, and one that cannot be created must fail.
        source = layout.sources()[file_of(contract)]
        creation = compile_part(layout, contract, {"": source})[""]
        if test := at_a_table(tables, Variant(contract, source, creation)):
            raise RuntimeError(f"the unchanged {contract} does not pass {test}")
        if not at_a_table(tables, Variant(contract, "", BROKEN)):
            raise RuntimeError(f"the tests pass without {contract}")
    for number, (variant, test) in enumerate(ask(tables, variants, jobs=jobs), 1):
        yield variant, test
        progress(f"Testing mutants by {killer.name}", number, total=len(variants))


def ask(tables: Tables, variants: Sequence[Variant], *, jobs: int) -> Iterator[tuple[Variant, str]]:
    """Find the test that killed each variant, in completion order; timeouts are repeated one by one at the end."""
    late = []
    with ThreadPoolExecutor(jobs) as pool:
        asked = {pool.submit(at_a_table, tables, variant): variant for variant in variants}
        for done in as_completed(asked):
            if done.result() == KILLED_BY_TIME:
                late.append(asked[done])
            else:
                yield asked[done], done.result()
    for variant in late:
        yield variant, at_a_table(tables, variant)


def at_a_table(tables: Tables, variant: Variant) -> str:
    """Find the test that killed a variant, in the first free copy of the tree."""
    table = tables.get()
    try:
        return table.kills(variant)
    finally:
        tables.put(table)


def lay_tables(killer: type[Forge | Ape], folder: Path, *, jobs: int) -> Tables:
    """A built copy of the tree for each job."""
    progress(f"Building the tests by {killer.name}")
    tables: Tables = SimpleQueue()
    first = folder / killer.name / "0"
    shutil.copytree(folder / "tree", first, symlinks=True)
    killer.prepare(first)
    for number in range(jobs):
        copy = folder / killer.name / str(number)
        if number:
            shutil.copytree(first, copy, symlinks=True)
        tables.put(killer(copy))
    return tables


def as_deployed(layout: Layout, variant: Variant) -> bool:
    """Whether the variant, compiled as ape-config.yaml specifies, has the bytecode of the unchanged contract."""
    file = file_of(variant.contract)
    built = []
    for source in (variant.source, layout.sources()[file]):
        job = layout.job({file: source}, {file: {variant.contract: ["evm.bytecode.object"]}})
        # The metadata hash at the end of the code depends on the source text.
        job["settings"]["metadata"] = {"appendCBOR": False}
        built.append(bytecode(layout.compile(job)["contracts"][file][variant.contract]))
    return built[0] == built[1]


def bytecode(compiled: Mapping[str, Mapping[str, Mapping[str, str]]]) -> bytes:
    """The creation bytecode in a compiler's output."""
    return bytes.fromhex(compiled["evm"]["bytecode"]["object"])


def progress(text: str, done: int = 0, *, total: int = 0) -> None:
    """Overwrite the last line of a terminal; elsewhere print every `LOG_EVERY`-th line."""
    line = f"{text}: {done} of {total}" if total else text
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{line}")
        sys.stderr.flush()
    elif text and done % LOG_EVERY == 0:
        print(line, file=sys.stderr, flush=True)
