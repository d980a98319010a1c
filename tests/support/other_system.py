"""Run a ``blockota`` command as on a system without the modules of POSIX.

``python -m tests.support.other_system PLATFORM WORD…`` runs ``blockota WORD…``. The libraries in `LIBRARIES`
are imported before ``sys.platform`` becomes PLATFORM, so they run as on this system: their code for Windows could not
run here. From then on, the modules in `MISSING` cannot be imported.
"""

from __future__ import annotations

import importlib
import signal
import sys

MISSING = ("fcntl", "termios", "tty", "pty", "pwd", "grp", "resource", "syslog", "readline")
LIBRARIES = (
    *("asyncio", "click", "Crypto.Hash.keccak", "filelock", "rich.console", "rich.progress"),
    *("serial.rfc2217", "serial.tools.list_ports", "unicorn", "urllib3"),
)


def hide(platform: str) -> None:
    """Make the modules of POSIX unavailable, and set ``sys.platform``."""
    for library in LIBRARIES:
        importlib.import_module(library)
    for module in MISSING:
        sys.modules[module] = None  # type: ignore[assignment]
    sys.platform = platform
    if platform == "win32":
        del signal.pthread_sigmask, signal.sigwait


def main() -> int:
    """Run the command, and return its exit status."""
    hide(sys.argv[1])
    run = importlib.import_module("blockota.cli.main").run
    status: int = run(sys.argv[2:])
    found = [name for name in MISSING if sys.modules[name]]
    assert not found, f"{found} were imported"
    return status


if __name__ == "__main__":
    sys.exit(main())
