"""``blockota replica``: make agreements with brokers, list them, and check the replicas."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence

import click

from blockota.approval.proposal import Proposal
from blockota.bindings.replication import decision_call
from blockota.broker import agreements as broker
from blockota.broker.agreements import find_agreement, find_deep_agreement, offer
from blockota.cli.keys import key_option, open_key
from blockota.cli.next_steps import after_offering
from blockota.cli.options import ProposalOptions, proposing_options, save_proposal
from blockota.cli.parameters import AGREEMENT, VALIDITY, VERSION, NumberRange
from blockota.cli.session import Session, VerbGroup, with_session
from blockota.errors import Action, BlockOTAError, ContentError, StoreError, UsageError, shortened
from blockota.model.agreement import Agreement, AgreementStatus
from blockota.model.release import Status, Version, show_time
from blockota.stores.probe import Challenge, Probe, ProbeStatus, probe_all
from blockota.vendor.propose import Reason
from blockota.vendor.propose import propose as propose_to_safe

_STATUSES = {"gone": "does not serve"}
"""The terminal's words for results that keep an older name in the JSON result."""
_KEY = key_option("The broker's")


@click.group(cls=VerbGroup)
def replica() -> None:
    """Make agreements with brokers, who serve copies of releases.

    A broker offers to serve a release, the vendor's Safe decides, and the broker announces the URL of the copy.
    """


@replica.command()
@click.option("--product", required=True, metavar="NAME", help="Product of the release.")
@click.option("--version", type=VERSION, required=True, help="Version of the release to serve.")
@click.option(
    "--expires-in", type=VALIDITY, default="90d", show_default=True, help="Time for which the release is served."
)
@_KEY
@with_session
def propose(
    session: Session, /, product: str, version: Version, expires_in: int, key: str, password_fd: int | None
) -> None:
    """Offer to serve a release, as a broker.

    \b
    Example:  blockota replica propose --product acme-thermo2 --version 1.4.0 \\
                  --key keystore:broker.json
    """
    expires_at = session.chain.head().time + expires_in
    account = open_key(session.settings.chain_id, key, password_fd)
    made = offer(session.replication, account, product=product, version=version, expires_at=expires_at)
    sentence = f"agreement {made.number} is proposed; the vendor's Safe decides"
    session.result(made.as_fields(), lambda: session.done(sentence), then=after_offering(made.number))


@replica.command()
@click.argument("numbers", type=AGREEMENT, nargs=-1, required=True, metavar="NUMBER…")
@proposing_options
@with_session
def accept(session: Session, /, numbers: tuple[int, ...], proposing: ProposalOptions) -> None:
    """Propose to the vendor's Safe to accept one or more agreements. One transaction accepts all named agreements.

    \b
    Example:  blockota replica accept 2 3 5 -o accept.json
    """
    _decide(session, "accept", proposing, *dict.fromkeys(numbers))


@replica.command()
@click.argument("number", type=AGREEMENT)
@proposing_options
@with_session
def decline(session: Session, /, number: int, proposing: ProposalOptions) -> None:
    """Propose to the vendor's Safe to decline the agreement NUMBER.

    \b
    Example:  blockota replica decline 3 -o decline-3.json
    """
    _decide(session, "decline", proposing, number)


@replica.command()
@click.argument("number", type=AGREEMENT)
@proposing_options
@with_session
def terminate(session: Session, /, number: int, proposing: ProposalOptions) -> None:
    """Propose to the vendor's Safe to end the accepted agreement NUMBER.

    \b
    Example:  blockota replica terminate 3 -o terminate-3.json
    """
    _decide(session, "terminate", proposing, number)


