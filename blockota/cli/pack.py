"""The command ``blockota proposal pack``: one file for an owner whose machine has no network."""

from __future__ import annotations

import time
from pathlib import Path

import click

from blockota.cli.next_steps import after_packing
from blockota.cli.session import Session, with_session
from blockota.cli.signing import FILE, image_inputs, image_options, open_view, require_pending, with_neighbours
from blockota.errors import shortened
from blockota.files import result_file
from blockota.vendor.files import PACK_MARK, read_proposal, refuse_to_replace
from blockota.vendor.pack import write_pack


@click.command()
@click.argument("file", type=FILE)
@image_options
@click.option("-o", "--output", type=FILE, help="Pack to write; beside FILE by default, with the suffix .pack.")
@with_session
def pack(
    session: Session,
    /,
    file: Path,
    image: tuple[Path, ...],
    previous: tuple[Path, ...],
    source: tuple[str, ...],
    output: Path | None,
) -> None:
    """Write one file with which an off-line owner signs FILE.

    The pack contains the proposal, a chain view, the images, their notes, and the images of the newest releases.

    \b
    Example:  blockota proposal pack 1.4.0.json
              blockota proposal sign 1.4.0.pack --key keystore:bob.json
    """
    proposal = read_proposal(file)
    path = output or file.with_suffix(".pack")
    refuse_to_replace(path, PACK_MARK)
    now = int(time.time())
    view = with_neighbours(open_view(session, [proposal], path=None), file, proposal, now=now)
    require_pending(session, proposal, view, now=now)
    inputs = image_inputs(session, image, previous, source, open_store=lambda: session.store)
    with result_file(path) as into:
        contents = write_pack(proposal, view, inputs, into=into)
        size = into.tell()

    for missing in contents.missing:
        session.note(f"Not in the pack: {missing}.")
    if view.queued:
        first = shortened(view.queued.values())
        session.note(f"Must be executed first: {first}. Pack and send them too, or else the owner sees a red flag.")
    fields = {
        "pack": str(path),
        "size": size,
        "block": view.block_number,
        "images": contents.images,
        "previousImages": contents.previous,
        "missing": contents.missing,
    }

    sentence = f"{path} has {size:,} bytes: {contents}, and the chain as of block {view.block_number:,}"
    session.result(fields, lambda: session.done(sentence), then=after_packing(file, path))
