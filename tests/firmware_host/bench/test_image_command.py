"""The command that makes a board's own image runs with limits, and its stdout is never shown."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest

from blockota.errors import RefusedError, UsageError
from blockota.shutdown import Stop
from firmware_host.bench.image_command import ImageCommand

OUTPUT = "c0ffee-output"
LIMIT = 64
ENDLESS = "import threading; threading.Event().wait()"


def run(program: str, *, seconds: float = 60, shown: list[str] | None = None, stop: Stop | None = None) -> bytes:
    """Run a Python program as the command, and return its output."""
    command = ImageCommand((sys.executable, "-c", program), seconds)
    lines = [] if shown is None else shown
    return command.run({"BLOCKOTA_BOARD_ID": "0001"}, limit=LIMIT, show=lines.append, stop=stop)


def test_the_output_is_the_image() -> None:
    """The bytes on stdout are returned unchanged, and the board's id is in the environment."""
    program = "import os, sys; sys.stdout.buffer.write(os.environ['BLOCKOTA_BOARD_ID'].encode() + b'\\r\\n\\0\\xff')"
    assert run(program) == b"0001\r\n\0\xff"


def test_the_error_output_is_shown_line_by_line() -> None:
    """Each line of stderr is shown, and stdout is not shown."""
    shown: list[str] = []
    program = f"import sys; print('one\\n\\ntwo', file=sys.stderr); print('{OUTPUT}')"
    run(program, shown=shown)
    assert shown == ["one", "two"]


def test_a_long_error_output_is_cut_off() -> None:
    """Of a long stderr, the first 20 lines are shown, followed by the number of omitted lines."""
    shown: list[str] = []
    run("import sys\nfor line in range(50): print('line', line, file=sys.stderr)", shown=shown)
    assert shown == [*(f"line {number}" for number in range(20)), "(and 30 more lines)"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((sys.executable, "-c", f"import sys; print('{OUTPUT}'); sys.exit(7)"), "its exit status is 7"),
        ((sys.executable, "-c", f"import os; print('{OUTPUT}', flush=True); os.kill(os.getpid(), 9)"), "signal 9"),
        (("/nonexistent/maker",), "No such file"),
    ],
    ids=["status", "killed", "missing"],
)
def test_a_failure_is_refused_without_the_output(words: Sequence[str], says: str) -> None:
    """A command that cannot run or fails is refused, and the error does not contain its output."""
    with pytest.raises(RefusedError, match="the command that makes the board's own image") as error:
        ImageCommand(tuple(words)).run({}, limit=LIMIT, show=lambda _: None)
    assert says in str(error.value)
    assert "nothing was erased" in str(error.value)
    assert OUTPUT not in str(error.value)


@pytest.mark.parametrize(
    "program",
    [
        ENDLESS,
        f"import os; os.close(1); os.close(2); {ENDLESS}",
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', '{ENDLESS}'])",
    ],
    ids=["silent", "closed", "child"],
)
def test_a_command_that_does_not_end_is_refused(program: str) -> None:
    """A command that runs too long, or that leaves a child process with open stdout, is stopped with an error."""
    with pytest.raises(RefusedError, match=r"takes too long: .* within 0\.3 s; nothing was erased"):
        run(program, seconds=0.3)


def test_an_endless_output_is_cut_off() -> None:
    """A command that writes without end is ended once its output is longer than the limit."""
    assert run("import sys\nwhile True: sys.stdout.write('x' * 4096)") == b"x" * (LIMIT + 1)


def test_a_request_to_stop_ends_the_command() -> None:
    """Ctrl-C ends a running command."""
    stop = Stop()
    stop.ask()
    with pytest.raises(KeyboardInterrupt):
        run(ENDLESS, stop=stop)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("make 'image", "cannot be split into words: no closing quotation"),
        ("", "the command is empty"),
        ("no-such-program-anywhere --id", "no program 'no-such-program-anywhere' can be executed"),
    ],
    ids=["quotation", "empty", "missing"],
)
def test_a_command_line_that_cannot_run_is_a_usage_error(text: str, says: str) -> None:
    """A command line that names no executable program is refused before a board is contacted."""
    with pytest.raises(UsageError) as error:
        ImageCommand.parse(text)
    assert says in str(error.value)


def test_a_command_line_is_split_without_a_shell() -> None:
    """Quotation marks in a command line group words; variables and wildcards are not expanded."""
    command = ImageCommand.parse(f"{sys.executable} -c 'import sys; print(sys.argv[1], end=\"\")' $HOME;ls")
    assert command.words[3:] == ("$HOME;ls",)
    assert command.run({}, limit=LIMIT, show=lambda _: None) == b"$HOME;ls"


@pytest.mark.parametrize("text", ["echo 1 | tr 1 2", "make > key.bin", "true && false", "echo 1 ; echo 2"])
def test_a_command_for_a_shell_is_refused(text: str) -> None:
    """A command with a pipe or a redirection is refused, because no shell would interpret it."""
    with pytest.raises(UsageError, match="needs a shell: it has the word"):
        ImageCommand.parse(text)
