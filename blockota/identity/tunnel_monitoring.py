"""The status of ``vpn sync --watch``, which is served at ``/health`` and ``/metrics``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blockota.identity.wireguard import PeerState
from blockota.repository.metrics import Metrics, ServiceMetrics

_METRICS = ServiceMetrics("tunnels")
_LIVE = 180
"""Seconds after a handshake for which a tunnel carries packets (WireGuard's ``Reject-After-Time``)."""


@dataclass
class TunnelWatch:
    """The status of a host's tunnels. One thread changes the status, and other threads read it.

    Attributes:
        read_peers: returns WireGuard's data about the peers.
        fresh_at: Unix time of the newest block that was read; None before the first reading.
        trouble: the reason why the registry cannot be read; empty if it can be read.
    """

    read_peers: Callable[[], Sequence[PeerState]]
    fresh_at: int | None = None
    trouble: str = ""

    def as_fields(self) -> Mapping[str, Any]:
        """Return the JSON object of ``/health``.

        Raises:
            BlockOTAError: WireGuard does not answer.
        """
        status = "degraded" if self.trouble else "serving"
        return {"status": status, "peers": len(self.read_peers()), "trouble": self.trouble}

    def metrics(self) -> Metrics:
        """Return the metrics of ``/metrics``.

        Raises:
            BlockOTAError: WireGuard does not answer.
        """
        now, peers = time.time(), self.read_peers()
        live = [one for one in peers if one.last_handshake and now - one.last_handshake < _LIVE]
        yield _METRICS.gauge("peers", "Peers of the interface.", len(peers))
        text = "Peers whose newest handshake is at most 3 minutes old."
        yield _METRICS.gauge("live_peers", text, len(live))

        text = "Bytes that were received from the present peers."
        yield _METRICS.gauge("received_bytes", text, sum(one.received for one in peers))
        yield _METRICS.gauge("sent_bytes", "Bytes that were sent to the present peers.", sum(one.sent for one in peers))

        age = max(now - self.fresh_at, 0) if self.fresh_at else 0
        yield _METRICS.gauge("block_age_seconds", "Seconds since the newest block of the gateway chain.", age)
        yield _METRICS.gauge("troubles", "1 if the registry cannot be read now.", bool(self.trouble))
