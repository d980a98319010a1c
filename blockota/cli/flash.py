"""``blockota flash``: a proven release to a board."""

from __future__ import annotations

import functools
import itertools
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from blockota.cli.parameters import VERSION
from blockota.cli.searching import search_image, source_option
from blockota.cli.session import Session, with_session

if TYPE_CHECKING:
    from blockota.release import Release, Version
    from blockota.verification import Passed, ProvenRelease
    from firmware_host.bench import Bench, ClearedBoard
    from firmware_host.flash_events import Event, Finished
    from firmware_host.flash_memory import Preserved

_CONSENTS = ("allow_downgrade", "replace_unknown", "replace_product", "configuration")


@click.command()
@click.option("--product", required=True, metavar="NAME", help="What the board is to run.")
@click.option("--version", type=VERSION, help="The newest active one by default.")
@click.option("--port", required=True, metavar="URL", help="Serial port of the board, or socket://HOST:PORT.")
@click.option("--baud", type=click.IntRange(1200, 1_000_000), default=115200, show_default=True)
@click.option("--image", type=click.Path(path_type=Path), help="Take the image from this file, and ask nobody.")
@source_option
@click.option("--allow-downgrade", is_flag=True, help="Replace a newer version; never below the floor.")
@click.option("--replace-unknown", is_flag=True, help="Replace contents that are no release.")
@click.option("--replace-product", metavar="NAME", help="Replace a release of this other product.")
@click.option("--configuration", is_flag=True, help="The image is data without a vector table.")
@with_session
def flash(session: Session, /, product: str, version: Version | None, port: str, **options: Any) -> None:
    """Prove a release against the chain, write it to the board, and prove the flash.

    Nothing is erased before the checks 1 to 9 hold. Set BOOT0 to 1 and reset the board first.

    \b
    Example:  blockota flash --product acme-thermo2 --port /dev/ttyUSB0
    """
    from blockota.answers import Consent
    from blockota.technician import known_releases
    from blockota.verification import prove_release
    from firmware_host.bench import connect

    consent = Consent(**{name: options[name] for name in _CONSENTS})
    contract = session.contract
    answer = contract.answer(product, version, confirmations=session.settings.confirmations)
    image = functools.partial(_image, session, file=options["image"], named=options["source"])
    proven = prove_release(answer, session.trust, read_image=image)
    report = _Report(session, proven)

    known = known_releases(contract, product, block=answer.block_number)
    with connect(port, baud=options["baud"]) as bench:
        report.board(bench)
        session.note("Reading what the board's flash holds; nothing is changed before check 9 has passed.")
        cleared = bench.prove(proven, consent, known=known)
        report.checks(cleared.passed)
        finished = report.follow(cleared.flash())
        report.checks([cleared.prove_flash(finished)])
        banner = "" if consent.configuration else _start(session, cleared)
    report.end(finished, banner)


def _start(session: Session, cleared: ClearedBoard) -> str:
    """What the board prints when it is started; the flash is proven by now, so no failure here is flashing's."""
    from blockota.errors import BlockOTAError

    try:
        return cleared.start()
    except BlockOTAError as error:
        release = cleared.proven.release
        why = f"{error.what}: {error.why}"
        session.note(
            f"The board holds {release.product} {release.version}, but it did not start: {why}. "
            "Reset the board with BOOT0 at 0."
        )
    except KeyboardInterrupt:
        session.note("Stopped listening; the board holds the release.")
    return ""


def _image(session: Session, release: Release, *, file: Path | None, named: Sequence[str]) -> bytes:
    import hashlib

    from blockota.files import read_input
    from firmware_host.image import MAX_IMAGE_SIZE, read_image

    _refuse_beyond_flash(release, limit=MAX_IMAGE_SIZE)
    if file is None:
        with tempfile.TemporaryFile() as found:
            search_image(session, release, named=named, into=found)
            found.seek(0)
            return found.read()
    content = read_input(file, limit=MAX_IMAGE_SIZE)
    # The published bytes are the release whatever they look like; only other ones can be a .hex or .elf of it.
    if not content or hashlib.sha256(content).digest() == release.sha256:
        return content
    return read_image(content, load_address=release.load_address).data


def _refuse_beyond_flash(release: Release, *, limit: int) -> None:
    """Refuse before it is fetched and held in memory what no board could take."""
    from blockota.errors import ImageError

    if release.size > limit:
        raise ImageError(
            f"{release.product} {release.version} is for no board that can be flashed here",
            why=f"its image has {release.size:,} bytes, the largest that is written over a serial port has {limit:,}",
            remedy="take it with `blockota release fetch`, and install it as the vendor says",
        )


