"""Messages that come again: the core recognises a repetition after a lost answer, and refuses a replay."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gateway.test_core import kinds, run
from tests.support.gateway import GatewayCore, known_device
from tests.support.gateway import release_facts as release
from tests.support.gateway import site_facts as site


@pytest.mark.parametrize("is_refusal", [False, True])
@pytest.mark.parametrize("reason", ["no  space", ""])
def test_a_repeated_failure_is_acknowledged_once_more(tmp_path: Path, reason: str, *, is_refusal: bool) -> None:
    """A device whose answer was lost repeats its message. The repetition is recognised, and makes no entry."""

    async def use(gateway: GatewayCore) -> None:
        core, offer = gateway.core, gateway.core.offer(256)
        assert offer
        for _ in range(2):
            assert await core.outcome(256, offer.job, succeeded=False, reason=reason, is_refusal=is_refusal)
        assert kinds(gateway) == ["refusal" if is_refusal else "event"]
        assert not await core.outcome(256, offer.job, succeeded=False, reason="another one")
        assert not await core.outcome(256, offer.job + 1, succeeded=False, reason=reason)
        assert not await core.outcome(256, offer.job, succeeded=True)
        assert len(kinds(gateway)) == 1

    run(tmp_path, site([known_device(256)], release(tmp_path, "1.1.0")), use)
