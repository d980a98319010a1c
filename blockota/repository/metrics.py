"""The metrics of services, in the text format of Prometheus.

Each service creates its metrics with `ServiceMetrics`, and serves the text of a `MetricsPage` at ``/metrics``. Each
page also has the metrics of the process (CPU time, memory, open files, start time) and the version of BlockOTA.

No label contains the serial number, the name or the address of a device.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from blockota import __version__
from blockota.ledger.recording import LogStatus

METRICS = "/metrics"
"""The path of the page."""
METRICS_TYPE = CONTENT_TYPE_PLAIN_0_0_4
"""The media type of the page. Prometheus and compatible programs have read this format since 2014."""
Values = Mapping[str, float] | Mapping[tuple[str, ...], float]
"""The values of a metric with labels, by the label or by all labels."""
Metrics = Iterable[Metric]
"""The metrics of a service at one moment."""


class ServiceMetrics:
    """Creates the metrics of one kind of service. The name of each metric begins with ``blockota_SERVICE_``.

    Args:
        service: the service, such as ``gateway``.
    """

    def __init__(self, service: str) -> None:
        self.service = service

    def gauge(self, name: str, text: str, value: float) -> Metric:
        """Return a gauge: a metric whose value rises and falls.

        Args:
            name: the name of the metric, with the unit at the end.
            text: the description of the metric, a sentence.
            value: the value.
        """
        return GaugeMetricFamily(self._named(name), text, value=value)

    def gauges(self, name: str, text: str, labels: str, values: Values) -> Metric:
        """Return a gauge with labels, such as the number of devices in each stage.

        Args:
            name: the name of the metric, with the unit at the end.
            text: the description of the metric, a sentence.
            labels: the names of the labels, separated by spaces.
            values: the values.
        """
        family = GaugeMetricFamily(self._named(name), text, labels=labels.split())
        return _filled(family, values)

    def counter(self, name: str, text: str, value: float) -> Metric:
        """Return a counter: a metric whose value only rises while the process runs.

        Args:
            name: the name of the metric, to which ``_total`` is added.
            text: the description of the metric, a sentence.
            value: the value.
        """
        return CounterMetricFamily(self._named(name), text, value=value)

    def counters(self, name: str, text: str, labels: str, values: Values) -> Metric:
        """Return a counter with labels, such as the number of refused requests for each reason.

        Args:
            name: the name of the metric, to which ``_total`` is added.
            text: the description of the metric, a sentence.
            labels: the names of the labels, separated by spaces.
            values: the values.
        """
        family = CounterMetricFamily(self._named(name), text, labels=labels.split())
        return _filled(family, values)

    def log(self, log: LogStatus) -> Metrics:
        """Yield the metrics of a service's log."""
        yield self.gauge("log_entries", "Entries of the log.", log.entries)
        yield self.gauge("anchored_entries", "Anchored entries of the log.", log.anchored or 0)
        age = max(time.time() - log.unanchored_since, 0) if log.unanchored_since is not None else 0
        text = "Age of the oldest published entry that is not anchored; 0 if all are anchored."
        yield self.gauge("unanchored_age_seconds", text, age)
        kinds = {kind.replace(" ", "-"): count for kind, count in sorted(log.appended.items())}
        yield self.counters("appended_entries", "Entries appended to the log since the start.", "kind", kinds)

    def _named(self, name: str) -> str:
        return f"blockota_{self.service}_{name}"


class MetricsPage(Collector):
    """The page ``/metrics`` of a service.

    Args:
        service: the service, such as ``gateway``.
        read: returns the current metrics; called for each request, in the thread of the request.
    """

    def __init__(self, service: str, read: Callable[[], Metrics]) -> None:
        self._service, self._read = service, read
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        about = {"service": self._service, "version": __version__}
        yield InfoMetricFamily("blockota", "The version of BlockOTA.", value=about)
        yield from self._read()

    def text(self) -> bytes:
        """Return the page, which has the media type `METRICS_TYPE`."""
        return generate_latest(self.registry)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, values: Values) -> Metric:
    for labels, value in values.items():
        family.add_metric((labels,) if isinstance(labels, str) else labels, value)
    return family
