"""Fuzz the CAR reader with libFuzzer: ``make fuzz``. An argument sets the number of seconds.

Every input is read in two ways: as the CAR of a known file, which must be refused or yield exactly this file; and as
the root block of an invented tree, which must be refused or read. Anything else is a defect: a foreign exception, more
than ten seconds for one input, or more than half a gigabyte. The input is then left in .build/fuzz.

The script has its own venv (requirements-fuzz.lock), because BlockOTA itself does not need Atheris.
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
"""The size of the invented file in bytes, at most."""


def main() -> None:
    """Fuzz for a fixed time, then end the process; the exit status is not 0 if a defect was found."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    seeds = FOLDER / "seeds"
    seeds.mkdir(parents=True, exist_ok=True)
    for name, seed in seed_inputs(TREE).items():
        (seeds / name).write_bytes(seed)
    limits = [f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=512", "-max_len=2048"]
    atheris.Setup([sys.argv[0], *limits, "-print_final_stats=1", f"-artifact_prefix={FOLDER}/", str(seeds)], try_input)
    atheris.Fuzz()


def seed_inputs(tree: Tree) -> dict[str, bytes]:
    """Valid inputs with which the fuzzer starts."""
    return {
        "dups-y": car(tree),
        "dups-n": car(tree, repeat=False),
        "root": tree.blocks[tree.root],
        "node": tree.blocks[tree.order[1]],
    }


def try_input(data: bytes) -> None:
    """Read one input in both ways."""
    found = unpacked(data, TREE.root, size=len(TREE.data))
    if found is not None and found != TREE.data:
        raise AssertionError("another file was taken for this one")
    root = CID.of(DAG_PB, data)
    known = b"".join(section(cid, block) for cid, block in TREE.blocks.items())
    for rest in (known, b""):
        unpacked(header(root) + section(root, data) + rest, root, size=MADE_UP_SIZE)


def unpacked(stream: bytes, root: CID, *, size: int) -> bytes | None:
    """The file in a stream; None if the stream is refused."""
    try:
        found = b"".join(unpack_car([stream], root, size=size))
    except ContentError:
        return None
    if len(found) > size:
        raise AssertionError("the file is larger than allowed")
    return found


if __name__ == "__main__":
    main()
