"""A local chain for development: anvil runs in the background and stores its state in a file.

The chain's folder contains ``chain.json`` (the state, written every few seconds and when the chain stops),
``chain.previous.json`` (the state at the last successful start), ``anvil.log``, ``anvil.port`` and ``anvil.pid``.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from blockota.chain import Chain
from blockota.deployment import LOCAL_CHAIN_ID
from blockota.errors import Action, ChainError, UsageError
from blockota.file_locks import exclusive_lock

_START_TIMEOUT, _STOP_TIMEOUT, _POLL = 15.0, 20.0, 0.05
_PORT_TIMEOUT = 1.0  # a stopped chain's sockets close shortly after the process ends
_STATE_INTERVAL = 5
_IDLE = 3600
_PRUNE_HISTORY = 256
_PORTS, _ATTEMPTS = range(20_000, 32_000), 100


@dataclass(frozen=True)
class LocalChain:
    """A local chain on this machine, running or stopped.

    Attributes:
        folder: the folder of the chain.
        port: TCP port of the node.
        chain_id: id of the chain.
    """

    folder: Path
    port: int
    chain_id: int = LOCAL_CHAIN_ID

    @staticmethod
    def last_port(folder: Path) -> int | None:
        """Return the port of the last start in a folder; None if the chain was never started there."""
        try:
            return int((folder / "anvil.port").read_text())
        except (OSError, ValueError):
            return None

    @property
    def url(self) -> str:
        """The JSON-RPC endpoint."""
        return f"http://127.0.0.1:{self.port}"

    def is_at(self, url: str) -> bool:
        """Whether a URL is this chain's endpoint, with 127.0.0.1 or localhost as its host."""
        return urlsplit(url).netloc in (f"127.0.0.1:{self.port}", f"localhost:{self.port}")

    @property
    def log(self) -> Path:
        """The file with anvil's output."""
        return self.folder / "anvil.log"

    @property
    def pid(self) -> int | None:
        """The id of anvil's process; None if the chain does not run."""
        try:
            pid = int(self._pid_file.read_text())
            os.kill(pid, 0)
        except (OSError, ValueError, OverflowError):
            return None
        # By now, the process id may belong to another program or a zombie. Systems without /proc cannot detect this.
        try:
            is_anvil = b"anvil" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            is_anvil = not Path("/proc/self").exists()
        return pid if pid > 0 and is_anvil else None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder while the ``with`` block runs, so that one process at a time starts the chain and deploys.

        Raises:
            UsageError: the folder cannot be written.
        """
        with ExitStack() as held:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(exclusive_lock(self.folder / "lock"))
            except OSError as error:
                raise UsageError(
                    f"{self.folder} cannot be used", why=str(error), remedy="choose another folder"
                ) from error
            yield

    def start(self) -> Chain:
        """Start the chain with its saved state, unless the chain is already running.

        Raises:
            UsageError: anvil is not installed, or the folder cannot be written.
            ChainError: the port is in use, or anvil does not start.
        """
        if self.pid is None:
            # (1) Check that the port is free: another program on it would answer in anvil's place.
            if not _wait(lambda: not self._is_port_in_use(), timeout=_PORT_TIMEOUT):
                raise ChainError(
                    f"port {self.port} is in use",
                    why="another program uses the port",
                    remedy="stop that program, or choose another port",
                    action=Action.CHOOSE_PORT,
                )
            # (2) Start anvil, then copy the state: it is valid, because anvil has loaded it.
            self._start_anvil()
            if self._state_file.exists():
                shutil.copyfile(self._state_file, self.folder / "chain.previous.json")
        chain = Chain(self.url, chain_id=self.chain_id)
        if time.time() - chain.head().time > _IDLE:
            chain.mine()  # the newest block's time counts as the present, but on an idle chain it is old
        return chain

    def stop(self) -> bool:
        """Stop the chain, which then saves its state. Returns False if the chain was not running.

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
        """Start anvil, and wait until it answers requests."""
        command = [str(find_anvil()), "--port", str(self.port), "--chain-id", str(self.chain_id)]
        command += ["--prune-history", str(_PRUNE_HISTORY)]
        command += ["--state", str(self._state_file), "--state-interval", str(_STATE_INTERVAL)]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.log.open("wb") as log:
                # Anvil gets its own session, so that Ctrl-C in the terminal stops the command but not the chain.
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
            Chain(self.url, chain_id=self.chain_id)
        except ChainError:
            return False
        return True

    def _is_port_in_use(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def _wait(done: Callable[[], bool], *, timeout: float) -> bool:
    """Wait until `done` returns True. Returns False if the timeout ends first."""
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True


def find_anvil() -> Path:
    """Find the anvil binary itself, because killing npm's wrapper would leave anvil running.

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
        why="anvil is neither in node_modules nor on the PATH",
        remedy="run `npm ci` in the BlockOTA folder",
    )


def project_folders() -> list[Path]:
    """List the folders that may contain ``node_modules``: the current folder, its parents, and BlockOTA's folder."""
    here = Path.cwd()
    return [here, *here.parents, Path(__file__).resolve().parents[2]]


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is currently free.

    The port is below 32,000, because operating systems assign higher ports to other programs that ask for any port.

    Raises:
        UsageError: no port is free.
    """
    for port in random.SystemRandom().sample(_PORTS, _ATTEMPTS):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise UsageError(
        "no TCP port is free", why=f"{_ATTEMPTS} ports of 127.0.0.1 are in use", remedy="end programs that use ports"
    )