@replica.command()
@click.argument("number", type=AGREEMENT)
@click.argument("uri")
@_KEY
@with_session
def announce(session: Session, /, number: int, uri: str, key: str, password_fd: int | None) -> None:
    """Announce the URI that serves the accepted agreement NUMBER.

    The announcement can be repeated, for example when the URI changes.

    \b
    Example:  blockota replica announce 3 https://broker.example/ipfs \\
                  --key keystore:broker.json
    """
    account = open_key(session.settings.chain_id, key, password_fd)
    agreement = broker.find_agreement(session.replication, number)
    broker.announce(session.replication, account, agreement=agreement, uri=uri)
    sentence = f"agreement {number} is served from {uri}"
    fields = broker.find_agreement(session.replication, number).as_fields()
    session.result(fields, lambda: session.done(sentence), then="Next: `blockota replica check` tests the URL")


@replica.command()
@click.argument("number", type=AGREEMENT)
@_KEY
@with_session
def withdraw(session: Session, /, number: int, key: str, password_fd: int | None) -> None:
    """End the agreement NUMBER, as the broker that proposed it.

    \b
    Example:  blockota replica withdraw 3 --key keystore:broker.json
    """
    account = open_key(session.settings.chain_id, key, password_fd)
    session.replication.withdraw(account, find_agreement(session.replication, number))
    fields = find_agreement(session.replication, number).as_fields()
    then = "Next: `blockota broker sync --key KEY` drops the copy, if it exists"
    session.result(fields, lambda: session.done(f"agreement {number} is withdrawn"), then=then)


@replica.command("list")
@click.option("--product", metavar="NAME", help="Only agreements on this product; goes with --version.")
@click.option("--version", type=VERSION, help="Only agreements on this release; goes with --product.")
@click.option("--all", "everything", is_flag=True, help="List all agreements, including ended ones.")
@with_session
def list_(session: Session, /, product: str | None, version: Version | None, *, everything: bool) -> None:
    """List open offers and agreements, and the replicas that serve.

    An agreement is open if it is proposed or accepted, it has not expired, and its release is not revoked. The replica
    of an agreement counts as serving once the broker has announced a URI.

    \b
    Example:  blockota replica list --product acme-thermo2 --version 1.4.0
    """
    _require_both(product, version)
    release = (product, version) if product and version else None
    now, found = _find_agreements(session, release, everything=everything)

    columns = ("NUMBER", "RELEASE", "STATUS", "UNTIL", "BROKER", "URI")
    rows = [
        (a.number, f"{a.product} {a.version}", _status(a, now), show_time(a.expires_at), a.broker, a.uri or "-")
        for a in found
    ]

    none = "No agreements." if everything else "No agreement is open; --all lists ended agreements too."
    has_offers = not everything and any(one.status is AgreementStatus.PROPOSED for one in found)
    then = "The vendor accepts offers with `blockota replica accept NUMBER… -o FILE`" if has_offers else ""

    fields = {"agreements": found}
    if not everything:
        serving = [one for one in found if one.serves(now)]
        fields = {"agreements": serving, "open": [one for one in found if not one.serves(now)]}
    as_json = {name: [one.as_fields() for one in agreements] for name, agreements in fields.items()}
    session.result(as_json, lambda: session.table(columns, rows, empty=none), then=then)


