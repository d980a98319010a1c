"""``blockota producer``: admit, suspend and restore producers; gateways offer only releases of admitted producers."""

from __future__ import annotations

import click

from blockota.approval.proposal import Proposal
from blockota.approval.registry_flags import registry_flags
from blockota.bindings.producers import ProducersContract
from blockota.cli.options import ProposalOptions, proposing_options, save_call, save_proposal
from blockota.cli.parameters import ADDRESS
from blockota.cli.session import Session, VerbGroup, with_session
from blockota.desk import view_of
from blockota.ethereum import ZERO_ADDRESS
from blockota.model.release import product_key, show_time
from blockota.vendor.propose import Reason, propose_call


@click.group(cls=VerbGroup)
def producer() -> None:
    """Admit producers; gateways offer only the releases of admitted producers.

    The consortium's Safe decides on each admission. A producer is a vendor with its contracts BlockOTA and
    FirmwareReplication.
    """


@producer.command()
@click.argument("name")
@click.option("--contract", "block_ota", type=ADDRESS, required=True, help="The producer's BlockOTA contract.")
@click.option("--replication", type=ADDRESS, help="The producer's FirmwareReplication, if any.")
@proposing_options
@with_session
def admit(session: Session, /, name: str, block_ota: str, replication: str | None, proposing: ProposalOptions) -> None:
    """Propose to admit the producer NAME with its contracts.

    The name and the contracts of a producer never change. The command reports the red flags that the owners will see.

    \b
    Example:  blockota producer admit acme -o admit.json \\
                  --contract 0x5FbDB2315678afecb367f032d93F642f64180aa3
    """
    contract = session.connection.open(ProducersContract)

    def propose(reason: Reason) -> Proposal:
        made = propose_call(contract, "admit", product_key(name), block_ota, replication or ZERO_ADDRESS, reason=reason)
        for flag in registry_flags(made.call, view_of(session.connection, [made])):
            session.note(f"Warning: {flag.what} (red flag {flag.word}).")
        return made

    save_proposal(session, propose, proposing)


@producer.command()
@click.argument("name")
@proposing_options
@with_session
def suspend(session: Session, /, name: str, proposing: ProposalOptions) -> None:
    """Propose to suspend the producer NAME.

    Gateways do not offer releases of a suspended producer.

    \b
    Example:  blockota producer suspend acme --reason "keys stolen" \\
                  -o suspend.json
    """
    _propose(session, "suspend", name, proposing)


@producer.command()
@click.argument("name")
@proposing_options
@with_session
def restore(session: Session, /, name: str, proposing: ProposalOptions) -> None:
    """Propose to end the suspension of the producer NAME.

    \b
    Example:  blockota producer restore acme -o restore.json
    """
    _propose(session, "restore", name, proposing)


@producer.command("list")
@with_session
def list_(session: Session) -> None:
    """List the producers, including suspended producers.

    \b
    Example:  blockota producer list
    """
    found = session.connection.open(ProducersContract).producers()
    columns = ("PRODUCER", "STATUS", "SINCE", "CONTRACT", "REPLICATION")
    rows = [
        (p.name, "SUSPENDED" if p.suspended else "admitted", show_time(p.since), p.block_ota, p.replication or "-")
        for p in found
    ]
    fields = {"producers": [one.as_fields() for one in found]}
    session.result(fields, lambda: session.table(columns, rows, empty="No producer is admitted."))


def _propose(session: Session, function: str, name: str, proposing: ProposalOptions) -> None:
    contract = session.connection.open(ProducersContract)
    save_call(session, contract, function, product_key(name), proposing=proposing)
