"""The metrics and the alert rules, judged by Prometheus' own tool."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from urllib.request import urlopen

import pytest

from blockota.chain import Chain
from tests.conftest import Cast
from tests.support.operations_room import make_scene, running_room
from tests.support.waiting import eventually

RULES = Path(__file__).resolve().parents[3] / "examples" / "prometheus" / "blockota.rules.yml"


def promtool(*words: str, given: bytes = b"") -> str:
    """Run promtool, and return its output; a complaint fails the test."""
    program = shutil.which("promtool")
    assert program
    done = subprocess.run([program, *words], input=given, capture_output=True, check=False)
    output = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, output
    return output


def test_the_alert_rules_are_valid() -> None:
    """Promtool accepts the rules, and finds all of them."""
    assert "8 rules found" in promtool("check", "rules", str(RULES))


def test_the_metrics_are_valid(anvil: Chain, cast: Cast, tmp_path: Path) -> None:
    """Promtool accepts the metrics of a room; each metric of the rules is among them."""
    scene = make_scene(anvil, cast, tmp_path)

    def metrics() -> str:
        with urlopen(f"{url}/metrics") as answer:  # noqa: S310 - our own server
            return str(answer.read().decode())

    with running_room(scene.setup) as url:
        eventually(lambda: 'running_devices{product="acme-thermo2",version="1.1.0"} 2.0' in metrics(), what="the log")
        text = metrics()
    assert not promtool("check", "metrics", given=text.encode())
    named = {word.split("{")[0] for word in RULES.read_text().split() if word.startswith("blockota_operations_")}
    assert {name for name in named if f"# TYPE {name} gauge" not in text} == set()
    assert "SN-4001" not in text


@pytest.mark.parametrize("name", ["expr: up == 1", "alert: [broken"])
def test_promtool_would_notice_a_wrong_rule(tmp_path: Path, name: str) -> None:
    """The oracle refuses broken rules."""
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(RULES.read_text().replace("alert: BlockOTATrouble", name))
    program = shutil.which("promtool")
    assert program
    assert subprocess.run([program, "check", "rules", str(wrong)], capture_output=True, check=False).returncode
