"""``blockota flash``: write a verified release to one board, to several at once, or to one after another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click

from blockota.bindings.devices import DevicesContract
from blockota.cli.board_images import OwnImage, board_image_options
from blockota.cli.boards import JOURNALS
from blockota.cli.flash_display import FlashDisplay, finish
from blockota.cli.lines import lines_options
from blockota.cli.options import source_option
from blockota.cli.parameters import VERSION
from blockota.cli.session import Session, with_session
from blockota.desk import describe
from blockota.errors import Action, UsageError
from blockota.files import make_folder
from blockota.model.facts import Consent
from blockota.model.release import Version
from blockota.shutdown import stop_on_signals
from firmware_host.bench.job import Bench, require_interrupted_runs
from firmware_host.bench.log_folder import login_name, open_bench_log
from firmware_host.bench.offers import ImageSource, Offers
from firmware_host.bench.result import BoardResult
from firmware_host.bench.watch import PortWatch, at_all_ports
from firmware_host.bootloader.entry import BoardLine
from firmware_host.flashing.contents import Proof


@click.command()
@click.option("--product", metavar="NAME", help="The product to flash.")
@click.option("--version", type=VERSION, help="Version to flash; the newest active one by default.")
@lines_options
@click.option("--watch", is_flag=True, help="Flash one board after another, until Ctrl-C.")
@click.option("--resume", is_flag=True, help="Complete this board's interrupted run.")
@click.option("--image", type=click.Path(path_type=Path), help="Take the image from this file.")
@source_option
@board_image_options
@click.option("--allow-downgrade", is_flag=True, help="Replace a newer version, but not below the floor.")
@click.option("--replace-unknown", is_flag=True, help="Replace contents that are not a release.")
@click.option("--replace-product", metavar="NAME", help="Replace a release of this other product.")
@click.option("--configuration", is_flag=True, help="The image is data without a vector table.")
@click.option("--read-back", is_flag=True, help="Prove the flash by reading it all back.")
@click.option("--erase-chip", is_flag=True, help="Use mass erase; you confirm the reported flash size.")
@click.option("--no-stub", is_flag=True, help="Run no program in the chip's RAM; read back instead.")
@click.option(
    "--log", type=click.Path(path_type=Path), metavar="FOLDER", help="Bench log; by default in .blockota/bench."
)
@click.option("--operator", metavar="NAME", help="Your name in the log; by default your login name.")
@with_session
def flash(
    session: Session,
    /,
    *,
    lines: Sequence[BoardLine],
    product: str | None,
    version: Version | None,
    watch: bool,
    resume: bool,
    image: Path | None,
    source: tuple[str, ...],
    own: OwnImage,
    allow_downgrade: bool,
    replace_unknown: bool,
    replace_product: str | None,
    configuration: bool,
    read_back: bool,
    erase_chip: bool,
    no_stub: bool,
    log: Path | None,
    operator: str | None,
) -> None:
    """Write a verified release to boards, and check the flash. First reset the board with BOOT0 at 1, or pass --wiring.

    \b
    Example:  blockota flash --product acme-thermo2 --port /dev/ttyUSB0
    """
    product = product or (None if resume else session.bench.product)  # a journal names the product of its run
    _require_consistent(lines, product, watch=watch, resume=resume)

    own = own.completed(session.bench, product, resume=resume)
    state = session.settings.bench
    journals = make_folder(state) / JOURNALS.name
    bench_log = open_bench_log(session.config, environment=os.environ, folder=log)
    bench_log.check()  # a damaged log is reported before a board is changed
    own_images = own.images(state, may_replace=replace_unknown)
    examination = Proof.READ_BACK if read_back else Proof.STUB

    with FlashDisplay(session, is_one=len(lines) == 1 and not watch) as display:
        stages = session.connection.image_sources(source).stages
        read = partial(describe, session.connection, named=source)
        images = ImageSource(session.store, stages, display.fetching, image, read)
        offers = Offers(session.contract, session.trust, images, board_product=own.product)
        # Errors of the release are reported before a port is opened.
        if resume:
            require_interrupted_runs(journals, own_images)
        else:
            offer = offers.offer(product or "", version)
            display.checks(offer.proven.passed)

        with stop_on_signals() as stop:
            bench = Bench(
                consent=Consent(
                    allow_downgrade=allow_downgrade,
                    replace_unknown=replace_unknown,
                    replace_product=replace_product,
                    configuration=configuration,
                ),
                trust=session.trust,
                operator=operator or session.bench.operator or login_name(),
                log=bench_log,
                journals=journals,
                observer=display,
                stop=stop,
                images=own_images,
                find_device=partial(_find_device, session),
                proof=Proof.NO_STUB if no_stub else examination,
                may_erase_all=erase_chip,
            )

            # One thread per port calls this.
            def work(line: BoardLine) -> list[BoardResult]:
                if resume:
                    return [bench.resume(line, offers, product, version)]
                if watch:
                    return PortWatch(bench, offers, offer.proven.release, line).run()
                return [bench.flash(line, offer)]

            results = at_all_ports(lines, work, stop=stop, observer=display)
    then = "" if all(line.wiring.drives_boot0 for line in lines) else "Next: set BOOT0 back to 0, and reset the board"
    finish(session, results, display=display, is_stopped=stop.is_asked, then=then)


def _find_device(session: Session, unique_id: str) -> int:
    alias = session.bench.device_alias
    if alias is None:
        return 0

    return session.gateway.open(DevicesContract).number_of(f"{alias}/{unique_id}") or 0


def _require_consistent(lines: Sequence[BoardLine], product: str | None, *, watch: bool, resume: bool) -> None:
    urls = [line.url for line in lines]
    if twice := next((url for url in urls if urls.count(url) > 1), None):
        raise UsageError(
            f"the port {twice} is named twice",
            remedy="name each port once, with --port or in [bench] of blockota.toml",
        )

    if watch and resume:
        raise UsageError(
            "--watch and --resume exclude each other",
            why="with --watch, an interrupted run is completed when the board is connected again",
            remedy="pass one of them",
        )

    if product is None and not resume:
        raise UsageError("no product given", remedy="name the product", action=Action.NAME_PRODUCT)
