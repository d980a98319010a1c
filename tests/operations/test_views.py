"""The content of pages, made from log lines and chain readings without a running room."""

from __future__ import annotations

from dataclasses import replace

from blockota.operations.views import LogLine, folded

LINE = LogLine(100, "log", "claimed", "device 256", "acme-thermo2 1.1.0", "/entries/x/1")


def test_the_reports_of_a_fleet_are_one_line() -> None:
    """Adjacent reports of the same release are merged into the newest report, and other lines keep their place."""
    reports = [replace(LINE, subject=f"device {number}") for number in range(256, 260)]
    failure = replace(LINE, kind="event", text="acme-thermo2 1.1.0: the device rolled back")
    older = replace(LINE, subject="device 300", text="acme-thermo2 1.0.0")
    assert folded([*reports, failure, *reports[:2], older]) == [
        replace(reports[0], others=3),
        failure,
        replace(reports[0], others=1),
        older,
    ]


def test_repeated_failures_are_not_folded() -> None:
    """Three failures of a device are shown as three lines."""
    failures = [replace(LINE, kind="event", text="it failed")] * 3
    assert folded(failures) == failures
