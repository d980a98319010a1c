"""Run a real Kubo node on loopback, offline by default, with its own folder and free ports."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blockota.stores.kubo import KuboStore

START_SECONDS = 60.0
OWN_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")
"""Command that runs another command in a private mount namespace."""


@dataclass(frozen=True)
class Node:
    """A running Kubo node.

    Attributes:
        program: the path of the ``ipfs`` program.
        repo: the node's folder.
        api: URL of the node's RPC API.
        gateway: URL of the node's gateway.
        kill: kills the node's process.
    """

    program: Path
    repo: Path
    api: str
    gateway: str
    kill: Callable[[], None]

    @property
    def store(self) -> KuboStore:
        """The node as a store of BlockOTA."""
        return KuboStore(self.api)

    def ipfs(self, *arguments: str, data: bytes | None = None) -> str:
        """Run an ``ipfs`` command on the node, and return its output."""
        return run(self.program, self.repo, *arguments, data=data)

    def pins(self) -> dict[str, str]:
        """Return the kind of pin of each pinned block, by CID."""
        keys: dict[str, dict[str, str]] = json.loads(self.ipfs("pin", "ls", "--enc=json"))["Keys"]
        return {cid: found["Type"] for cid, found in keys.items()}


@dataclass(frozen=True)
class Kind:
    """The configuration of a Kubo node.

    Attributes:
        config: settings that differ from those of the profile ``test``.
        profile: the name of another profile to apply.
        before: a shell command that runs in the node's folder before the daemon; its mounts are private to the node.
        is_online: whether the node connects to other nodes, on loopback.
    """

    config: Mapping[str, object] = field(default_factory=dict)
    profile: str = ""
    before: str = ""
    is_online: bool = False


ORDINARY = Kind()


@contextmanager
def running_node(program: Path, folder: Path, *, kind: Kind = ORDINARY) -> Iterator[Node]:
    """Create and run a Kubo node.

    Args:
        program: the path of the ``ipfs`` program.
        folder: the folder in which the node's folder is created.
        kind: the configuration of the node.
    """
    repo = folder / "repo"
    run(program, repo, "init", "--profile=test")
    for key, value in kind.config.items():
        run(program, repo, "config", "--json", key, json.dumps(value))
    if kind.profile:
        run(program, repo, "config", "profile", "apply", kind.profile)
    command: list[str | Path] = [program, "daemon", *([] if kind.is_online else ["--offline"])]
    if kind.before:
        command = [*OWN_MOUNTS, "sh", "-c", f'{kind.before} && exec "$@"', "sh", *command]
    log = folder / "daemon.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=repo, env=environment(repo), stdout=output, stderr=output) as daemon,
    ):
        try:
            wait_until_ready(daemon, log)
            multiaddress = (repo / "api").read_text().split("/")
            api, gateway = f"http://{multiaddress[2]}:{multiaddress[4]}", (repo / "gateway").read_text()
            yield Node(program, repo, api=api, gateway=gateway, kill=daemon.kill)
        finally:
            daemon.terminate()


def run(program: Path, repo: Path, *arguments: str, data: bytes | None = None) -> str:
    """Run an ``ipfs`` command and return its output; a failure raises an error with the command's error output."""
    done = subprocess.run(
        [program, *arguments], env=environment(repo), input=data, capture_output=True, check=False, timeout=120
    )
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    return done.stdout.decode()


def environment(repo: Path) -> dict[str, str]:
    """Return the environment variables of a node, which disable its telemetry."""
    return {**os.environ, "IPFS_PATH": str(repo), "IPFS_TELEMETRY": "off"}


def wait_until_ready(daemon: subprocess.Popen[Any], log: Path) -> None:
    """Wait until the daemon's log reports that the node is ready."""
    deadline = time.monotonic() + START_SECONDS
    while b"Daemon is ready" not in log.read_bytes():
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(log.read_text())
        time.sleep(0.02)