@replica.command()
@click.option("--product", metavar="NAME", help="Only replicas of this product; goes with --version.")
@click.option("--version", type=VERSION, help="Only replicas of this release; goes with --product.")
@click.option(
    "--leaves", type=NumberRange(1, 1000), default=3, show_default=True, help="Random blocks to request per replica."
)
@click.option("--allow-private", is_flag=True, help="Also use URLs in private networks.")
@with_session
def check(
    session: Session, /, *, product: str | None, version: Version | None, leaves: int, allow_private: bool
) -> None:
    """Request random blocks from the announced replicas.

    A replica lies if it serves wrong bytes. The exit status is 0 if all replicas serve, and 3 if a replica lies. If no
    replica lies but a replica does not serve, the exit status is 5.

    \b
    Example:  blockota replica check --product acme-thermo2 --version 1.4.0
    """
    _require_both(product, version)
    now, listed = _find_agreements(session, (product, version) if product and version else None)
    found = [one for one in listed if one.serves(now)]
    challenge = Challenge(
        secrets.randbelow,
        time.monotonic,
        leaves=leaves,
        allow_private=allow_private or session.connection.is_local_chain,
        credentials=session.connection.credentials,
    )
    releases = session.contract.releases((one.product, one.version) for one in found)
    pairs = ((one, releases.get((one.product, one.version))) for one in found)
    probes = probe_all([(one, release) for one, release in pairs if release], challenge)

    error = _failure_of(probes)
    fields = {"replicas": [one.as_fields() for one in probes]}
    if error:
        error.result = fields
    if not (error and session.as_json):
        columns = ("NUMBER", "PRODUCT", "VERSION", "REPLICA", "STATUS", "BLOCKS", "SECONDS", "WHY")
        rows = []
        for one in probes:
            agreed, probed = one.agreement, _STATUSES.get(one.status, one.status)
            promised = (agreed.number, agreed.product, agreed.version, agreed.uri)
            rows.append((*promised, probed, one.blocks, f"{one.seconds:.2f}", one.why or "-"))
        # An empty table would look like a check that all replicas passed.
        none = (
            "No replica was asked: no agreement is accepted, unexpired and announced (`blockota replica list --all`)."
        )
        session.result(fields, lambda: session.table(columns, rows, empty=none))
    if error:
        raise error


def _require_both(product: str | None, version: Version | None) -> None:
    if (product is None) != (version is None):
        raise UsageError(
            "--product and --version must be passed together",
            why="a release is named by its product and its version",
            remedy="pass both options, or neither",
        )


def _status(agreement: Agreement, time: int) -> str:
    """Return the status to display: an open offer or an accepted agreement past its expiry is shown as expired."""
    status = agreement.status
    return "expired" if agreement.has_expired(time) and not status.is_final else str(status)


def _failure_of(probes: Sequence[Probe]) -> BlockOTAError | None:
    """Return the error of a check; None if all replicas serve.

    Replicas with wrong bytes take precedence over absent replicas.
    """
    wrong = [one.agreement.uri for one in probes if one.status is ProbeStatus.LIES]
    absent = [one.agreement.uri for one in probes if one.status in (ProbeStatus.GONE, ProbeStatus.UNUSABLE)]

    if wrong:
        remedy = "report these replicas to the vendor, who can end the agreement by `blockota replica terminate`"
        verb = "lies" if len(wrong) == 1 else "lie"
        return ContentError(f"{len(wrong)} of {len(probes)} replicas {verb}", why=shortened(wrong), remedy=remedy)

    if absent:
        verb = "does" if len(absent) == 1 else "do"
        return StoreError(
            f"{len(absent)} of {len(probes)} replicas {verb} not serve",
            why=shortened(absent),
            remedy="check that the repository runs, and that URL/health is reachable from outside; the list of "
            "agreements names the broker",
            action=Action.LIST_AGREEMENTS,
        )
    return None


def _decide(session: Session, decision: str, proposing: ProposalOptions, *numbers: int) -> None:
    replication = session.replication
    depth = session.settings.confirmations
    call = decision_call(decision, *(find_deep_agreement(replication, one, confirmations=depth) for one in numbers))

    def make(reason: Reason) -> Proposal:
        return propose_to_safe(session.contract, call, reason=reason, target=replication.address)

    save_proposal(session, make, proposing)


def _find_agreements(
    session: Session, release: tuple[str, Version] | None, *, everything: bool = False
) -> tuple[int, list[Agreement]]:
    """Return the chain's time and the open agreements, or all agreements if `everything`.

    `release` selects one release.
    """
    head = session.chain.head()
    found = list(session.replication.agreements(block=head.number))
    if release is not None:
        found = [one for one in found if (one.product, one.version) == release]
    if everything:
        return head.time, found

    found = [one for one in found if one.is_open(head.time)]
    names = ((one.product, one.version) for one in found)
    releases = session.contract.releases(names, block=head.number)
    active = {name for name, record in releases.items() if record.status is Status.ACTIVE}
    return head.time, [one for one in found if (one.product, one.version) in active]
