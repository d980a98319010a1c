"""A local chain for development: anvil in the background, with its state in a file.

Its folder contains ``chain.json`` (the state, written every few seconds and when the chain stops),
``chain.previous.json`` (the state at the last successful start), ``anvil.log``, ``anvil.port`` and ``anvil.pid``.
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
from blockota.errors import Action, ChainError, UsageError

CHAIN_ID = 1337
"""The chain id of Ape's ``local`` network."""
_START_TIMEOUT, _STOP_TIMEOUT, _POLL = 15.0, 20.0, 0.05
_PORT_TIMEOUT = 1.0  # a stopped chain's sockets close shortly after the process ends
_STATE_INTERVAL = 5
_IDLE = 3600
_PRUNE_HISTORY = 256


@dataclass(frozen=True)
class LocalChain:
    """A chain on this machine, running or not."""

    folder: Path
    port: int

    @staticmethod
    def last_port(folder: Path) -> int | None:
        """The port of the last start in this folder; None if there was none."""
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
        """The file with anvil's output."""
        return self.folder / "anvil.log"

    @property
    def pid(self) -> int | None:
        """The number of the running process; None if the chain does not run."""
        try:
            pid = int(self._pid_file.read_text())
            os.kill(pid, 0)
        except (OSError, ValueError, OverflowError):
            return None
        # The number may be that of another program by now, or of a zombie; without /proc it is taken for anvil.
        try:
            is_anvil = b"anvil" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            is_anvil = not Path("/proc/self").exists()
        return pid if pid > 0 and is_anvil else None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder while the block runs, so that one process at a time starts the chain and deploys on it.

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
        """Start the chain with its saved state, unless it runs.

        Raises:
            UsageError: anvil is not installed, or the folder cannot be written.
            ChainError: the port is in use, or anvil does not start.
        """
        if self.pid is None:
            # (1) Another program on the port would answer in anvil's place.
            if not _wait(lambda: not self._is_port_in_use(), timeout=_PORT_TIMEOUT):
                raise ChainError(
                    f"port {self.port} is in use",
                    why="another program answers there",
                    remedy="stop it, or choose another port",
                    action=Action.CHOOSE_PORT,
                )
            # (2) The state is known to be good once anvil has started with it.
            self._start_anvil()
            if self._state_file.exists():
                shutil.copyfile(self._state_file, self.folder / "chain.previous.json")
        chain = Chain(self.url, chain_id=CHAIN_ID)
        if time.time() - chain.head().time > _IDLE:
            chain.mine()  # the newest block of an idle chain is old, and its time counts as the present
        return chain

    def stop(self) -> bool:
        """Stop the chain, which saves its state. Returns False if it did not run.

        Raises:
            ChainError: the process does not end.
        """
        pid = self.pid
        if pid is None:
            return False
        os.kill(pid, signal.SIGTERM)
        if not _wait(lambda: self.pid is None, timeout=_STOP_TIMEOUT):
            raise ChainError(f"anvil (process {pid}) does not stop", remedy=f"stop it with `kill -9 {pid}`")
        self._pid_file.unlink(missing_ok=True)
        return True

    @property
    def _pid_file(self) -> Path:
        return self.folder / "anvil.pid"

    @property
    def _state_file(self) -> Path:
        return self.folder / "chain.json"

    def _start_anvil(self) -> None:
        """Start anvil, and wait until it answers."""
        command = [str(find_anvil()), "--port", str(self.port), "--chain-id", str(CHAIN_ID)]
        command += ["--prune-history", str(_PRUNE_HISTORY)]
        command += ["--state", str(self._state_file), "--state-interval", str(_STATE_INTERVAL)]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.log.open("wb") as log:
                # In a session of its own: Ctrl-C on the terminal is for the command, not for the chain.
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                )
            self._pid_file.write_text(str(process.pid))
            (self.folder / "anvil.port").write_text(str(self.port))
        except OSError as error:
            raise UsageError(f"{self.folder} cannot be used", why=str(error), remedy="choose another folder") from error

        has_decided = _wait(lambda: process.poll() is not None or self._answers(), timeout=_START_TIMEOUT)
        if has_decided and process.poll() is None:
            return
        lines = self.log.read_text(errors="replace").strip().splitlines() or ["it printed nothing"]
        reason = next((line for line in lines if "rror" in line), lines[-1])
        backup = self.folder / "chain.previous.json"
        repair = f"replace it with {backup}" if backup.exists() else f"remove {self._state_file} to start again"
        raise ChainError(
            "anvil did not start",
            why=reason.strip().rstrip("."),
            remedy=f"see {self.log}; if the state file is damaged, {repair}",
        )

    def _answers(self) -> bool:
        try:
            Chain(self.url, chain_id=CHAIN_ID)
        except ChainError:
            return False
        return True

    def _is_port_in_use(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def _wait(done: Callable[[], bool], *, timeout: float) -> bool:
    """Wait for a condition. Returns False if it is not met in time."""
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True


def find_anvil() -> Path:
    """The anvil binary itself: npm's wrapper would leave an orphan process behind when it is killed.

    Raises:
        UsageError: anvil is not installed.
    """
    for folder in project_folders():
        for path in sorted(folder.glob("node_modules/@foundry-rs/anvil-*/bin/anvil*")):
            return path
    if on_path := shutil.which("anvil"):
        return Path(on_path)
    raise UsageError(
        "anvil is not installed",
        why="it is neither in node_modules nor on the PATH",
        remedy="run `npm ci` in the BlockOTA folder",
    )


def project_folders() -> list[Path]:
    """Folders that may contain ``node_modules``: this folder and its parents, then the folder of the package."""
    here = Path.cwd()
    return [here, *here.parents, Path(__file__).resolve().parents[2]]


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
