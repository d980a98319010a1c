"""List the lines and branches of the contracts that no Foundry test reaches: ``make coverage``.

The contracts are compiled without the optimizer and the IR, so that each branch of the bytecode belongs to a branch of
the source. The exit status is 1 if a line or branch is not reached, or if a file is missing in the report.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from scripts.compilation import CLONE, CONTRACTS, files_of
from scripts.forge import SEED, environment, find_forge

REPORT = CLONE / ".build" / "coverage.info"


@dataclass
class Coverage:
    """The coverage of a file: the hits of each line by its number, and the line number and hits of each branch."""

    lines: dict[int, int] = field(default_factory=dict)
    branches: list[tuple[int, int]] = field(default_factory=list)

    def summary(self) -> str:
        """Return a text with the numbers of reached lines and branches."""
        lines = f"{sum(map(bool, self.lines.values()))} of {len(self.lines)} lines"
        return f"{lines}, {sum(bool(hits) for _, hits in self.branches)} of {len(self.branches)} branches"


def main() -> int:
    """Measure the coverage, and list the lines and branches that no test runs."""
    REPORT.unlink(missing_ok=True)
    command = [str(find_forge()), "coverage", "--report", "lcov", "--report-file", str(REPORT)]
    variables = environment() | {"FOUNDRY_FUZZ_SEED": SEED, "FOUNDRY_PROFILE": "coverage"}
    done = subprocess.run(command, cwd=CLONE, env=variables, capture_output=True, text=True, check=False)
    if done.returncode or not REPORT.exists():
        print(f"The tests cannot be run:\n{done.stdout[-3000:]}{done.stderr[-3000:]}", file=sys.stderr)
        return 1
    files = read_lcov(REPORT.read_text().splitlines())
    wanted = [file for name in CONTRACTS for file in files_of(name)]
    for name in wanted:
        print(f"{name}: {files.get(name, Coverage()).summary()}")
    problems = list(missing(files, wanted))
    print("\n".join(problems), file=sys.stderr)
    return 1 if problems else 0


def read_lcov(lines: Iterable[str]) -> dict[str, Coverage]:
    """Return the coverage in an lcov report, by file name."""
    files: dict[str, Coverage] = {}
    current = Coverage()
    for line in lines:
        key, _, value = line.strip().partition(":")
        if key == "SF":
            current = files.setdefault(value, Coverage())
        elif key == "DA":
            number, hits = map(int, value.split(",")[:2])
            current.lines[number] = hits
        elif key == "BRDA":
            line_number, _, _, taken = value.split(",")
            current.branches.append((int(line_number), 0 if taken == "-" else int(taken)))
    return files


def missing(files: dict[str, Coverage], wanted: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each line and branch that was not reached, and for each file that the report lacks."""
    for name in wanted:
        found = files.get(name)
        if found is None or not found.lines:
            yield f"{name} is not in the report."
            continue
        yield from (f"{name}:{number} is not reached." for number, hits in sorted(found.lines.items()) if not hits)
        yield from (f"{name}:{number} has a branch that is not taken." for number, hits in found.branches if not hits)


if __name__ == "__main__":
    sys.exit(main())
