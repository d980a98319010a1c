"""The examples of docs/gateway.md and docs/access.md are run completely, with curl as client."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from blockota.chain.local import find_anvil, free_port
from tests.conftest import IMAGES, ROOT

START = "## Try it on one machine"


def test_the_page_leads_to_an_anchored_receipt(tmp_path: Path) -> None:
    """The example of the gateway ends with a receipt whose anchor is checked."""
    (tmp_path / "app.bin").write_bytes((IMAGES / "bluepill-1.0.0.bin").read_bytes())
    printed = run_example(
        tmp_path,
        page="gateway.md",
        end="## Settings",
        replaced={
            "blockota dev up": f"blockota dev up --port {free_port()}",
            "127.0.0.1:8443": f"127.0.0.1:{free_port()}",
            "blockota gateway init": f"blockota gateway init --listen 127.0.0.1:{free_port()}",
        },
    )
    assert "the local chain is stopped" in printed
    assert "anchored in block" in printed
    assert "device 256 claimed" in printed or "level B" in printed


def test_the_page_leads_to_refused_requests(tmp_path: Path) -> None:
    """In the example of the validator, a valid request is accepted.

    Repeated and forged requests, and requests of a banned identity, are refused.
    """
    requests = f"127.0.0.1:{free_port()}"
    listen = f"--requests {requests} --listen 127.0.0.1:{free_port()}"
    printed = run_example(
        tmp_path,
        page="access.md",
        end="## Tunnels",
        replaced={
            "blockota dev up": f"blockota dev up --port {free_port()}",
            "127.0.0.1:8470": requests,
            "blockota validator init": f"blockota validator init {listen}",
        },
    )
    answers = [word for word in ('"value":21.5', "-32003", "-32001", "is banned since", "-32002") if word in printed]
    assert answers == ['"value":21.5', "-32003", "-32001", "is banned since", "-32002"], printed
    assert "the local chain is stopped" in printed


def run_example(folder: Path, *, page: str, end: str, replaced: dict[str, str]) -> str:
    """Run the lines of an example in a shell, and return what they print.

    Args:
        folder: the folder in which they are run.
        page: the page in docs/.
        end: the heading that follows the example.
        replaced: replacements for addresses and commands on the page, so that the example uses free ports.
    """
    section = (ROOT / "docs" / page).read_text("utf-8").partition(START)[2].partition(end)[0]
    script = "\n".join(line[4:] for line in section.splitlines() if line.startswith("    "))
    for typed, run in replaced.items():
        assert typed in script
        script = script.replace(typed, run)
    folders = (Path(sys.executable).parent, find_anvil().parent, os.environ["PATH"])
    environment = {**os.environ, "PATH": os.pathsep.join(map(str, folders)), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
