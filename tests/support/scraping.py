"""Scrape the metrics of a service as Prometheus does."""

from __future__ import annotations

import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.support.waiting import DEADLINE


def samples_of(text: str) -> dict[str, float]:
    """Parse a page of metrics with Prometheus' own library, and return the samples by name and labels."""
    return {
        one.name + "".join(f" {value}" for value in one.labels.values()): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def scrape(url: str) -> dict[str, float]:
    """Return the samples of a service.

    Args:
        url: the URL of the service, without a path.
    """
    answer = requests.get(f"{url}/metrics", timeout=DEADLINE)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return samples_of(answer.text)
