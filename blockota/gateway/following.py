"""The work of the gateway's threads: following the chains, and finding the files of the releases.

If reading a chain or searching a source fails, the thread tries again later. If a chain cannot be read, its last
records stay valid until the next successful reading.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from blockota.errors import BlockOTAError
from blockota.gateway.assembly import Assembly
from blockota.gateway.catalogue import ImageCatalogue, WantedFile
from blockota.gateway.producer_chain import ProducerChain
from blockota.gateway.settings import GatewaySettings
from blockota.gateway.site_chain import SiteChain
from blockota.gateway.snapshots import Readings, SnapshotFile
from blockota.line_log import LineLog, sentence
from blockota.model.agreement import Agreement
from blockota.model.release import Release
from blockota.model.target import Component
from blockota.stores.search import ImageSources, SearchObserver

_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 600.0
"""The shortest and longest pause in seconds before a file is searched for again. The pause doubles with each failure.
"""
_SAVE_AFTER = 5.0
"""Seconds after which changed readings are saved. Saving them takes most of a second with 10,000 devices."""


class SearchStoppedError(Exception):
    """A search for a file was ended because the gateway is stopping."""


class Following:
    """Reads all chains of a gateway, and assembles the facts for the core.

    Args:
        chains: the function that opens the gateway chain, and a mapping from the names of networks to the functions
            that open the producer chains. A failed call is repeated until the node answers.
        catalogue: the images.
        settings: the settings of the gateway.
        lines: the line log, to which failures and recoveries are written.
        snapshot: the files that store the readings for the next start.
    """

    def __init__(
        self,
        chains: tuple[Callable[[], SiteChain], Mapping[str, Callable[[], ProducerChain]]],
        catalogue: ImageCatalogue,
        settings: GatewaySettings,
        lines: LineLog,
        *,
        snapshot: SnapshotFile,
    ) -> None:
        self._open_site, self._open_producers = chains
        self._catalogue, self._settings, self._lines = catalogue, settings, lines
        self._site: SiteChain | None = None
        self._producers: dict[str, ProducerChain] = {}

        self._snapshot, known = snapshot, snapshot.load()
        self._site_reading = known.site if known else None
        self._readings = {name: one for name, one in known.producers.items() if name in chains[1]} if known else {}
        self._withheld: set[str] = set()
        self._assembly: Assembly | None = None
        self._assembled_from: Readings | None = None
        self._has_new_files = False
        self._unsaved: tuple[Readings, float] | None = None

    def read(self) -> None:
        """Read all chains. A failure is written to the line log, and the last reading of the chain stays valid."""
        with self._translated("gateway chain"):
            self._site = self._site or self._open_site()
            self._site_reading = self._site.read()

        # Only the products that a Spec of the site lists are read.
        specs = self._site_reading.specs.values() if self._site_reading else ()
        wanted = {component for spec in specs for component in spec.components}
        for name, open_chain in self._open_producers.items():
            with self._translated(f"producer chain {name}"):
                chain = self._producers.get(name) or open_chain()
                self._producers[name] = chain
                # The confirmed reading is stored first: it stays valid if the next call fails.
                self._readings[name] = reading = chain.read(wanted)
                self._readings[name] = chain.with_newest(reading)

    def note_new_file(self) -> None:
        """Request a new assembly of the facts, because a file was found. Any thread may call this method."""
        self._has_new_files = True

    def assemble(self) -> Assembly | None:
        """Assemble the facts from the last readings and the images.

        Returns None before the first reading of the site. If only the time has changed, the last assembly is reused
        with the new time. A new assembly would take long for a site with many devices.
        """
        if self._site_reading is None:
            return None
        site, producers = self._site_reading, list(self._readings.values())
        readings = Readings(site, self._readings).without_position()
        is_changed, self._has_new_files = self._has_new_files or readings != self._assembled_from, False
        if self._assembly and not is_changed and not self._assembly.is_over(producers):
            self._assembly.set_time(site, producers)
            return self._assembly

        # A release is saved before a device can run it, so that a gateway that is killed still recognises the release.
        if self._assembled_from is None or readings.producers != self._assembled_from.producers:
            self._snapshot.save_producers(self._readings)
        self._unsaved = Readings(site, dict(self._readings)), time.monotonic()
        assembly = Assembly(self._catalogue)
        assembly.assemble(site, producers, self._settings)
        for name in self._withheld - assembly.faults.keys():
            self._lines.state(name, "")
        for name, why in assembly.faults.items():
            self._lines.state(name, why)
        self._withheld = set(assembly.faults)
        # No image is removed before all chains were read, because an unread chain may need the image.
        if len(self._readings) == len(self._open_producers):
            self._catalogue.keep(assembly.kept)
        self._assembly, self._assembled_from = assembly, readings
        return assembly

    def save(self, *, is_last: bool = False) -> None:
        """Write changed readings to the file, some seconds after the change, so that devices are notified first.

        Args:
            is_last: whether to write immediately, because the gateway is stopping.
        """
        unsaved = self._unsaved
        if unsaved and (is_last or time.monotonic() - unsaved[1] > _SAVE_AFTER):
            self._snapshot.save(unsaved[0])
            # Another thread may have stored a newer reading in the meantime.
            if self._unsaved is unsaved:
                self._unsaved = None

    def replicas(self, component: Component, release: Release) -> Iterator[Agreement]:
        """Yield the agreements under which brokers serve a release.

        Raises:
            ChainError: the node is out of reach.
        """
        readings = (one for one in self._readings.values() if component in one.products)
        contract = next((one.replications.get(component.contract) for one in readings), None)
        # The agreements belong to the releases of one BlockOTA contract. Another contract may have other images under
        # the same names.
        if contract and contract.block_ota() == component.contract:
            yield from contract.replicas(release.product, release.version)

    @contextmanager
    def _translated(self, part: str) -> Iterator[None]:
        try:
            yield
        except BlockOTAError as error:
            self._lines.state(part, sentence(error))
        else:
            self._lines.state(part, "")


class FileFinder:
    """Finds the missing files, one after another. The search for a file that was not found is repeated after a pause.

    Args:
        catalogue: the images.
        sources: returns the sources that are searched for a product's files if the catalogue's store does not have
            them.
        lines: the line log, to which failures and recoveries are written.
        clock: returns seconds of a monotonic clock.
        must_stop: returns whether the gateway is stopping.
    """

    def __init__(
        self,
        catalogue: ImageCatalogue,
        sources: Callable[[Component], ImageSources],
        lines: LineLog,
        *,
        clock: Callable[[], float],
        must_stop: Callable[[], bool],
    ) -> None:
        self._catalogue, self._sources, self._lines = catalogue, sources, lines
        self._clock, self._must_stop = clock, must_stop
        self._pauses: dict[WantedFile, tuple[float, float]] = {}

    def find_next(self, wanted: Sequence[WantedFile]) -> bool:
        """Search for the first wanted file whose pause is over.

        Returns:
            Whether a file was searched for, even if it was not found.

        Raises:
            SearchStoppedError: the gateway is stopping.
        """
        for other in self._pauses.keys() - set(wanted):
            del self._pauses[other]
            self._lines.state(str(other), "")

        due = (file for file in wanted if self._pauses.get(file, (0.0, 0.0))[0] <= self._clock())
        if (file := next(due, None)) is None or self._catalogue.has(file):
            return file is not None

        def note(text: str) -> None:
            self._lines.event("images", "searching", file=str(file), note=text)

        observer = SearchObserver(note=note, progress=self._stop_if_asked)
        try:
            self._catalogue.find(file, self._sources(file.component), observer=observer)
        except BlockOTAError as error:
            # Each further failure doubles the pause.
            pause = min(2 * self._pauses[file][1], _LONGEST_PAUSE) if file in self._pauses else _FIRST_PAUSE
            self._pauses[file] = (self._clock() + pause, pause)
            self._lines.state(str(file), sentence(error))
        else:
            self._pauses.pop(file, None)
            self._lines.state(str(file), "")
            self._lines.event("images", "found", file=str(file), sha256=file.sha256.hex())
        return True

    def pause(self) -> float | None:
        """Return the seconds until the next search for a file; None if no file waits."""
        ends = [end for end, _ in self._pauses.values()]
        return max(min(ends) - self._clock(), 0.0) if ends else None

    def _stop_if_asked(self, _: int) -> None:
        if self._must_stop():
            raise SearchStoppedError
