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


def test_a_repeated_postponement_is_logged_once(tmp_path: Path) -> None:
    """A device repeats its request if the answer was lost. By then, the time to which it postponed may have passed."""

    async def use(gateway: GatewayCore) -> None:
        core, offer, until = gateway.core, gateway.core.offer(256), gateway.clock.now + 2
        assert offer
        assert await core.postponed(256, offer.job, until=until, reason="in use")
        assert await core.postponed(256, offer.job, until=until, reason="in use")
        await gateway.clock.advance(core, 3)
        assert core.offer(256)
        assert not await core.postponed(256, offer.job, until=until, reason="in use")
        assert kinds(gateway) == ["postponement", "warning"]
        assert core.state(256).postponements == 1

    run(tmp_path, site([known_device(256)], release(tmp_path, "1.1.0")), use)
