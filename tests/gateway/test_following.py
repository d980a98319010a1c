"""The gateway repeats the search for a missing file after growing pauses, and ends a search when it stops."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from blockota.errors import StoreError
from blockota.gateway.catalogue import ImageCatalogue, WantedFile
from blockota.gateway.following import FileFinder, SearchStoppedError
from blockota.line_log import LineLog
from blockota.model.target import Component
from blockota.stores.local import LocalStore
from blockota.stores.search import ImageSources
from tests.support.samples import CONTRACT, PRODUCT, code, release_of

IMAGE = code(300)
FILE = WantedFile(Component(1337, CONTRACT, PRODUCT.name), release_of(IMAGE))
OTHER = WantedFile(FILE.component, release_of(code(310)))


@dataclass
class Finding:
    """A file finder with a store, and a clock that a test sets."""

    folder: Path
    now: float = 0.0
    is_stopping: bool = False
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the finder."""
        self.store = LocalStore(self.folder / "store")
        self.catalogue = ImageCatalogue(self.folder / "gateway", self.store)
        self.log = LineLog(self.lines.append)
        self.finder = FileFinder(
            self.catalogue,
            lambda _: ImageSources(),
            self.log,
            clock=lambda: self.now,
            must_stop=lambda: self.is_stopping,
        )


@pytest.fixture
def finding(tmp_path: Path) -> Finding:
    """Return a file finder with an empty store."""
    return Finding(tmp_path)


def test_the_pause_grows_until_the_file_is_found(finding: Finding) -> None:
    """A missing file does not delay the search for other files.

    The pause between two searches for the missing file doubles each time, up to 600 s.
    When the file is found, its failure is no longer reported.
    """
    pauses = []
    for _ in range(8):
        assert finding.finder.find_next([FILE])
        assert not finding.finder.find_next([FILE])
        pause = finding.finder.pause()
        assert pause
        pauses.append(pause)
        finding.now += pause
    assert pauses == [5, 10, 20, 40, 80, 160, 320, 600]
    assert list(finding.log.troubles) == [str(FILE)]

    with (finding.folder / "image").open("w+b") as file:
        file.write(code(310))
        file.seek(0)
        finding.store.put(file)
    finding.now -= 1
    assert finding.finder.find_next([FILE, OTHER])
    assert finding.catalogue.has(OTHER)
    assert not finding.finder.find_next([OTHER][1:])
    assert finding.log.troubles == {}
    assert finding.finder.pause() is None


def test_a_stop_ends_a_search(finding: Finding) -> None:
    """When the gateway stops, a running search ends and leaves no file."""
    with (finding.folder / "image").open("w+b") as file:
        file.write(IMAGE)
        file.seek(0)
        finding.store.put(file)
    finding.is_stopping = True
    with pytest.raises(SearchStoppedError):
        finding.finder.find_next([FILE])
    assert not finding.catalogue.has(FILE)
    assert not list((finding.folder / "gateway" / "new").iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The error for a folder that cannot be used states the reason."""
    (tmp_path / "gateway").write_text("a file")
    with pytest.raises(StoreError, match="cannot be read or written"):
        ImageCatalogue(tmp_path / "gateway", LocalStore(tmp_path / "store"))
