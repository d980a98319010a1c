"""``blockota flash``: a proven release to one board, to several at once, or to one after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blockota.cli.boards import BENCH_LOG, lines_options
from blockota.cli.display import source_option
from blockota.cli.parameters import VERSION
from blockota.cli.session import Session, with_session
from blockota.errors import UsageError

if TYPE_CHECKING:
    from blockota.cli.flash_board import Orders
    from blockota.cli.flash_display import Display
    from blockota.cli.flash_ports import PortWork
    from blockota.cli.flash_result import BoardResult
    from blockota.cli.flash_stop import Stop
    from firmware_host.bootloader.entry import BoardLine

_CONSENTS = ("allow_downgrade", "replace_unknown", "replace_product", "configuration")
_STATE, _JOURNALS = "bench", "interrupted"


@click.command()
@click.option("--product", metavar="NAME", help="What the board is to run.")
@click.option("--version", type=VERSION, help="The newest active one by default.")
@lines_options
@click.option("--watch", is_flag=True, help="Board after board, until Ctrl-C.")
@click.option("--resume", is_flag=True, help="Complete this board's interrupted run.")
@click.option("--image", type=click.Path(path_type=Path), help="Take the image from this file; ask nobody.")
@source_option
@click.option("--allow-downgrade", is_flag=True, help="Replace a newer one, not below the floor.")
@click.option("--replace-unknown", is_flag=True, help="Replace contents that are no release.")
@click.option("--replace-product", metavar="NAME", help="Replace a release of this other product.")
@click.option("--configuration", is_flag=True, help="The image is data without a vector table.")
@click.option("--read-back", is_flag=True, help="Prove the flash by reading all of it back.")
@click.option("--erase-chip", is_flag=True, help="Erase by one command: nothing else is there.")
@click.option("--no-stub", is_flag=True, help="Run no program in the chip's RAM at all.")
@click.option("--log", type=click.Path(path_type=Path), help="Bench log, by default in .blockota/bench.")
@click.option("--operator", metavar="NAME", help="Who works; your login name by default.")
@with_session
def flash(session: Session, /, lines: Sequence[BoardLine], **options: Any) -> None:
    """Prove a release against the chain, write it to boards, prove their flash.

    Nothing is erased before the checks 1 to 9 hold. Set BOOT0 to 1 and reset the board first.

    \b
    Example:  blockota flash --product acme-thermo2 --port /dev/ttyUSB0
    """
    from blockota.cli.flash_display import Display
    from blockota.cli.flash_stop import Stop
    from blockota.cli.flash_together import at_all_ports

    _require_sense(lines, options)
    stop = Stop()
    orders = _orders(session, options, stop=stop)
    with Display(session, is_one=len(lines) == 1 and not options["watch"]) as display:
        work = _work(session, orders, display=display, options=options)
        results = at_all_ports(lines, work, display=display, stop=stop)
    _conclude(session, results, display=display, stop=stop)


def _require_sense(lines: Sequence[BoardLine], options: Mapping[str, Any]) -> None:
    """Tell mistakes of the command line before anything else is done."""
    urls = [line.url for line in lines]
    if twice := next((url for url in urls if urls.count(url) > 1), None):
        raise UsageError(f"--port {twice} is named twice", remedy="name each port once")
    if options["watch"] and options["resume"]:
        raise UsageError(
            "--watch and --resume exclude each other",
            why="with --watch an interrupted run is gone on with by itself, once the board is put in again",
            remedy="say one of them",
        )
    if options["product"] is None and not options["resume"]:
        raise UsageError(
            "what the board is to run is not said", remedy="say --product NAME; see `blockota product list`"
        )


def _orders(session: Session, options: Mapping[str, Any], *, stop: Stop) -> Orders:
    from blockota.cli.flash_board import BusyBoards, Orders
    from blockota.model.facts import Consent
    from firmware_host.bench.log import BenchLog
    from firmware_host.flashing.on_chip import Proof

    state = session.settings.transactions.with_name(_STATE)
    orders = Orders(
        consent=Consent(**{name: options[name] for name in _CONSENTS}),
        proof=Proof.NO_STUB if options["no_stub"] else Proof.READ_BACK if options["read_back"] else Proof.STUB,
        may_erase_all=options["erase_chip"],
        operator=options["operator"] or _login_name(),
        trust=session.trust,
        log=BenchLog(options["log"] or _made(state) / BENCH_LOG.name),
        journals=state / _JOURNALS,
        stop=stop,
        busy=BusyBoards(),
    )
    orders.log.check()
    return orders


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"the folder {folder} cannot be made",
            why=error.strerror or str(error),
            remedy="run the command in a folder that you may write",
        ) from error
    return folder


def _login_name() -> str:
    import getpass
    import os

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in containers
        return f"user {os.getuid()}"


def _work(session: Session, orders: Orders, *, display: Display, options: Mapping[str, Any]) -> PortWork:
    """What is done at each port; mistakes about the release are told here, before a port is opened."""
    from blockota.cli.flash_offer import Offers
    from blockota.cli.flash_ports import Once, Resumption, require_journals
    from blockota.cli.flash_watch import Watch

    offers = Offers(session, file=options["image"], sources=options["source"])
    product, version = options["product"], options["version"]
    if options["resume"]:
        require_journals(orders)
        return Resumption(orders, offers, product, version)
    offer = offers.offer(product, version)
    display.release(offer.proven)
    return Watch(orders, offers, offer.proven.release) if options["watch"] else Once(orders, offer)


def _conclude(session: Session, results: Sequence[BoardResult], *, display: Display, stop: Stop) -> None:
    """Print what came of it all, and end with the status of the worst."""
    from blockota.cli.flash_result import in_words, together

    fields, error = {"results": [result.fields for result in results]}, together(results)
    if not session.as_json:
        display.table(results)
    elif stop.is_asked or error is None:
        session.result(fields, lambda: None)
    if stop.is_asked:
        raise KeyboardInterrupt(in_words(results))
    if error:
        session.result_of_failure(error, fields)
        raise error
