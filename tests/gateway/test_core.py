"""The gateway's core."""

from __future__ import annotations

import asyncio
from pathlib import Path

from blockota.gateway.core import Report
from tests.support.gateway import FakeCore, device_offer


def test_the_core_of_the_face_tests_records_calls(tmp_path: Path) -> None:
    """`FakeCore` answers whether a job is the present one, and records each call."""
    core = FakeCore(256)
    core.now_offered[256].append(device_offer(tmp_path, job=7))

    async def use() -> list[bool]:
        report = await core.reported(256, Report(image=bytes(32)))
        return [report, await core.progress(256, 7, 100), await core.progress(256, 8)]

    assert asyncio.run(use()) == [True, True, False]
    assert core.calls[1] == ("progress", 256, 7, 100)
