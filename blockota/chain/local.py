"""A local chain for development: anvil in the background, with its state kept in a file.

Everything lies in one folder: ``chain.json`` (the state, written when the chain stops and every few seconds),
``chain.previous.json`` (the state as it was at the last good start), ``anvil.log`` and ``anvil.pid``.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blockota.chain import Chain
from blockota.errors import ChainError, UsageError

CHAIN_ID = 1337
"""The number that Ape's ``local`` network signs with, too."""
_START_TIMEOUT, _STOP_TIMEOUT, _POLL = 15.0, 20.0, 0.05
_PORT_TIMEOUT = 1.0  # the sockets of a chain that was just stopped close a little later than it ends
_STATE_INTERVAL = 5
_IDLE = 3600
_PRUNE_HISTORY = 256


@dataclass(frozen=True)
class LocalChain:
    """A chain on this machine, whether it runs or not.

    Attributes:
        folder: where its files lie.
        port: of 127.0.0.1, where it answers.
    """

    folder: Path
    port: int

    @staticmethod
    def last_port(folder: Path) -> int | None:
        """The port that a chain in this folder was started on last."""
        try:
            return int((folder / "anvil.port").read_text())
        except (OSError, ValueError):
            return None

    @property
    def url(self) -> str:
        """The JSON-RPC endpoint."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What anvil prints."""
        return self.folder / "anvil.log"

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        try:
            pid = int(self._pid_file.read_text())
            os.kill(pid, 0)
        except (OSError, ValueError, OverflowError):
            return None
        return pid if pid > 0 and _is_anvil(pid) else None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let nobody else start or furnish this chain while the block runs; others wait.

        Raises:
            UsageError: the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / "lock").open("w")
        except OSError as error:
            raise UsageError(f"{self.folder} cannot be used", why=str(error), remedy="choose another folder") from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def start(self) -> Chain:
        """Start the chain with the state it had; does nothing when it runs.

        Raises:
            UsageError: anvil is not installed, or the folder cannot be written.
            ChainError: the port is taken, or anvil does not start.
        """
        if self.pid is None:
            self._wait(lambda: not self._is_port_taken(), _PORT_TIMEOUT, failed=self._port_is_taken)
            process = self._spawn()
            self._wait(lambda: self._answers(process), _START_TIMEOUT, failed=self._not_started)
            if self._state_file.exists():
                shutil.copyfile(self._state_file, self.folder / "chain.previous.json")
        chain = Chain(self.url, chain_id=CHAIN_ID)
        if time.time() - chain.head().time > _IDLE:
            chain.mine()  # an idle chain's newest block is old, and whoever asks it would hear of an old time
        return chain

    def stop(self) -> bool:
        """Stop the chain, which writes its state; False where it did not run.

        Raises:
            ChainError: it does not end.
        """
        pid = self.pid
        if pid is None:
            return False
        os.kill(pid, signal.SIGTERM)
        stuck = ChainError(f"anvil (process {pid}) does not end", remedy=f"end it with `kill -9 {pid}`")
        self._wait(lambda: self.pid is None, _STOP_TIMEOUT, failed=lambda: stuck)
        self._pid_file.unlink(missing_ok=True)
        return True

    @property
    def _pid_file(self) -> Path:
        return self.folder / "anvil.pid"

    @property
    def _state_file(self) -> Path:
        return self.folder / "chain.json"

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = [str(find_anvil()), "--port", str(self.port), "--chain-id", str(CHAIN_ID)]
        command += ["--prune-history", str(_PRUNE_HISTORY)]
        command += ["--state", str(self._state_file), "--state-interval", str(_STATE_INTERVAL)]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.log.open("wb") as log:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                )
            self._pid_file.write_text(str(process.pid))
            (self.folder / "anvil.port").write_text(str(self.port))
        except OSError as error:
            raise UsageError(f"{self.folder} cannot be used", why=str(error), remedy="choose another folder") from error
        return process

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        if process.poll() is not None:
            raise self._not_started()
        try:
            Chain(self.url, chain_id=CHAIN_ID)
        except ChainError:
            return False
        return True

    def _wait(self, done: Callable[[], bool], limit: float, *, failed: Callable[[], Exception]) -> None:
        deadline = time.monotonic() + limit
        while not done():
            if time.monotonic() > deadline:
                raise failed()
            time.sleep(_POLL)

    def _not_started(self) -> ChainError:
        lines = self.log.read_text(errors="replace").strip().splitlines() or ["it printed nothing"]
        told = next((line for line in lines if "rror" in line), lines[-1])
        backup = self.folder / "chain.previous.json"
        mend = f"put {backup} in its place" if backup.exists() else f"remove {self._state_file} to begin anew"
        return ChainError(
            "anvil did not start",
            why=told.strip().rstrip("."),
            remedy=f"see {self.log}; if the state file is damaged, {mend}",
        )

    def _port_is_taken(self) -> ChainError:
        return ChainError(
            f"port {self.port} is taken",
            why="another program answers there",
            remedy="stop it, or choose another port with --port",
        )

    def _is_port_taken(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def find_anvil() -> Path:
    """The real anvil binary (npm's wrapper would leave an orphan behind when it is killed).

    Raises:
        UsageError: it is not installed.
    """
    for folder in project_folders():
        for path in sorted(folder.glob("node_modules/@foundry-rs/anvil-*/bin/anvil*")):
            return path
    if on_path := shutil.which("anvil"):
        return Path(on_path)
    raise UsageError(
        "anvil is not installed",
        why="neither node_modules nor the PATH has it",
        remedy="run `npm ci` in the BlockOTA folder",
    )


def project_folders() -> list[Path]:
    """Where ``node_modules`` may lie: this folder and those above it, then the folder of the package."""
    here = Path.cwd()
    return [here, *here.parents, Path(__file__).resolve().parents[2]]


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_anvil(pid: int) -> bool:
    """Tell anvil from a stranger with the same number, and from its own zombie; without /proc, believe the number."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return not Path("/proc/self").exists()
    return b"anvil" in command
