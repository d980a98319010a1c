"""Assemble a gateway from its settings, its chains, its log and its account.

The connections to the chains are opened later, by the threads that use them. A gateway therefore starts and serves
proven images even if a chain is out of reach.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from blockota.bindings.devices import DevicesContract
from blockota.bindings.identities import IdentitiesContract
from blockota.bindings.orders import OrdersContract
from blockota.bindings.producers import ProducersContract
from blockota.chain.event_store import EventStore
from blockota.chain.follow import Follower
from blockota.chain.wake import BlockSignal
from blockota.connection import Connection
from blockota.errors import missing_package
from blockota.gateway.access import opened_access
from blockota.gateway.assembly import known_device
from blockota.gateway.catalogue import ImageCatalogue
from blockota.gateway.core import Face
from blockota.gateway.face import FaceContext
from blockota.gateway.following import FileFinder, Following
from blockota.gateway.monitoring import DevicePlan, ask_plans
from blockota.gateway.producer_chain import ProducerChain
from blockota.gateway.reconciliation import reconcile
from blockota.gateway.service import GatewayParts, GatewayService
from blockota.gateway.settings import GatewaySettings
from blockota.gateway.site_chain import SiteChain
from blockota.gateway.snapshots import SnapshotFile
from blockota.gateway.state import GatewayState
from blockota.ledger.recording import BATCH, LogParts
from blockota.line_log import LineLog
from blockota.model.target import Component
from blockota.shutdown import Stop
from blockota.sqlite_file import is_owned
from blockota.stores.search import ImageSources

STATE_NAME = "gateway.sqlite"
"""The file of the gateway's state, in its folder."""
_READINGS_NAME = "readings.json"
_LOCAL_PAUSE, _PAUSE = 1.0, 12.0
"""Seconds between two readings of a local chain, and of any other chain, if the node does not announce blocks."""


@dataclass(frozen=True)
class GatewaySetup:
    """The parts from which a gateway is assembled.

    Attributes:
        settings: the table ``[gateway]``.
        log: the log.
        site: the connection to the gateway chain.
        producers: the connections to the producer chains, by the name of the network.
    """

    settings: GatewaySettings
    log: LogParts
    site: Connection
    producers: Mapping[str, Connection]


def run_gateway(setup: GatewaySetup, lines: LineLog, stop: Stop, *, on_ready: Callable[[str], None]) -> None:
    """Run a gateway until `stop` is requested.

    Args:
        setup: the gateway.
        lines: the line log, to which events, failures and recoveries are written.
        stop: ends the gateway.
        on_ready: called when the gateway has started, with the URL of its status; the URL is empty if the status is not
            served.

    Raises:
        UsageError: a setting, such as the address of a face, cannot be used.
        RefusedError: another process runs this gateway, or its files belong to another gateway.
        StoreError: the folder of the gateway cannot be written.
    """
    for name in ("identities", "devices", "orders"):  # before any file or connection is opened
        setup.site.registry_address(name)
    with GatewayState(setup.settings.folder / STATE_NAME) as state, opened_parts(setup, lines, stop) as parts:
        if learned := reconcile(state, parts.log.log):
            lines.event("state", "learned from the log", entries=learned)
        GatewayService(parts, state, lines, stop).run(on_ready=on_ready)