class _Report:
    """What a flashing prints: checks as they pass, bars while it works, and one summary."""

    def __init__(self, session: Session, proven: ProvenRelease) -> None:
        self._session, self._release = session, proven.release
        self._passed: list[Passed] = []
        self._board: dict[str, Any] = {}
        self._kept = _KeptBytes(session)
        self.checks(proven.passed)

    def checks(self, passed: Sequence[Passed]) -> None:
        self._passed += passed
        if not self._session.as_json:
            for check in passed:
                self._session.done(f"{check.number:>2}  {check.what}")

    def board(self, bench: Bench) -> None:
        for note in bench.notes:
            self._session.note(note)
        identity = bench.identity
        self._board = {
            "productId": identity.product_id,
            "bootloader": identity.bootloader_version,
            "uniqueId": identity.unique_id,
        }
        self._kept.board = identity.unique_id or "unknown"
        name = identity.chip.name if identity.chip else "an unknown chip"
        self._session.note(f"Board: {name}, bootloader {identity.bootloader_version}, unique id {identity.unique_id}")

    def follow(self, events: Generator[Event]) -> Finished:
        with self._kept:
            try:
                return self._watch(events)
            except KeyboardInterrupt as interrupt:
                # The flasher alone can say what is half done: it ends with an error that does.
                events.throw(interrupt)
                raise

    def _watch(self, events: Generator[Event]) -> Finished:
        from firmware_host.flash_events import Checked, Erased, Finished, Repeated, Written
        from firmware_host.flash_memory import Preserved

        console = self._session.err
        columns = (TextColumn("{task.description:<9}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
            tasks = {kind: bars.add_task(kind.__name__, total=None) for kind in (Erased, Written, Checked)}
            for event in events:
                if isinstance(event, Finished):
                    return event
                if isinstance(event, Preserved):
                    self._kept.keep(event)
                if isinstance(event, Repeated):
                    self._session.note(f"The flash does not hold the image ({event.why}); all of it is written again.")
                if isinstance(event, Erased | Written | Checked):
                    bars.update(tasks[type(event)], completed=event.done, total=event.total)
        raise AssertionError("flashing ends with Finished")

    def end(self, finished: Finished, banner: str) -> None:
        release = self._release
        fields = {
            "product": release.product,
            "version": str(release.version),
            "sha256": finished.sha256.hex(),
            "erased": finished.erased,
            "written": finished.written,
            "identical": finished.summary.identical.size,
            "preserved": self._kept.count,
            "passed": [check.number for check in self._passed],
            "board": self._board,
            "banner": banner,
        }
        self._session.result(fields, lambda: self._show_end(finished, banner))

    def _show_end(self, finished: Finished, banner: str) -> None:
        self._session.done(f"the board holds {self._release.product} {self._release.version}: {finished.summary}")
        if self._kept.count:
            self._session.done(f"{self._kept.count:,} bytes beside the image, in the same pages, were written back")
        for line in banner.splitlines():
            self._session.out.print("[cyan]board says:[/cyan] ", end="")
            self._session.out.print(line, markup=False)


class _KeptBytes:
    """Files with the bytes beside the image, for as long as only they have them.

    Attributes:
        board: the board's unique id.
        count: bytes kept so far.
    """

    def __init__(self, session: Session) -> None:
        self.board, self.count = "unknown", 0
        self._session = session
        self._files: list[Path] = []

    def keep(self, preserved: Preserved) -> None:
        """Write the bytes to a file in the current folder; one that an earlier run left stays as it is.

        Raises:
            RefusedError: it cannot be written; nothing was changed on the board.
        """
        from blockota.errors import RefusedError
        from blockota.files import whole_file

        path = _free_name(f"preserved-{self.board}-{preserved.address:08x}")
        try:
            with whole_file(path) as file:
                file.write(preserved.data)
        except OSError as error:
            raise RefusedError(
                "the bytes beside the image cannot be kept in a file",
                why=f"{path}: {error.strerror or error}; nothing was changed on the board",
                remedy="run the command in a folder that can be written",
            ) from error
        self._files.append(path)
        self.count += len(preserved.data)

    def __enter__(self) -> None:
        """Nothing is kept yet."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Remove the files after a success, and say where they are after a failure."""
        for path in self._files:
            if kind is None:
                path.unlink(missing_ok=True)
            else:
                self._session.note(f"The bytes that the board held beside the image are kept in {path}.")


def _free_name(stem: str) -> Path:
    names = (Path(f"{stem}{f'-{number}' if number > 1 else ''}.bin") for number in itertools.count(1))
    return next(path for path in names if not path.exists())
