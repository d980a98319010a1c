"""``blockota flash``: a proven release to a board."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from blockota.cli.parameters import VERSION
from blockota.cli.session import Session, with_session

if TYPE_CHECKING:
    from blockota.release import Region, Release, Version
    from blockota.verification import Passed, ProvenRelease
    from firmware_host.bench import Bench
    from firmware_host.flasher import Event, Finished

MAX_IMAGE_SIZE = 1 << 30


@click.command()
@click.option("--product", required=True, metavar="NAME", help="What the board is to run.")
@click.option("--version", type=VERSION, help="The newest that is not revoked by default.")
@click.option("--port", required=True, metavar="URL", help="Serial port of the board, or socket://HOST:PORT.")
@click.option("--baud", type=click.IntRange(1200, 1_000_000), default=115200, show_default=True)
@click.option("--image", type=click.Path(path_type=Path), help="Take the image from this file, not from the store.")
@click.option("--allow-downgrade", is_flag=True, help="Replace a newer or the same version; never below the floor.")
@click.option("--replace-unknown", is_flag=True, help="Replace contents that are no release.")
@click.option("--configuration", is_flag=True, help="The image is data without a vector table.")
@with_session
def flash(session: Session, /, product: str, version: Version | None, port: str, **options: Any) -> None:
    """Prove a release against the chain, write it to the board, and prove the flash.

    Nothing is erased before the checks 1 to 9 hold. Set BOOT0 to 1 and reset the board first.

    \b
    Example:  blockota flash --product acme-thermo2 --port /dev/ttyUSB0
    """
    from blockota.answers import Consent
    from blockota.technician import installed_version
    from blockota.verification import prove_release
    from firmware_host.bench import connect

    consent = Consent(**{name: options[name] for name in ("allow_downgrade", "replace_unknown", "configuration")})
    contract = session.contract
    answer = contract.answer(product, version, confirmations=session.settings.confirmations)
    proven = prove_release(
        answer, session.trust, read_image=lambda release: _image(session, release, file=options["image"])
    )
    report = _Report(session, proven)

    def find_installed(digest: Callable[[Region], bytes]) -> Version | None:
        return installed_version(contract, product, digest=digest, block=answer.block_number)

    with connect(port, baud=options["baud"]) as bench:
        report.board(bench)
        report.checks(bench.prove(proven, consent, find_installed=find_installed))
        finished = report.follow(bench.flash(proven))
        report.checks([bench.prove_flash(proven.release, finished)])
        banner = "" if consent.configuration else bench.start(proven.release)
    report.end(finished, banner)


def _image(session: Session, release: Release, *, file: Path | None) -> bytes:
    from blockota.files import read_input
    from blockota.technician import read_image

    return read_input(file, limit=MAX_IMAGE_SIZE) if file else read_image(release, session.store)


class _Report:
    """What a flashing prints: checks as they pass, bars while it works, and one summary."""

    def __init__(self, session: Session, proven: ProvenRelease) -> None:
        self._session, self._release = session, proven.release
        self._passed: list[Passed] = []
        self._board: dict[str, Any] = {}
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
        name = identity.chip.name if identity.chip else "an unknown chip"
        self._session.note(f"Board: {name}, bootloader {identity.bootloader_version}, unique id {identity.unique_id}")

    def follow(self, events: Iterator[Event]) -> Finished:
        from firmware_host.flasher import Erased, Finished, ReadBack, Written

        console = self._session.err
        columns = (TextColumn("{task.description:<9}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
            tasks = {kind: bars.add_task(kind.__name__, total=None) for kind in (Erased, Written, ReadBack)}
            for event in events:
                if isinstance(event, Finished):
                    return event
                if isinstance(event, Erased | Written | ReadBack):
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
            "passed": [check.number for check in self._passed],
            "board": self._board,
            "banner": banner,
        }
        self._session.result(fields, lambda: self._show_end(finished, banner))

    def _show_end(self, finished: Finished, banner: str) -> None:
        counts = f"erased {finished.erased:,} bytes, wrote {finished.written:,}, read back {len(finished.flash):,}"
        self._session.done(f"the board holds {self._release.product} {self._release.version}: {counts}")
        for line in banner.splitlines():
            self._session.out.print("[cyan]board says:[/cyan] ", end="")
            self._session.out.print(line, markup=False)
