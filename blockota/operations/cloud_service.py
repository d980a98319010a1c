"""``blockota cloud run``: a `ReceivingService` that writes the requests of validators into a database.

The cloud answers a request after it has committed the rows and stored the request's name on the disk. After a crash
between the commit and the storing of the name, the validator repeats the request. The rows of a repeated request are
not added a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from blockota.bindings.identities import IdentitiesContract
from blockota.errors import BlockOTAError
from blockota.identity.receiving import Outcome
from blockota.identity.receiving_service import ReceivingService, ReceivingSetup, ReceivingStatus
from blockota.identity.request_state import RequestState
from blockota.ledger.recording import LogParts
from blockota.line_log import LineLog, sentence
from blockota.model.identity import IdentityKind
from blockota.model.request import MAX_STORE_SIZE, Receiver, SignedRequest
from blockota.operations.cloud import METHODS, CloudStore
from blockota.operations.cloud_settings import CloudSettings
from blockota.operations.database import CloudDatabase
from blockota.repository.metrics import Metrics, ServiceMetrics
from blockota.shutdown import Stop

STATE_NAME = "requests.sqlite"
"""The file in the folder of a cloud with the names of requests, and with entries for the log."""


@dataclass(frozen=True)
class CloudSetup:
    """The parts from which a cloud is assembled.

    Attributes:
        settings: the table ``[cloud]``.
        database: the database.
        open_registry: opens the registry of identities; called repeatedly until the node answers.
        log: the log.
    """

    settings: CloudSettings
    database: CloudDatabase
    open_registry: Callable[[], IdentitiesContract]
    log: LogParts


@dataclass(frozen=True)
class CloudStatus(ReceivingStatus):
    """The state of a cloud at one moment.

    Attributes:
        stored: the number of stored requests of gateways since the start.
        readings: the number of readings in the stored requests.
    """

    METRICS: ClassVar[ServiceMetrics] = ServiceMetrics("cloud")

    stored: int = 0
    readings: int = 0

    def own_fields(self) -> dict[str, Any]:
        """Return the cloud's own fields of the JSON status."""
        return {"stored": self.stored, "readings": self.readings}

    def own_metrics(self) -> Metrics:
        """Yield the cloud's own metrics for Prometheus."""
        text = "Stored requests of gateways since the start."
        yield self.METRICS.counter("stored_requests", text, self.stored)
        yield self.METRICS.counter("stored_readings", "Stored readings since the start.", self.readings)


class CloudService(ReceivingService):
    """Runs a cloud.

    Args:
        setup: the cloud.
        state: the names of the requests that the cloud received, and the entries that wait for the log.
        lines: writes events, failures and recoveries as lines of JSON.
        stop: ends the cloud.
    """

    KIND = IdentityKind.CLOUD

    def __init__(self, setup: CloudSetup, state: RequestState, lines: LineLog, stop: Stop) -> None:
        settings = setup.settings
        receiver = Receiver(settings.identity, METHODS, settings.max_age, max_size=MAX_STORE_SIZE)
        super().__init__(ReceivingSetup(settings, receiver, setup.open_registry, setup.log, state), lines, stop)
        self._database = setup.database
        self._interrupt = setup.database.interrupt  # the last commit may wait for a standby that is gone
        self._store = CloudStore(settings.identity, setup.database, self.registry, clock=self._clock)

    def run(self, *, on_ready: Callable[[str], None]) -> None:
        """Run until the stop is requested.

        Args:
            on_ready: called with the URL that receives requests when the cloud is ready.

        Raises:
            UsageError: an address or another setting cannot be used.
            RefusedError: the database belongs to another program, or a newer version of BlockOTA wrote its tables.
            StoreError: the database cannot be used.
        """
        if self._database.migrate():
            self._lines.event("database", "migrated")
        super().run(on_ready=on_ready)

    def _keep(self, requests: Sequence[SignedRequest]) -> list[Outcome]:
        """Store requests, and report when the database fails and when it works again."""
        try:
            outcomes = self._store.keep(requests)
        except BlockOTAError as error:
            self._lines.state("database", sentence(error))
            raise
        self._lines.state("database", "")
        return outcomes

    def _status(self) -> CloudStatus:
        return CloudStatus(**self._common(), stored=self._store.stored, readings=self._store.readings)


@contextmanager
def opened_cloud(setup: CloudSetup, lines: LineLog, stop: Stop) -> Iterator[CloudService]:
    """Open the files of a cloud, and yield its service.

    Raises:
        RefusedError: another process runs this cloud, or a file belongs to another program.
        StoreError: the folder of the cloud cannot be written.
    """
    with RequestState(setup.settings.folder / STATE_NAME) as state, setup.database:
        yield CloudService(setup, state, lines, stop)
