"""``blockota product``: what images are for."""

from __future__ import annotations

from typing import Any

import click

from blockota.cli.parameters import NUMBER, REGION
from blockota.cli.proposing import proposing_options, save_proposal
from blockota.cli.session import Session, with_session
from blockota.release import Product, Region

MAX_CHIP_ID = 0xFFFF


@click.group()
def product() -> None:
    """What images are for: one component of one device model, paired with an OEM, a chip and a flash region."""


@product.command()
@click.argument("name")
@click.option("--oem", required=True, help="Name of the manufacturer it is paired with.")
@click.option("--chip", type=NUMBER, required=True, help="Product id of the chip, such as 0x410 (STM32F10x).")
@click.option("--region", type=REGION, required=True, help="Flash for its images, such as 0x08000000:64K.")
@proposing_options
@with_session
def pair(session: Session, /, name: str, oem: str, chip: int, region: Region, **proposing: Any) -> None:
    """Propose to pair the product NAME with its OEM, chip and flash region; its Safe's owners decide.

    \b
    Example:  blockota product pair acme-thermo2 --oem acme --chip 0x410 --region 0x08000000:64K -o pair.json
    """
    from blockota.vendor import propose_pairing

    if chip > MAX_CHIP_ID:
        raise click.BadParameter(f"0x{chip:x} is no chip id: it has at most 16 bits", param_hint="--chip")
    wanted = Product(name, oem, chip, region, minimum_version=None, paired=True)
    save_proposal(session, lambda reason: propose_pairing(session.contract, wanted, reason=reason), **proposing)


@product.command("list")
@with_session
def list_(session: Session) -> None:
    """List all products of the contract.

    \b
    Example:  blockota product list
    """
    products = session.contract.products()
    rows = [
        (p.name, p.oem, f"0x{p.chip_id:03x}", p.region, p.minimum_version or "-", "yes" if p.paired else "no")
        for p in products
    ]
    columns = ("PRODUCT", "OEM", "CHIP", "REGION", "FLOOR", "PAIRED")
    session.result({"products": [as_fields(p) for p in products]}, lambda: session.table(columns, rows))


@product.command()
@click.argument("name")
@with_session
def show(session: Session, name: str) -> None:
    """Show the product NAME and its newest release.

    \b
    Example:  blockota product show acme-thermo2
    """
    from blockota.vendor import known_product

    found, newest = known_product(session.contract, name), session.contract.latest(name)
    fields = as_fields(found) | {"newest": str(newest.version) if newest else None}
    shown = {
        "product": found.name,
        "OEM": found.oem,
        "chip id": f"0x{found.chip_id:03x}",
        "region": found.region,
        "floor": found.minimum_version or "not set",
        "paired": "yes" if found.paired else "no, nothing can be published or installed",
        "newest release": newest.version if newest else "none",
    }
    session.result(fields, lambda: session.fields(shown))


def as_fields(found: Product) -> dict[str, Any]:
    """A product for JSON."""
    return {
        "product": found.name,
        "oem": found.oem,
        "chipId": found.chip_id,
        "region": {"start": found.region.start, "size": found.region.size},
        "minimumVersion": str(found.minimum_version) if found.minimum_version else None,
        "paired": found.paired,
    }
