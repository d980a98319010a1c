"""The state of a repository and of a served log, for the pages of `blockota.repository.status_site.MonitorSite`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from blockota.ledger.log import TileLog
from blockota.repository.access_log import AccessRecord
from blockota.repository.catalogue import Catalogue
from blockota.repository.metrics import Metrics, ServiceMetrics
from blockota.repository.responder import health_of
from blockota.repository.tokens import Tokens


class ServedCounts:
    """Counts what a server sent since its start."""

    def __init__(self) -> None:
        self._statuses: Counter[str] = Counter()
        self._sent = self._broken = 0

    def count(self, record: AccessRecord) -> None:
        """Count an answered request."""
        self._statuses[str(record.status)] += 1
        self._sent += record.sent
        self._broken += not record.is_complete

    def metrics(self, make: ServiceMetrics) -> Metrics:
        """Return the metrics of the counts."""
        text = "Answered requests since the start, by HTTP status; 0 if the client left before the answer."
        yield make.counters("requests", text, "status", dict(sorted(self._statuses.items())))
        yield make.counter("sent_bytes", "Bytes of bodies that were sent since the start.", self._sent)
        yield make.counter("broken_answers", "Answers that were not sent completely, since the start.", self._broken)


class RepositoryStatus:
    """The state of a repository.

    Args:
        catalogue: the files that the repository serves.
        tokens: the accepted tokens; None if every client is served.
        counts: counts the requests.
    """

    METRICS = ServiceMetrics("repository")

    def __init__(self, catalogue: Catalogue, tokens: Tokens | None, counts: ServedCounts) -> None:
        self._catalogue, self._tokens, self._counts = catalogue, tokens, counts

    def as_fields(self) -> Mapping[str, Any]:
        """Return the JSON object of ``/health``."""
        return health_of(self._catalogue, self._tokens)

    def metrics(self) -> Metrics:
        """Return the metrics of ``/metrics``."""
        make, catalogue, files = self.METRICS, self._catalogue, self._catalogue.files
        yield make.gauge("releases", "Releases that may be served.", files.rights.releases)
        yield make.gauge("files", "Files that are served.", len(files.trees))
        text = "Files that may be served, and are missing or corrupt in the store."
        yield make.gauge("missing_files", text, len(files.missing))

        yield make.gauge("confirmed_block", "Confirmed block that was read last.", catalogue.block)
        yield make.gauge("read_age_seconds", "Seconds since the chain was read.", catalogue.age)
        text = "1 if the last reading of the chain is valid; otherwise nothing is served."
        yield make.gauge("open", text, catalogue.is_open)

        troubles = [catalogue.trouble, catalogue.store_trouble, self._tokens.trouble if self._tokens else ""]
        text = "Parts of the repository that are in trouble: the chain, the store, the file of tokens."
        yield make.gauge("troubles", text, len(list(filter(None, troubles))))
        yield from self._counts.metrics(make)


class ServedLogStatus:
    """The state of a server of a log.

    Args:
        log: the log.
        counts: counts the requests.
    """

    METRICS = ServiceMetrics("log")

    def __init__(self, log: TileLog, counts: ServedCounts) -> None:
        self._log, self._counts = log, counts

    def as_fields(self) -> Mapping[str, Any]:
        """Return the JSON object of ``/health``."""
        return {"status": "serving", "entries": self._log.published.head().size}

    def metrics(self) -> Metrics:
        """Return the metrics of ``/metrics``."""
        size = self._log.published.head().size
        yield self.METRICS.gauge("published_entries", "Entries that the checkpoint covers.", size)
        yield from self._counts.metrics(self.METRICS)
