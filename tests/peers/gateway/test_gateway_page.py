"""The commands of docs/gateway.md lead from an empty folder to an anchored receipt. curl acts as the device."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from blockota.chain.local import find_anvil, free_port
from tests.conftest import IMAGES, ROOT

PAGE, START, END = ROOT / "docs" / "gateway.md", "## Try it on one machine", "## Settings"


def test_the_page_leads_to_an_anchored_receipt(tmp_path: Path) -> None:
    """The section is run from its first line to its last, on free ports."""
    (tmp_path / "app.bin").write_bytes((IMAGES / "bluepill-1.0.0.bin").read_bytes())
    section = PAGE.read_text("utf-8").partition(START)[2].partition(END)[0]
    script = "\n".join(line[4:] for line in section.splitlines() if line.startswith("    "))
    for typed, run in (
        ("blockota dev up", f"blockota dev up --port {free_port()}"),
        ("127.0.0.1:8443", f"127.0.0.1:{free_port()}"),
        ("blockota gateway init", f"blockota gateway init --listen 127.0.0.1:{free_port()}"),
    ):
        assert typed in script
        script = script.replace(typed, run)

    folders = (Path(sys.executable).parent, find_anvil().parent, os.environ["PATH"])
    environment = {**os.environ, "PATH": os.pathsep.join(map(str, folders)), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the local chain is stopped" in done.stdout
    assert "anchored in block" in done.stdout
    assert "device 256 claimed" in done.stdout or "level B" in done.stdout
