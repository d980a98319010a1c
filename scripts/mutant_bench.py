"""Compile mutants of the contracts, and run the test suites of `mutant_killers` on them in parallel."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from scripts.compilation import CompilationError, Layout, file_of
from scripts.mutant_killers import KILLED_BY_TIME, LIBRARIES, Ape, Forge, Variant
from scripts.mutation import Mutant

BATCH = 25
"""The number of mutants that one process compiles; a larger number would exhaust its memory."""
LOG_EVERY = 50
"""Without a terminal, a line is printed each time this number of mutants is done."""
BROKEN = b"\xfe"
"""Creation bytecode that reverts: every test suite must fail on it."""

Tables = SimpleQueue[Forge | Ape]


def compile_mutants(layout: Layout, changed: str, mutants: Sequence[Mutant], *, jobs: int) -> Iterator[Variant]:
    """Compile mutants of a contract or a library without optimizer and IR, which are slow; yield those that compile."""
    library, contract = (changed, LIBRARIES[changed]) if changed in LIBRARIES else ("", changed)
    source, size = layout.sources()[file_of(changed)].encode(), 1 if library else BATCH
    parts = [mutants[start : start + size] for start in range(0, len(mutants), size)]
    texts = [{mutant.name: mutant.apply(source).decode() for mutant in part} for part in parts]
    compile_texts = partial(compile_library, layout, library) if library else partial(compile_part, layout, contract)
    with ThreadPoolExecutor(jobs) as pool:
        for number, (part, creations) in enumerate(zip(texts, pool.map(compile_texts, texts), strict=True), 1):
            progress(f"Compiling mutants of {changed}, by {size}", number, total=len(parts))
            yield from (Variant(contract, part[name], code, name, library) for name, code in creations.items())


def compile_library(layout: Layout, library: str, texts: Mapping[str, str]) -> dict[str, bytes]:
    """Compile a contract with a changed library; return the creation bytecode by name, or nothing after an error."""
    [(name, text)] = texts.items()
    contract = LIBRARIES[library]
    sources = {file_of(library): text, file_of(contract): layout.sources()[file_of(contract)]}
    job = layout.job(sources, {file_of(contract): {contract: ["evm.bytecode.object"]}}, via_ir=False, optimize=False)
    try:
        return {name: bytecode(layout.compile(job)["contracts"][file_of(contract)][contract])}
    except CompilationError:
        return {}


def compile_part(layout: Layout, contract: str, texts: Mapping[str, str]) -> dict[str, bytes]:
    """Compile changed sources in one process; return the creation bytecode of those without errors, by name."""
    files = {f"contracts/mutant{number}.sol": name for number, name in enumerate(texts)}
    while files:
        sources = {file: texts[name] for file, name in files.items()}
        selection = {file: {contract: ["evm.bytecode.object"]} for file in files}
        job = layout.job(sources, selection, via_ir=False, optimize=False)
        try:
            compiled = layout.compile(job)["contracts"]
        except CompilationError as error:
            # One error fails the whole job: compile again without the files that have an error.
            files = {file: name for file, name in files.items() if file not in error.files}
            continue
        return {name: bytecode(compiled[file][contract]) for file, name in files.items()}
    return {}


def run_killer(
    killer: type[Forge | Ape], variants: Sequence[Variant], layout: Layout, *, folder: Path, jobs: int
) -> Iterator[tuple[Variant, str]]:
    """Run one test suite on variants of a contract; yield each with the test that failed, "" if all passed.

    `folder` contains a copy of the repository, ``tree``, and gets another copy for each job.

    Raises:
        RuntimeError: the suite fails on an unchanged contract, or passes on a broken one.
    """
    if not variants:
        return
    tables = lay_tables(killer, folder, jobs=jobs)
    for contract in dict.fromkeys(variant.contract for variant in variants):
        # The tests must pass on the unchanged contract, and fail on a contract that cannot be created.
        source = layout.sources()[file_of(contract)]
        creation = compile_part(layout, contract, {"": source})[""]
        if test := at_a_table(tables, Variant(contract, source, creation)):
            raise RuntimeError(f"the test {test} fails on the unchanged {contract}")
        if not at_a_table(tables, Variant(contract, "", BROKEN)):
            raise RuntimeError(f"the tests pass although {contract} cannot be created")
    for number, (variant, test) in enumerate(ask(tables, variants, jobs=jobs), 1):
        yield variant, test
        progress(f"Testing mutants by {killer.name}", number, total=len(variants))


def ask(tables: Tables, variants: Sequence[Variant], *, jobs: int) -> Iterator[tuple[Variant, str]]:
    """Yield each variant with the test that failed on it; variants that timed out are repeated at the end."""
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
    """Return whether a variant, compiled with the settings of ape-config.yaml, has the contract's own bytecode."""
    file, changed = file_of(variant.contract), file_of(variant.library or variant.contract)
    built = []
    for source in (variant.source, layout.sources()[changed]):
        sources = {file: layout.sources()[file], changed: source}
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
