"""Fuzz the CAR reader with libFuzzer: ``make fuzz``. An argument sets the duration in seconds.

Each input is read as the CAR of a known file: the reader must refuse it or return exactly this file. Each input is
also read as the root block of an unknown file: the reader must refuse it or return a file. An exception other than
ContentError, a run of more than ten seconds, and more than 512 MB of memory are defects. If an input reveals a defect,
the fuzzer writes the input to .build/fuzz.

The script has its own venv (requirements-fuzz.lock), because BlockOTA itself does not need Atheris.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped]  # installed only in the venv of this script

with atheris.instrument_imports():
    from blockota.errors import ContentError
    from blockota.formats.cid import CID, DAG_PB
    from tests.support.car_samples import Tree, balanced, car, header, section, unpack_car

SECONDS = 60
FOLDER = Path(".build") / "fuzz"
TREE = balanced([b"vector table", b"\xff\xff", b"code", b"\xff\xff", b"data"], width=3)
MADE_UP_SIZE = 1 << 12
"""The maximum size, in bytes, of the unknown file: the file whose root block is the fuzzer's input."""


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
    """Return valid inputs, by name, with which the fuzzer starts."""
    return {
        "dups-y": car(tree),
        "dups-n": car(tree, repeat=False),
        "root": tree.blocks[tree.root],
        "node": tree.blocks[tree.order[1]],
    }


def try_input(data: bytes) -> None:
    """Read one input as the CAR of the known file, and as the root block of an unknown file."""
    found = unpacked(data, TREE.root, size=len(TREE.data))
    if found is not None and found != TREE.data:
        raise AssertionError("the reader returned a file that differs from the known file")
    root = CID.of(DAG_PB, data)
    known = b"".join(section(cid, block) for cid, block in TREE.blocks.items())
    for rest in (known, b""):
        unpacked(header(root) + section(root, data) + rest, root, size=MADE_UP_SIZE)


def unpacked(stream: bytes, root: CID, *, size: int) -> bytes | None:
    """Return the file in a CAR stream; None if the reader refuses the stream."""
    try:
        found = b"".join(unpack_car([stream], root, size=size))
    except ContentError:
        return None
    if len(found) > size:
        raise AssertionError("the reader returned a file that is larger than allowed")
    return found


if __name__ == "__main__":
    main()
