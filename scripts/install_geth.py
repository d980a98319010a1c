"""Build geth, whose Clique engine seals the networks of tests/peers/clique: ``python3 -m scripts.install_geth``.

1.13.15 is the last version that seals. The Go toolchain builds it from the module proxy into the user's cache folder,
which all clones share. ``--find`` only searches there: a newer geth on PATH cannot seal.

Standard library only, because it runs before anything is installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scripts.install_kubo import GO, SHOWN_LOG_LINES, UnavailableError, cache_folder, check_go, say

VERSION = "1.13.15"
MODULE = f"github.com/ethereum/go-ethereum/cmd/geth@v{VERSION}"
FLAGS = "-checklinkname=0 -s -w"
"""A dependency, fjl/memsize, links to a private function of the runtime, which Go 1.23 and newer refuse by default."""


def main() -> int:
    """Print the path of geth, and build it first if it is not in the cache; return the exit status."""
    found = find()
    if not found and "--find" not in sys.argv:
        try:
            found = build()
        except UnavailableError as error:
            say(f"geth cannot be built: {error}")
        except KeyboardInterrupt:
            say("Stopped; the same command goes on where this one ended.")
    if found:
        print(found)
    return 0 if found else 1


def find() -> Path | None:
    """The geth that was built before; None if there is none."""
    program = cache_folder() / "geth" / f"v{VERSION}" / "geth"
    return program if program.is_file() else None


def build() -> Path:
    """Build geth into the cache.

    Raises:
        UnavailableError: Go is missing or too old, a module cannot be downloaded, or the build fails.
    """
    check_go()
    began, target = time.monotonic(), cache_folder() / "geth" / f"v{VERSION}" / "geth"
    say(f"Building geth {VERSION}, which takes some minutes the first time ...")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        # Two at a time would need more memory than small machines have.
        command = [GO, "install", "-p", "1", f"-ldflags={FLAGS}", MODULE]
        environment = os.environ | {"GOBIN": folder}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UnavailableError("\n".join(done.stderr.strip().splitlines()[-SHOWN_LOG_LINES:]))
        (Path(folder) / "geth").replace(target)
    say(f"Built geth {VERSION} in {time.monotonic() - began:.0f} s.")
    return target


if __name__ == "__main__":
    sys.exit(main())
