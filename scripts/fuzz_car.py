"""Let libFuzzer look for a stream that the CAR reader takes wrongly: ``make fuzz``, or with a number of seconds.

Two things are tried with every input: it is the CAR of a known file, which must be refused or yield that very file; and
it is the root of a made-up tree, which must be refused or read like any other. Whatever else happens is a defect: an
exception other than ours, ten seconds for one input, or half a gigabyte. The input is then left in .build/fuzz.

It runs in a venv of its own (requirements-fuzz.lock), for Atheris has no place among what BlockOTA needs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped]  # it lives in the venv of this script alone

with atheris.instrument_imports():
    from blockota.errors import ContentError
    from blockota.formats.cid import CID, DAG_PB
    from tests.support.car_samples import Tree, balanced, car, header, section, unpack_car

SECONDS = 60
FOLDER = Path(".build") / "fuzz"
TREE = balanced([b"vector table", b"\xff\xff", b"code", b"\xff\xff", b"data"], width=3)
MADE_UP_SIZE = 1 << 12
"""Bytes of the largest made-up file."""


def main() -> None:
    """Fuzz for a fixed time; ends the process, with a status other than 0 when something was found."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    seeds = FOLDER / "seeds"
    seeds.mkdir(parents=True, exist_ok=True)
    for name, seed in seed_inputs(TREE).items():
        (seeds / name).write_bytes(seed)
    limits = [f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=512", "-max_len=2048"]
    atheris.Setup([sys.argv[0], *limits, "-print_final_stats=1", f"-artifact_prefix={FOLDER}/", str(seeds)], try_input)
    atheris.Fuzz()


def seed_inputs(tree: Tree) -> dict[str, bytes]:
    """Right inputs, from which the fuzzer begins."""
    return {
        "dups-y": car(tree),
        "dups-n": car(tree, repeat=False),
        "root": tree.blocks[tree.root],
        "node": tree.blocks[tree.order[1]],
    }


def try_input(data: bytes) -> None:
    """Hold one input against both readings."""
    found = unpacked(data, TREE.root, size=len(TREE.data))
    if found is not None and found != TREE.data:
        raise AssertionError("another file was taken for this one")
    root = CID.of(DAG_PB, data)
    known = b"".join(section(cid, block) for cid, block in TREE.blocks.items())
    for rest in (known, b""):
        unpacked(header(root) + section(root, data) + rest, root, size=MADE_UP_SIZE)


def unpacked(stream: bytes, root: CID, *, size: int) -> bytes | None:
    """The file in a stream, or nothing where it is refused."""
    try:
        found = b"".join(unpack_car([stream], root, size=size))
    except ContentError:
        return None
    if len(found) > size:
        raise AssertionError("the file is larger than allowed")
    return found


if __name__ == "__main__":
    main()
