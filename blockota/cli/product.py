"""``blockota product``: pair products with an OEM, a chip and a flash region, and raise their minimum versions."""

from __future__ import annotations

import re
from typing import Any

import click

from blockota.approval.proposal import Proposal
from blockota.bindings.block_ota import unpair_call
from blockota.cli.options import ProposalDetails, ProposalOptions, proposing_options, save_proposal
from blockota.cli.parameters import REGION, VERSION, number
from blockota.cli.session import Session, VerbGroup, with_session
from blockota.desk import require_pairing
from blockota.model.release import Product, Region, Version, show_chip, show_time
from blockota.vendor.propose import Reason, propose
from blockota.vendor.publish import find_floor, propose_floor, propose_pairing
from firmware_host.bootloader.chips import chips_named, find_chip

MAX_CHIP_ID = 0xFFFF


def chip_id(value: Any) -> int:
    """Parse a chip id, or the name or part number of a chip that has only one id."""
    if re.fullmatch(r"\d\w*", str(value)):
        found = number(value)
        if str(value).isdigit() and not find_chip(found) and find_chip(int(value, 16)):
            raise click.BadParameter(f"no chip has the decimal id {value}. Did you mean 0x{value}?")
        return found

    named = chips_named(str(value))
    if not named:
        raise click.BadParameter(f"{value!r} is not a chip's id or name: `blockota board chips` lists them.")

    if len(named) > 1:
        ids = ", ".join(f"0x{chip.product_id:03x} ({chip.name}, up to {chip.flash_limit >> 10} KiB)" for chip in named)
        raise click.BadParameter(
            f"{value!r} has several ids: {ids}. Pass one of them, or the whole part number; `blockota board identify` "
            "shows the id of a board."
        )
    return named[0].product_id


@click.group(cls=VerbGroup)
def product() -> None:
    """Pair products, which are components of device models, with an OEM, a chip id and a flash region."""


@product.command()
@click.argument("name")
@click.option("--oem", required=True, help="Name of the manufacturer of the device.")
@click.option("--chip", type=chip_id, required=True, help="Chip id or part number; 0 if it is not an STM32.")
@click.option("--region", type=REGION, required=True, help="Flash region, as 0x08000000:64K.")
@proposing_options
@with_session
def pair(
    session: Session,
    /,
    name: str,
    oem: str,
    chip: int,
    region: Region,
    proposing: ProposalOptions,
) -> None:
    """Propose to pair the product NAME with an OEM, a chip and a region.

    The Safe's owners decide. For devices without an STM32, such as a Linux device, pass --chip 0, and pass the maximum
    size of an image as --region 0:SIZE.

    \b
    Example:  blockota product pair acme-thermo2 --oem acme --chip 0x410 \\
                  --region 0x08000000:64K -o pair.json
              blockota product pair acme-hub --oem acme --chip 0 --region 0:64M \\
                  -o pair-hub.json
    """
    if chip > MAX_CHIP_ID:  # the contract records 16 bits
        raise click.BadParameter(f"0x{chip:x} is not a chip id: it has more than 16 bits", param_hint="--chip")
    wanted = Product(name, oem, chip, region, minimum_version=None, paired=True)
    require_pairing(wanted)
    save_proposal(session, lambda reason: propose_pairing(session.contract, wanted, reason=reason), proposing)


@product.command()
@click.argument("name")
@proposing_options
@with_session
def unpair(session: Session, /, name: str, proposing: ProposalOptions) -> None:
    """Propose to end the pairing of the product NAME.

    Afterwards, no release of the product can be published or installed.

    The product's releases stay on record, and the product can be paired again.

    \b
    Example:  blockota product unpair acme-thermo2 --reason "out of production" \\
                  -o unpair.json
    """
    save_proposal(session, lambda reason: propose(session.contract, unpair_call(name), reason=reason), proposing)


@product.command()
@click.argument("name")
@click.argument("version", type=VERSION)
@click.option("--above-newest", is_flag=True, help="Allow a floor that excludes every release.")
@proposing_options
@with_session
def floor(session: Session, /, name: str, version: Version, *, above_newest: bool, proposing: ProposalOptions) -> None:
    """Propose to raise the floor of the product NAME to VERSION.

    No older version can be published or installed.

    A floor cannot be lowered again, not even by the Safe's owners.

    \b
    Example:  blockota product floor acme-thermo2 1.4.0 \\
                  --reason "1.3 leaks keys" -o floor.json
    """
    wanted = find_floor(session.contract, name, version=version)

    def propose(reason: Reason) -> Proposal:
        return propose_floor(session.contract, wanted, reason=reason, above_newest=above_newest)

    fields = {
        "product": wanted.product,
        "minimumVersion": str(wanted.version),
        "excluded": [str(release.version) for release in wanted.excluded],
        "allowed": [str(release.version) for release in wanted.allowed],
    }
    rows = {
        "floor": f"{wanted.product} {wanted.version}, which cannot be lowered again",
        "permanently excluded": ", ".join(fields["excluded"]) or "none",
        "still allowed": ", ".join(fields["allowed"]) or "none",
    }
    save_proposal(session, propose, proposing, about=lambda: ProposalDetails(fields, [rows]))


@product.command("list")
@with_session
def list_(session: Session) -> None:
    """List the products of the contract.

    \b
    Example:  blockota product list
    """
    products = session.contract.products()
    rows = [
        (p.name, p.oem, show_chip(p.chip_id), p.region, p.minimum_version or "-", "yes" if p.paired else "no")
        for p in products
    ]
    columns = ("PRODUCT", "OEM", "CHIP", "REGION", "FLOOR", "PAIRED")
    session.result(
        {"products": [p.as_fields() for p in products]},
        lambda: session.table(columns, rows, empty="No products."),
    )


@product.command()
@click.argument("name")
@with_session
def show(session: Session, name: str) -> None:
    """Show the product NAME and its newest release.

    \b
    Example:  blockota product show acme-thermo2
    """
    found, newest = session.contract.known_product(name), session.contract.latest(name)
    fields = found.as_fields() | {"newest": None, "newestActiveFrom": None}

    shown = {
        "product": found.name,
        "OEM": found.oem,
        "chip id": show_chip(found.chip_id),
        "region": found.region,
        "floor": found.minimum_version or "not set",
        "paired": "yes" if found.paired else "no, nothing can be published or installed",
        "newest release": "none",
    }

    if newest:
        fields |= {"newest": str(newest.version), "newestActiveFrom": newest.active_from}
        shown["newest release"] = f"{newest.version}, active from {show_time(newest.active_from)}"
    session.result(fields, lambda: session.fields(shown))
