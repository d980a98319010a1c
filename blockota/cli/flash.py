"""``blockota flash``: a proven release to a board."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from blockota.cli.parameters import VERSION
from blockota.cli.session import Session, with_session

if TYPE_CHECKING:
    from blockota.release import Release, Version
    from blockota.verification import Consent, Passed, ProvenRelease
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
    from blockota.verification import Consent
    from firmware_host.bench import connect

    consent = Consent(**{name: options[name] for name in ("allow_downgrade", "replace_unknown", "configuration")})
    block, proven = _prove_release(session, product, version, options["image"])
    report = _Report(session, proven)
    with connect(port, baud=options["baud"]) as bench:
        report.board(bench)
        report.checks(_prove_board(session, bench, proven, consent, block))
        finished = _carry_out(bench, proven, report)
        report.checks([bench.prove_flash(proven.release, finished)])
        banner = "" if consent.configuration else bench.start(proven.release)
    report.end(finished, banner)


def _prove_release(
    session: Session, product: str, version: Version | None, image: Path | None
) -> tuple[int, ProvenRelease]:
    from blockota import technician
    from blockota.files import read_input
    from blockota.verification import prove_release

    def read_image(release: Release) -> bytes:
        if image:
            return read_input(image, limit=MAX_IMAGE_SIZE)
        return technician.read_image(release, session.store)

    answer = session.contract.answer(product, version, confirmations=session.settings.confirmations)
    return answer.block_number, prove_release(answer, session.trust, read_image=read_image)


def _prove_board(session: Session, bench: Bench, proven: ProvenRelease, consent: Consent, block: int) -> list[Passed]:
    from blockota.technician import installed_version

    def find_installed(digest: Any) -> Version | None:
        return installed_version(session.contract, proven.product.name, digest=digest, block=block)

    return bench.prove(proven, consent, find_installed=find_installed)


def _carry_out(bench: Bench, proven: ProvenRelease, report: _Report) -> Finished:
    from firmware_host.flasher import Finished

    with report.progress() as show:
        for event in bench.flash(proven):
            if isinstance(event, Finished):
                return event
            show(event)
    raise AssertionError("flashing ends with Finished")


class _Report:
    """What a flashing prints: checks as they pass, bars while it works, and one summary."""

    def __init__(self, session: Session, proven: ProvenRelease) -> None:
        self._session, self._release = session, proven.release
        self._passed: list[Passed] = []
        self._board: dict[str, Any] = {}
        self.checks(proven.passed)

    def checks(self, passed: Any) -> None:
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

    @contextmanager
    def progress(self) -> Iterator[Any]:
        columns = (TextColumn("{task.description:<9}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        console = self._session.err
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
            tasks = {name: bars.add_task(name, total=None) for name in ("Erased", "Written", "ReadBack")}

            def show(event: Event) -> None:
                done, total = getattr(event, "done", None), getattr(event, "total", None)
                if done is not None:
                    bars.update(tasks[type(event).__name__], completed=done, total=total)

            yield show

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
