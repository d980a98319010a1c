"""Give mutants to their examiners: the compiler, the killers of `mutant_killers`, and the compiler once more.

Every result goes into the journal as soon as it is known; whoever was asked already is not asked again.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from scripts.compilation import CompilationError, Layout
from scripts.mutant_journal import Examined, Journal
from scripts.mutant_killers import KILLED_BY_TIME, KILLERS, Ape, Forge, Variant
from scripts.mutation import Mutant

BATCH = 25
"""Mutants compiled by one process: few enough for its memory."""
SELDOM = 50
"""How many of them are passed over in a log before the next line."""
BROKEN = b"\xfe"
"""Bytecode that cannot be created: whatever tests the contract must notice."""

Tables = SimpleQueue[Forge | Ape]


@dataclass(frozen=True)
class Bench:
    """What a campaign works with.

    Attributes:
        layout: the compiler's.
        journal: where results are kept.
        folder: where copies of the tree lie; the first of them is "tree".
        jobs: how many mutants are tested side by side.
    """

    layout: Layout
    journal: Journal
    folder: Path
    jobs: int

    def found(self, examiner: str, variant: Variant) -> str | None:
        """What an examiner found; None when it was not asked."""
        return self.journal.find(Examined(examiner, variant.contract, variant.name))

    def keep(self, examiner: str, variant: Variant, result: str) -> None:
        """Keep what an examiner found."""
        self.journal.add(Examined(examiner, variant.contract, variant.name), result)


def examine(bench: Bench, undecided: Sequence[tuple[str, Mutant]]) -> None:
    """Ask whoever is still to be asked about mutants, each given with its contract's name; the journal gets it all."""
    contracts = dict.fromkeys(name for name, _ in undecided)
    variants = [variant for name in contracts for variant in build(bench, name, every=undecided)]
    for killer in KILLERS:
        variants = meet(bench, killer, variants=variants)
    compare(bench, [variant for variant in variants if bench.found("bytecode", variant) is None])


def build(bench: Bench, contract: str, *, every: Sequence[tuple[str, Mutant]]) -> Iterator[Variant]:
    """Each of the contract's mutants with its bytecode, by the compiler's short way; it refuses some."""
    source = bench.layout.sources()[file_of(contract)].encode()
    texts = {mutant.name: mutant.apply(source).decode() for name, mutant in every if name == contract}
    with ThreadPoolExecutor(bench.jobs) as pool:
        names = list(texts)
        parts = [{name: texts[name] for name in names[i : i + BATCH]} for i in range(0, len(names), BATCH)]
        built = pool.map(lambda part: compile_part(bench.layout, contract, part), parts)
        for number, (part, creations) in enumerate(zip(parts, built, strict=True), 1):
            progress(f"Compiling mutants of {contract}, by {BATCH}", number, total=len(parts))
            for name, text in part.items():
                variant = Variant(contract, text, creations.get(name, b""), name)
                if variant.creation:
                    yield variant
                else:
                    bench.keep("solc", variant, "refused")


def compile_part(layout: Layout, contract: str, texts: Mapping[str, str]) -> dict[str, bytes]:
    """Creation bytecode of several changed sources by their name, compiled side by side in one process."""
    files = {f"contracts/mutant{number}.sol": name for number, name in enumerate(texts)}
    while files:
        sources = {file: texts[name] for file, name in files.items()}
        selection = {file: {contract: ["evm.bytecode.object"]} for file in files}
        job = layout.job(sources, selection, via_ir=False, optimize=False)
        try:
            compiled = layout.compile(job)["contracts"]
        except CompilationError as error:
            files = {file: name for file, name in files.items() if file not in error.files}
            continue
        return {name: bytecode(compiled[file][contract]) for file, name in files.items()}
    return {}


def meet(bench: Bench, killer: type[Forge | Ape], *, variants: Sequence[Variant]) -> list[Variant]:
    """Give variants to a killer that was not asked before; returns those that it let pass."""
    asked = [variant for variant in variants if bench.found(killer.name, variant) is None]
    if asked:
        tables = lay_tables(bench, killer)
        for contract in dict.fromkeys(variant.contract for variant in asked):
            check_killer(bench, contract, tables=tables)
        for number, (variant, test) in enumerate(ask(tables, asked, jobs=bench.jobs), 1):
            bench.keep(killer.name, variant, test)
            progress(f"Giving mutants to {killer.name}", number, total=len(asked))
    return [variant for variant in variants if not bench.found(killer.name, variant)]


def ask(tables: Tables, variants: Sequence[Variant], *, jobs: int) -> Iterator[tuple[Variant, str]]:
    """What killed each variant, as soon as it is known; what took too long beside others is tried again alone."""
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
    """What killed a variant, in the first copy of the tree that is free."""
    table = tables.get()
    try:
        return table.kills(variant)
    finally:
        tables.put(table)


def lay_tables(bench: Bench, killer: type[Forge | Ape]) -> Tables:
    """A copy of the tree a job, of which one is prepared."""
    progress(f"Preparing the tests by {killer.name}")
    tables: Tables = SimpleQueue()
    folder = bench.folder / killer.name
    shutil.copytree(bench.folder / "tree", folder / "0", symlinks=True)
    killer.prepare(folder / "0")
    for number in range(bench.jobs):
        if number:
            shutil.copytree(folder / "0", folder / str(number), symlinks=True)
        tables.put(killer(folder / str(number)))
    return tables


def check_killer(bench: Bench, contract: str, *, tables: Tables) -> None:
    """Make sure that the contract as it stands passes, and that one which cannot be created does not.

    Raises:
        RuntimeError: one of both is not so, and the tests prove nothing.
    """
    source = bench.layout.sources()[file_of(contract)]
    creation = compile_part(bench.layout, contract, {"": source})[""]
    if test := at_a_table(tables, Variant(contract, source, creation)):
        raise RuntimeError(f"{contract} as it stands does not pass: {test}")
    if not at_a_table(tables, Variant(contract, "", BROKEN)):
        raise RuntimeError(f"the tests pass without {contract}")


def compare(bench: Bench, survivors: Sequence[Variant]) -> None:
    """Tell the survivors that have the contract's own bytecode, compiled as it is deployed, from the others."""
    sources = bench.layout.sources()
    own = {
        name: as_deployed(bench.layout, name, source=sources[file_of(name)]) for name in {v.contract for v in survivors}
    }
    with ThreadPoolExecutor(bench.jobs) as pool:
        built = {pool.submit(as_deployed, bench.layout, v.contract, source=v.source): v for v in survivors}
        for number, done in enumerate(as_completed(built), 1):
            variant = built[done]
            bench.keep("bytecode", variant, "same" if done.result() == own[variant.contract] else "")
            progress("Compiling survivors as they are deployed", number, total=len(survivors))


def as_deployed(layout: Layout, contract: str, *, source: str) -> bytes:
    """Creation bytecode by the settings of ape-config.yaml, without the digest of the source at its end."""
    file = file_of(contract)
    job = layout.job({file: source}, {file: {contract: ["evm.bytecode.object"]}})
    job["settings"]["metadata"] = {"appendCBOR": False}
    return bytecode(layout.compile(job)["contracts"][file][contract])


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
