"""Build evmd, CometBFT with the EVM, for the network of tests/deep/cometbft: ``python3 -m scripts.install_cometbft``.

It is the example chain of cosmos/evm. As Kubo, it is built in the module's own folder, because its go.mod replaces
modules, which Go allows in a main module only. ``--find`` only searches the cache.

Standard library only, because it runs before anything is installed.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from scripts.install_kubo import GO, UnavailableError, cache_folder, check_go, run, say

VERSION = "0.2.0"
MODULE = f"github.com/cosmos/evm@v{VERSION}"
FLAGS = "-checklinkname=0 -s -w"
"""bytedance/sonic, a dependency, links to private functions of the runtime, which Go 1.23 and newer refuse."""


def main() -> int:
    """Print the path of evmd, and build it first if it is not in the cache; return the exit status."""
    found = find()
    if not found and "--find" not in sys.argv:
        try:
            found = build()
        except UnavailableError as error:
            say(f"evmd cannot be built: {error}")
        except KeyboardInterrupt:
            say("Stopped; the same command goes on where this one ended.")
    if found:
        print(found)
    return 0 if found else 1


def find() -> Path | None:
    """The evmd that was built before; None if there is none."""
    program = cache_folder() / "cometbft" / f"evm-{VERSION}" / "evmd"
    return program if program.is_file() else None


def build() -> Path:
    """Build evmd into the cache.

    Raises:
        UnavailableError: Go is missing or too old, a module cannot be downloaded, or the build fails.
    """
    check_go()
    began, target = time.monotonic(), cache_folder() / "cometbft" / f"evm-{VERSION}" / "evmd"
    say(f"Building CometBFT with the EVM {VERSION}, which takes five minutes or more the first time ...")
    described = json.loads(run([GO, "mod", "download", "-json", MODULE]) or "{}")
    if "Dir" not in described:
        raise UnavailableError(described.get("Error", "the module proxy does not hold it"))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        program = Path(folder) / "evmd"
        # Two at a time would need more memory than small machines have.
        command = [GO, "build", "-p", "1", "-trimpath", f"-ldflags={FLAGS}", "-o", str(program), "./cmd/evmd"]
        run(command, folder=Path(described["Dir"]))
        program.replace(target)
    say(f"Built CometBFT with the EVM {VERSION} in {time.monotonic() - began:.0f} s.")
    return target


if __name__ == "__main__":
    sys.exit(main())
