"""Runs the commands of the demonstration, and prints them with their results."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blockota.chain.local import LocalChain, free_port
from blockota.cli.layout import print_sentence
from blockota.cli.session import Session
from blockota.errors import BlockOTAError

_END, _STOPPED = 15, (0, 130)
"""Seconds in which a service must end, and the exit statuses of a service or a command that a signal stopped."""
_RESULT = re.compile(r"(✓ (?P<number>[ \d]\d  )?|board says: )")
"""The beginning of a line that states a result, with the number of a check that passed."""


@dataclass(frozen=True)
class DemoService:
    """A service that a demonstration runs.

    Attributes:
        process: the service's process.
        notes: the file to which the service's standard error is written.
    """

    process: subprocess.Popen[str]
    notes: Path

    def check(self) -> None:
        """Check that the service runs.

        Raises:
            BlockOTAError: the service ended without a signal.
            KeyboardInterrupt: a signal ended the service, such as Ctrl-C, which a terminal sends to all processes.
        """
        status = self.process.poll()
        if status in _STOPPED:
            raise KeyboardInterrupt
        if status is not None:
            lines = self.notes.read_text(errors="replace").strip(" .\n").splitlines()
            raise _failure(lines[-1] if lines else f"a service ended with the status {status}")


class DemoWalk:
    """Runs commands in the folder of the demonstration, prints them with their results, and records their output."""

    def __init__(self, session: Session, folder: Path, *, is_verbose: bool) -> None:
        self.session, self.folder, self.port, self.is_verbose = session, folder, free_port(), is_verbose
        self.steps: list[dict[str, Any]] = []

    def heading(self, text: str) -> None:
        """Print the heading of a part of the demonstration, unless the result is JSON."""
        if not self.session.as_json:
            self.session.out.print()
            print_sentence(self.session.out, text, style="bold")

    def run(self, *words: str, expect: int = 0, result: bool = True, place: str = "") -> str:
        """Run ``blockota``, check the exit status, and print the lines that state a result unless `result` is False.

        Args:
            words: the command.
            expect: the expected exit status.
            result: whether results are printed.
            place: a folder in the folder of the demonstration; empty for the folder itself.

        Returns:
            The output.

        Raises:
            BlockOTAError: the exit status differs from `expect`.
            KeyboardInterrupt: a signal to the whole process group ended the command.
        """
        self.say(f"blockota {' '.join(words)}", mark="$ ", style="bold cyan")
        done = subprocess.run(
            [sys.executable, "-m", "blockota", *words],
            cwd=self.folder / place,
            env=demo_environment(),
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        self.steps.append({"command": ["blockota", *words], "exitStatus": done.returncode, "output": done.stdout})

        for line in done.stdout.splitlines():
            found = _RESULT.match(line)
            if self.is_verbose or (result and found and not found["number"]):
                mark = found[0] if found else ""
                self.say(line.removeprefix(mark), mark=mark, style="green")

        if done.returncode == _STOPPED[1]:
            raise KeyboardInterrupt
        if done.returncode:
            self.say(done.stderr.strip().splitlines()[-1])
            self.say(f"(exit status {done.returncode})")
        if done.returncode != expect:
            raise _failure(done.stderr.strip(" .\n"))
        return done.stdout

    @contextmanager
    def service(self, module: str, *words: str, place: str = "") -> Iterator[DemoService]:
        """Run a service while the ``with`` block runs; the block begins when the service prints its first line.

        Args:
            module: the Python module that is run.
            words: the arguments.
            place: a folder in the folder of the demonstration; empty for the folder itself.

        Raises:
            BlockOTAError: the service ended before it was ready.
            KeyboardInterrupt: a signal ended the service before it was ready.
        """
        name = module
        if module == "blockota":
            name = words[0]
            self.say(f"blockota {' '.join(words)}", mark="$ ", style="bold cyan")

        command, notes = [sys.executable, "-m", module, *words], self.folder / f"{name}.notes"
        with (
            notes.open("a") as stderr,
            subprocess.Popen(
                command,
                cwd=self.folder / place,
                env=demo_environment(),
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                encoding="utf-8",
            ) as process,
        ):
            service = DemoService(process, notes)
            try:
                if not (process.stdout and process.stdout.readline()):
                    process.wait(_END)
                    service.check()
                yield service
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(_END)
                except subprocess.TimeoutExpired:
                    process.kill()

    def approve(self, file: str) -> None:
        """Sign a proposal as two owners, and execute it."""
        self.run("proposal", "sign", file, "--key", "dev:1", "--yes", result=False)
        self.run("proposal", "sign", file, "--key", "dev:2", "--yes", result=False)
        self.run("proposal", "execute", file, "--key", "dev:0")

    def stop_chain(self) -> None:
        """Stop the local chain of the demonstration."""
        LocalChain(self.folder / ".blockota", self.port).stop()

    def say(self, line: str, *, mark: str = "", style: str = "") -> None:
        """Print a line of text after a mark, unless the result is JSON."""
        if not self.session.as_json:
            print_sentence(self.session.out, line, mark=mark, mark_style=style)


def _failure(why: str) -> BlockOTAError:
    return BlockOTAError("the demonstration failed", why=why, remedy="run the failed command by hand")


def demo_environment() -> dict[str, str]:
    """Return the environment without the user's BLOCKOTA_* settings, and with this package on the module path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BLOCKOTA_")}
    here = str(Path(__file__).resolve().parents[2])
    return kept | {"PYTHONUTF8": "1", "PYTHONPATH": os.pathsep.join(filter(None, (here, kept.get("PYTHONPATH"))))}
