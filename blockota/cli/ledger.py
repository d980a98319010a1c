"""``blockota ledger``: anchored logs and recorded installations, evidence against a log, and decisions on it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from uuid import UUID

import click

from blockota.bindings.devices import DevicesContract
from blockota.bindings.identities import IdentitiesContract
from blockota.bindings.producers import ProducersContract
from blockota.bindings.update_ledger import ProvenEntry, UpdateLedgerContract
from blockota.cli.device import DEVICE_NAME
from blockota.cli.identity import UUID_TYPE
from blockota.cli.keys import key_option, open_key
from blockota.cli.parameters import VERSION, NumberRange
from blockota.cli.session import Session, VerbGroup, with_session
from blockota.errors import Action, RefusedError, UsageError, shortened
from blockota.formats.tlog import TreeHead
from blockota.ledger.evidence import find_evidence, proven_entry
from blockota.ledger.log import TileLog
from blockota.model.anchored_log import AnchoredLog, LogState
from blockota.model.receipt import ReleaseId
from blockota.model.release import Version, show_time
from blockota.operations.ordering import releases_of

_FOLDER = click.Path(path_type=Path)
_INDEX = NumberRange(0, (1 << 64) - 1)
_UUID = click.argument("keeper", metavar="UUID", type=UUID_TYPE)


@click.group(cls=VerbGroup)
def ledger() -> None:
    """Show anchored logs and recorded installations, and decide on suspected logs.

    The contract UpdateLedger records the size and the root of each log, and refuses an anchor that does not continue
    the log.
    """


@ledger.command()
@click.argument("keeper", metavar="[UUID]", type=UUID_TYPE, required=False)
@with_session
def show(session: Session, /, keeper: UUID | None) -> None:
    """Show the anchored log of one identity, or of all identities.

    \b
    Example:  blockota ledger show 0f8fad5b-d9cb-469f-a165-70867728950e
    """
    contract, identities = session.gateway.open(UpdateLedgerContract), session.gateway.open(IdentitiesContract)
    if keeper is None:
        found = [(one, contract.log(one.uuid)) for one in identities.identities()]
        logs = [(identity, log) for identity, log in found if log]
        columns = ("UUID", "KIND", "IDENTITY", "LOG", "ENTRIES", "ANCHORED")
        rows = [
            (one.uuid, one.kind, one.status, _words_of(log), f"{log.size:,}", show_time(log.anchored_at))
            for one, log in logs
        ]
        fields = {"logs": [{**log.as_fields(), "identity": one.status} for one, log in logs]}
        session.result(fields, lambda: session.table(columns, rows, empty="No log is anchored."))
        return

    identity, log = identities.known_identity(keeper), _known_log(contract, keeper)
    session.result(
        {**log.as_fields(), "identity": identity.status},
        lambda: session.fields(
            {
                "keeper": f"{identity.kind} {keeper}, {identity.status_text}",
                "log": _words_of(log),
                "entries": f"{log.size:,}",
                "root": log.root.hex(),
                "anchored": show_time(log.anchored_at),
                "suspicion": _suspicion_of(log),
            }
        ),
    )


@ledger.command()
@click.argument("devices", metavar="[DEVICE…]", type=DEVICE_NAME, nargs=-1)
@click.option("--product", required=True, metavar="NAME", help="Product of the release.")
@click.option("--version", type=VERSION, required=True, help="Version of the release.")
@click.option("--producer", metavar="NAME", help="Its producer; by default the contract of the settings.")
@with_session
def installed(
    session: Session, /, devices: tuple[int | str, ...], product: str, version: Version, producer: str | None
) -> None:
    """List the devices on which a release is recorded as installed.

    With DEVICE, a number or an alias, only the named devices are looked up. The exit status is 3 unless the release is
    recorded for every named device.

    \b
    Example:  blockota ledger installed --product acme-thermo2 --version 1.4.0 \\
                  acme/thermo2/0001
    """
    if producer is None:
        contract = session.contract
    else:  # the settings of a city may lack the contract of a vendor
        contract = releases_of(session.connection.open(ProducersContract), producer)

    known = contract.known_release(product, version)
    release = ReleaseId(session.settings.chain_id, contract.address, known.product, known.version)
    ledger_contract, registry = session.gateway.open(UpdateLedgerContract), session.gateway.open(DevicesContract)

    if devices:
        named = [registry.known_device(one).number for one in devices]
        recorded = ledger_contract.installed(release, named)
    else:
        blocks = registry.block_count()
        recorded = dict.fromkeys(ledger_contract.installed_devices(release, blocks=blocks), True)

    found = [number for number, is_recorded in recorded.items() if is_recorded]
    fields = {"release": release.digest.hex(), "installed": found}

    if missing := [number for number, is_recorded in recorded.items() if not is_recorded]:
        error = RefusedError(
            f"{release} is not recorded for {shortened(missing)}",
            why="no gateway has anchored such an installation",
            remedy="wait until the gateway anchors its log again, or search its log for newer entries",
        )
        error.result = fields
        raise error
    empty = f"{release} is not recorded for any device."
    session.result(fields, lambda: session.table(("DEVICE",), [(number,) for number in found], empty=empty))


@ledger.command()
@_UUID
@click.argument("indices", metavar="[FIRST SECOND]", type=_INDEX, nargs=-1)
@click.option("--log", "folder", type=_FOLDER, required=True, metavar="FOLDER", help="Folder of the log.")
@key_option("Any account's")
@with_session
def suspect(
    session: Session, /, keeper: UUID, indices: tuple[int, ...], folder: Path, key: str, password_fd: int | None
) -> None:
    """Suspend a log that records an installation twice.

    The evidence is two install entries of one release on one device. A repair is logged as an entry of kind reinstall,
    which is not evidence. Without FIRST and SECOND, all anchored entries are searched. An administrator then decides
    whether the log resumes (`blockota ledger decide`).

    \b
    Example:  blockota ledger suspect 0f8fad5b-d9cb-469f-a165-70867728950e \\
                  --log gateway-log --key keystore:auditor.json
    """
    if len(indices) not in (0, 2):
        raise UsageError(
            "evidence needs two entries",
            why="a single entry proves nothing against a log",
            remedy="name two indices, or omit both to search the log for evidence",
        )

    contract, published = session.gateway.open(UpdateLedgerContract), TileLog(folder).published

    # The contract checks the evidence against the anchored root, not against the newest checkpoint.
    anchored = _known_log(contract, keeper)
    head = TreeHead(anchored.size, anchored.root)
    if indices:
        first, second = (proven_entry(published, head, index) for index in sorted(indices))
        pair: tuple[ProvenEntry, ProvenEntry] | None = (first, second)
    else:
        pair = find_evidence(published, head, decided=partial(contract.suspected_size, keeper))

    if pair is None:
        raise RefusedError(
            f"the log of {keeper} has no evidence",
            why=f"no release has two install entries on one device among its {anchored.size} anchored entries, or an"
            " administrator has already decided on them",
        )

    contract.suspect(open_key(session.gateway.settings.chain_id, key, password_fd), keeper, *pair)
    found = _known_log(contract, keeper)
    sentence = f"the log of {keeper} is suspended: {_suspicion_of(found)}"
    then = f"Next: an administrator decides, `blockota ledger decide {keeper} --device N`"
    session.result(found.as_fields(), lambda: session.done(sentence), then=then)


@ledger.command()
@_UUID
@click.option("--device", type=_INDEX, required=True, metavar="NUMBER", help="Device for which the log is suspected.")
@click.option("--resume/--retire", "resume", default=None, help="Let the log grow again, or end it permanently.")
@key_option("The administrator's")
@with_session
def decide(
    session: Session, /, keeper: UUID, device: int, key: str, password_fd: int | None, *, resume: bool | None
) -> None:
    """Decide on a suspended log, as an administrator.

    A resumed log grows again. Entries before the decision can no longer be used as evidence about the same device and
    release. A retired log ends permanently, and its keeper gets a new UUID.

    \b
    Example:  blockota ledger decide 0f8fad5b-d9cb-469f-a165-70867728950e \\
                  --device 300 --resume --key keystore:administrator.json
    """
    if resume is None:
        raise UsageError("no decision is given", remedy="choose one: resume or retire", action=Action.DECIDE_ON_LOG)

    contract = session.gateway.open(UpdateLedgerContract)
    log = _known_log(contract, keeper)
    if log.suspicion is None or log.state is not LogState.SUSPENDED or log.suspicion.device != device:
        raise RefusedError(
            f"the log of {keeper} is not suspended because of device {device}",
            why=f"the log is {_words_of(log)}" + (f": {_suspicion_of(log)}" if log.suspicion else ""),
            remedy="show the log again, and make another decision",
            action=Action.SHOW_LOG,
        )

    account = open_key(session.gateway.settings.chain_id, key, password_fd)
    contract.decide(account, keeper, log.suspicion, resume=resume)
    found = _known_log(contract, keeper)
    session.result(found.as_fields(), lambda: session.done(f"the log of {keeper} is {_words_of(found)}"))


def _known_log(contract: UpdateLedgerContract, keeper: UUID) -> AnchoredLog:
    found = contract.log(keeper)
    if found is None:
        raise RefusedError(
            f"{keeper} has not anchored a log",
            why=f"the contract {contract.address} has no record of this identity's log",
            remedy="check the UUID, or wait for its first anchor",
        )
    return found


def _words_of(log: AnchoredLog) -> str:
    return str(log.state) if log.state is LogState.GROWING else str(log.state).upper()


def _suspicion_of(log: AnchoredLog) -> str:
    if log.suspicion is None:
        return "none"
    return f"two installations of the release {log.suspicion.release.hex()} on device {log.suspicion.device}"