@contextmanager
def opened_parts(setup: GatewaySetup, lines: LineLog, stop: Stop) -> Iterator[GatewayParts]:
    """Open the files of a gateway, and yield its parts.

    The caller must be the only process that uses the gateway's folder.

    Raises:
        UsageError: a setting cannot be used.
        StoreError: the folder of the gateway cannot be written.
        RefusedError: a file of the gateway is in use, or belongs to another chain.
    """
    settings = setup.settings
    first = next(iter(setup.producers.values()))
    with ExitStack() as stack:

        def follower(connection: Connection, name: str) -> Callable[[], Follower]:
            chain = connection.settings
            store = EventStore.open(settings.folder / f"{name}.sqlite", chain_id=chain.chain_id)
            events = stack.enter_context(store)
            return lambda: Follower(
                connection.chain, confirmations=chain.confirmations, first_block=chain.first_block, store=events
            )

        # The images, and the chains whose records prove them.
        catalogue = ImageCatalogue(settings.folder, first.store)
        open_site = _site_opener(setup, follower(setup.site, "gateway-chain"))
        open_producers = {
            name: _producer_opener(settings, one, follower(one, f"producer-chain-{one.settings.chain_id}"))
            for name, one in setup.producers.items()
        }
        snapshot = SnapshotFile(settings.folder / _READINGS_NAME, settings.identity)
        following = Following((open_site, open_producers), catalogue, settings, lines, snapshot=snapshot)
        sources = _sources_by(setup.producers, following)

        # The exchange with the validators, and what all faces share.
        access = stack.enter_context(
            opened_access(settings, lambda: setup.site.open(IdentitiesContract), lines, clock=lambda: int(time.time()))
        )

        readings, commands = (access.readings, access.commands) if access else (None, None)
        context = FaceContext(
            identity=settings.identity,
            folder=settings.folder,
            clock=lambda: int(time.time()),
            log=lines.event,
            identity_key=settings.identity_key,
            entries=lambda start: list(islice(setup.log.log.entries(start), BATCH)),
            readings=readings,
            commands=commands,
        )

        # The gateway chain can be a producer chain too; its node needs one signal only.
        chains = [setup.site.settings, *(one.settings for one in setup.producers.values())]
        pauses = {one.url: _LOCAL_PAUSE if one.confirmations == 0 else _PAUSE for one in chains}
        yield GatewayParts(
            settings=settings,
            following=following,
            finder=FileFinder(catalogue, sources, lines, clock=time.monotonic, must_stop=lambda: stop.is_asked),
            log=setup.log,
            faces=[_face(name, settings, context) for name in settings.faces],
            signals=[BlockSignal(url, pause=pause) for url, pause in pauses.items()],
            clock=context.clock,
            access=access,
        )


def is_running(settings: GatewaySettings) -> bool:
    """Whether a process runs the gateway."""
    return is_owned(settings.folder / STATE_NAME)


def device_plans(settings: GatewaySettings) -> dict[int, DevicePlan]:
    """Return the gateway's plan for each device, by the number of the device.

    The running gateway provides the plans. If the gateway does not answer, the plans are made from its last stored
    reading, and do not contain the reasons for the targets.
    """
    if settings.listen and (found := ask_plans(settings.listen)):
        return found

    readings = SnapshotFile(settings.folder / _READINGS_NAME, settings.identity).load()
    if readings is None:
        return {}
    why = "the gateway does not answer at its address `listen`" if is_running(settings) else "the gateway does not run"
    devices = (known_device(one, readings.site, settings) for one in readings.site.devices.values())
    return {one.number: DevicePlan(one.number, one.name, one.group, one.is_banned, why) for one in devices}


def _site_opener(setup: GatewaySetup, follower: Callable[[], Follower]) -> Callable[[], SiteChain]:
    site, settings = setup.site, setup.settings

    def open_site() -> SiteChain:
        contracts = (site.open(IdentitiesContract), site.open(DevicesContract), site.open(OrdersContract))
        return SiteChain(settings.identity, follower(), contracts, lists=settings.folder / "lists")

    return open_site


def _producer_opener(
    settings: GatewaySettings, connection: Connection, follower: Callable[[], Follower]
) -> Callable[[], ProducerChain]:
    known = connection.settings
    registry = known.registries.get(ProducersContract.SETTING)
    named: dict[str, str | None] = dict.fromkeys(settings.contracts)
    if not registry and not named:
        named = {connection.contract_address: known.replication}

    def open_chain() -> ProducerChain:
        return ProducerChain(
            connection.chain,
            follower(),
            confirmations=known.confirmations,
            producers=connection.open(ProducersContract) if registry else None,
            contracts=named,
        )

    return open_chain


def _sources_by(producers: Mapping[str, Connection], following: Following) -> Callable[[Component], ImageSources]:
    by_chain = {one.settings.chain_id: one for one in producers.values()}

    def sources(component: Component) -> ImageSources:
        connection = by_chain[component.chain_id]
        replicas = partial(following.replicas, component)
        return replace(connection.image_sources(), replicas=replicas)

    return sources


def _face(name: str, settings: GatewaySettings, context: FaceContext) -> Face:
    """Make a face.

    Its libraries are loaded only if the face runs.

    Raises:
        UsageError: a setting of the face cannot be used, or its libraries are not installed.
    """
    try:
        module = importlib.import_module(f"blockota.gateway.faces.{name}")
    except ModuleNotFoundError as error:
        raise missing_package(f"the face {name} cannot run", str(error.name), "gateway") from error
    face: Face = module.create(settings.faces[name], context)
    return face
