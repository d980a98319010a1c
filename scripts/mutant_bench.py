"""Compile mutants of the contracts, and run the test suites of `mutant_killers` on them in parallel."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from pathlib import Path
from posixpath import dirname, normpath
from queue import SimpleQueue

from scripts.compilation import CompilationError, Layout, file_of
from scripts.mutant_killers import KILLED_BY_TIME, Ape, Forge, Variant
from scripts.mutation import Mutant

BATCH = 8
"""The number of mutants that one process compiles; a larger number would exhaust its memory."""
LOG_EVERY = 50
"""Without a terminal, a line is printed each time this number of mutants is done."""
BROKEN = b"\xfe"
"""Creation bytecode that reverts: every test suite must fail on it."""

Tables = SimpleQueue[Forge | Ape]


def compile_mutants(
    layout: Layout, contract: str, mutants: Sequence[tuple[str, Mutant]], *, jobs: int
) -> Iterator[Variant]:
    """Compile mutants of a contract, and yield the mutants that compile.

    The optimizer and the IR are not used, because they are slow.

    Args:
        layout: the folder with the sources.
        contract: the name of the contract.
        mutants: for each mutant, the name of the changed file, and the change.
        jobs: the number of processes.
    """
    sources = {file: text.encode() for file, text in layout.sources().items()}
    variants = [Variant(contract, file, one.apply(sources[file]).decode(), name=one.name) for file, one in mutants]
    parts = [variants[start : start + BATCH] for start in range(0, len(variants), BATCH)]
    with ThreadPoolExecutor(jobs) as pool:
        for number, compiled in enumerate(pool.map(partial(compile_part, layout), parts), 1):
            progress(f"Compiling mutants of {contract}, by {BATCH}", number, total=len(parts))
            yield from compiled


def compile_part(layout: Layout, variants: Sequence[Variant]) -> list[Variant]:
    """Compile several variants of a contract's sources in one process; return the variants that compile, with bytecode.

    The sources of each variant are in a folder of their own, because their imports are relative.
    """
    folders = {f"contracts/mutant{number}": variant for number, variant in enumerate(variants)}
    while folders:
        sources: dict[str, str] = {}
        selection: dict[str, dict[str, list[str]]] = {}
        mains: dict[str, str] = {}
        for folder, variant in folders.items():
            main = file_of(variant.contract)
            changed = layout.sources() | {variant.file: variant.source}
            sources |= {moved(file, folder): changed[file] for file in imported(main, layout.sources())}
            mains[folder] = moved(main, folder)
            selection[mains[folder]] = {variant.contract: ["evm.bytecode.object"]}
        job = layout.job(sources, selection, via_ir=False, optimize=False)
        try:
            compiled = layout.compile(job)["contracts"]
        except CompilationError as error:
            # One error fails the whole job: compile again without the variants that have an error.
            failed = {"/".join(file.split("/")[:2]) for file in error.files}
            folders = {folder: variant for folder, variant in folders.items() if folder not in failed}
            continue
        return [
            replace(variant, creation=bytecode(compiled[mains[folder]][variant.contract]))
            for folder, variant in folders.items()
        ]
    return []


def imported(file: str, sources: Mapping[str, str]) -> set[str]:
    """Return the names of a file of contracts/ and of all files that it imports directly or indirectly."""
    found, left = set(), [file]
    while left:
        name = left.pop()
        found.add(name)
        paths = re.findall(r'from "(\.[^"]+)"', sources[name])
        left += {normpath(f"{dirname(name)}/{path}") for path in paths} - found
    return found


def moved(file: str, folder: str) -> str:
    """Return the name of a file of contracts/ in another folder."""
    return f"{folder}/{file.removeprefix('contracts/')}"


def run_killer(
    killer: type[Forge | Ape], variants: Sequence[Variant], layout: Layout, *, folder: Path, jobs: int
) -> Iterator[tuple[Variant, str]]:
    """Run one test suite on variants of a contract; yield each variant with its failed test, "" if all tests passed.

    `folder` contains a copy of the repository, ``tree``. For each job, another copy is made in `folder`.

    Raises:
        RuntimeError: the suite fails on an unchanged contract, or passes on a contract that cannot be created.
    """
    if not variants:
        return
    tables = lay_tables(killer, folder, jobs=jobs)
    for contract in dict.fromkeys(variant.contract for variant in variants):
        # The tests must pass on the unchanged contract, and fail on a contract that cannot be created.
        file = file_of(contract)
        [unchanged] = compile_part(layout, [Variant(contract, file, layout.sources()[file])])
        if test := at_a_table(tables, unchanged):
            raise RuntimeError(f"the test {test} fails on the unchanged {contract}")
        if not at_a_table(tables, Variant(contract, file, "", BROKEN)):
            raise RuntimeError(f"the tests pass although {contract} cannot be created")
    for number, (variant, test) in enumerate(ask(tables, variants, jobs=jobs), 1):
        yield variant, test
        progress(f"Testing mutants by {killer.name}", number, total=len(variants))


def ask(tables: Tables, variants: Sequence[Variant], *, jobs: int) -> Iterator[tuple[Variant, str]]:
    """Yield each variant with its failed test; at the end, test the variants that timed out again."""
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
    """Run the tests on a variant in the first free copy of the repository; return the test that failed."""
    table = tables.get()
    try:
        return table.kills(variant)
    finally:
        tables.put(table)


def lay_tables(killer: type[Forge | Ape], folder: Path, *, jobs: int) -> Tables:
    """Return a queue with one compiled copy of the repository for each job."""
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
    """Return whether a variant and its contract have the same bytecode with the settings of ape-config.yaml."""
    file, built = file_of(variant.contract), []
    for source in (variant.source, layout.sources()[variant.file]):
        sources = {file: layout.sources()[file], variant.file: source}
        job = layout.job(sources, {file: {variant.contract: ["evm.bytecode.object"]}})
        # The metadata hash at the end of the code depends on the source text.
        job["settings"]["metadata"] = {"appendCBOR": False}
        built.append(bytecode(layout.compile(job)["contracts"][file][variant.contract]))
    return built[0] == built[1]


def bytecode(compiled: Mapping[str, Mapping[str, Mapping[str, str]]]) -> bytes:
    """Return the creation bytecode in the compiler's output."""
    return bytes.fromhex(compiled["evm"]["bytecode"]["object"])


def progress(text: str, done: int = 0, *, total: int = 0) -> None:
    """Overwrite the last line of a terminal; without a terminal, print every `LOG_EVERY`-th line."""
    line = f"{text}: {done} of {total}" if total else text
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{line}")
        sys.stderr.flush()
    elif text and done % LOG_EVERY == 0:
        print(line, file=sys.stderr, flush=True)
