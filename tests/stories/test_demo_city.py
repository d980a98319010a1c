"""The choices of ``blockota demo --city`` before its services run; tests/peers/demo_city runs the command."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from blockota.cli.demo_city import conducts_of
from blockota.cli.demo_walk import DemoWalk
from blockota.cli.main import run
from blockota.cli.session import Session
from blockota.errors import BlockOTAError
from firmware_host.fleet.device import Conduct


@pytest.mark.parametrize("count", [20, 999, 1000, 10_000])
def test_exceptions_are_few_and_of_each_kind(count: int) -> None:
    """At most 5 % of the devices of a large city are exceptions.

    A small city has each kind of exception.
    """
    found = Counter(conducts_of(list(range(256, 256 + count))).values())
    assert found.keys() == set(Conduct)
    assert count - found[Conduct.STEADY] <= max(count * 5 // 100, len(Conduct) - 1)


def test_missing_libraries_are_named_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If a library of the services is not installed, the demonstration fails before it starts."""
    monkeypatch.setitem(sys.modules, "jinja2", None)  # as if it were not installed
    assert run(["demo", "--city", "20"]) == 2
    assert "the package jinja2 is not installed" in capsys.readouterr().err
    assert run(["demo", "--city", "20", "--page"]) == 2


def test_a_service_that_does_not_start_ends_the_demonstration(tmp_path: Path) -> None:
    """If a service does not start, the demonstration's error contains the reason that the service printed."""
    walk = DemoWalk(Session(None, None, store=None, as_json=True), tmp_path, is_verbose=False)
    with pytest.raises(BlockOTAError, match="the settings have no gateway"), walk.service("blockota", "gateway", "run"):
        pass
