"""What is known of mutants, kept from one campaign to the next: `.build/mutants/fates.jsonl`.

Each result is appended as soon as it is known, so that a campaign which is stopped goes on where it ended. A result
holds for as long as the contracts and the tests that decided it keep their text. A mutant that was killed asks for the
killing test's own files alone: a test added elsewhere cannot bring it back. One that passed asks for all tests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from scripts.mutant_killers import Ape, Forge

EXAMINERS: dict[str, type[Forge | Ape]] = {Forge.name: Forge, Ape.name: Ape}


@dataclass(frozen=True)
class Examined:
    """What an examiner asks a result for.

    Attributes:
        examiner: a killer's name, or "solc", or "bytecode".
        contract: the contract that was changed.
        mutant: the change's name.
    """

    examiner: str
    contract: str
    mutant: str


class Journal:
    """Results by examiner, contract and mutant.

    Args:
        path: the file; it need not be there.
        root: the tree whose contracts and tests the results must be of.
    """

    def __init__(self, path: Path, *, root: Path) -> None:
        """Read what still holds."""
        self.path, self.root = path, root
        self._digests: dict[tuple[Path, ...], str] = {}
        self._sources = self._digest(sorted((root / "contracts").glob("**/[!.]*.sol")))
        self._known: dict[Examined, str] = {}
        for line in path.read_text().splitlines() if path.exists() else ():
            self._remember(line)

    def find(self, examined: Examined) -> str | None:
        """What was found: a test's name or a word, "" when nothing was noticed, None when it is not known."""
        return self._known.get(examined)

    def add(self, examined: Examined, result: str) -> None:
        """Keep a result, on disk as well."""
        self._known[examined] = result
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = asdict(examined) | {"result": result} | self._keys(examined, result)
        with self.path.open("a") as file:  # begun with a line's end: the last one may have been cut off
            file.write("\n" + json.dumps(line, ensure_ascii=False))

    def _remember(self, line: str) -> None:
        try:
            fields = json.loads(line)
            examined = Examined(*(fields[name] for name in ("examiner", "contract", "mutant")))
            result, keys = fields["result"], {name: fields[name] for name in ("source", "tests")}
        except (ValueError, KeyError):
            return  # the last line of a campaign that was cut off
        if keys == self._keys(examined, result):
            self._known[examined] = result

    def _keys(self, examined: Examined, result: str) -> dict[str, str]:
        """Digests of the contracts and of what decided the result."""
        killer = EXAMINERS.get(examined.examiner)
        decided = killer.files(self.root, examined.contract, test=result) if killer else [self.root / "ape-config.yaml"]
        return {"source": self._sources, "tests": self._digest(decided)}

    def _digest(self, paths: Iterable[Path]) -> str:
        key = tuple(path for path in paths if ".cache" not in path.parts)
        if key not in self._digests:
            parts = [f"{path.relative_to(self.root)}\0{path.read_text()}" for path in key if path.exists()]
            self._digests[key] = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
        return self._digests[key]
