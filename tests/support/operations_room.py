"""An operations room for a city on a local chain: devices, releases, an order, and the log of the gateway."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from blockota.bindings.update_ledger import TreeGrowth
from blockota.chain import Chain
from blockota.chain.local import free_port
from blockota.cli.room_commands import command_line
from blockota.connection import Connection
from blockota.errors import BlockOTAError
from blockota.formats.notes import NoteAlgorithm, NoteSigner, VerifierKey
from blockota.formats.public_key import KeyKind, PublicKey
from blockota.keys import dev_account
from blockota.ledger.log import TileLog
from blockota.ledger.log_settings import LogSettings
from blockota.line_log import LineLog
from blockota.model.receipt import RUNS, EntryKind, EvidenceLevel, LogEntry
from blockota.operations.opening import RoomSetup, run_room
from blockota.operations.settings import OperationsSettings
from blockota.shutdown import Stop
from blockota.stores.local import LocalStore
from blockota.vendor.example import ExampleIdentity
from tests.conftest import Cast
from tests.support.city import GATEWAY, KINDS, City, found_city, settings_of
from tests.support.receipts import SigningDevice
from tests.support.waiting import DEADLINE, eventually

CLOUD = KINDS["cloud"]
SCRIPT = "<script>document.title='owned'</script>"
"""A text that would run in a page that does not escape it."""


def signer_of(identity: ExampleIdentity, use: str) -> NoteSigner:
    """Return the log key of an example identity."""
    private = identity.log_key
    key = VerifierKey(
        f"city.example/{use}/{identity.uuid.hex}", NoteAlgorithm.ED25519, private.public_key().public_bytes_raw()
    )
    return NoteSigner(key, private.sign)


@dataclass
class GatewayLog:
    """The log of the example's gateway, to which a test appends entries.

    Attributes:
        city: the city.
        folder: the folder of the log.
        devices: the signing devices, by number.
    """

    city: City
    folder: Path
    devices: dict[int, SigningDevice] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Open the log."""
        self.log, self.signer = TileLog(self.folder), signer_of(GATEWAY, "gateway")

    def install(self, number: int, version: str, image: bytes, *, time: int, order: int | None = None) -> int:
        """Append the receipt of an installation, signed by the device."""
        digest = hashlib.sha256(image).digest()
        counter, statement = self.devices[number].state(digest, kind=RUNS)
        entry = LogEntry(
            kind=EntryKind.INSTALL,
            time=time,
            device=number,
            release=self.city.release_id(version),
            image=digest,
            level=EvidenceLevel.A,
            counter=counter,
            gateway=GATEWAY.uuid,
            source="https://vendor.example/secret-host",
            order=order,
            signature=statement,
        )
        return self.append(entry)

    def state(self, kind: EntryKind, text: str, *, time: int, device: int = 0) -> int:
        """Append an event, a warning, a refusal or a postponement."""
        return self.append(LogEntry(kind=kind, time=time, device=device, gateway=GATEWAY.uuid, source=text))

    def append(self, entry: LogEntry) -> int:
        """Append an entry without publishing it."""
        return self.log.append([entry.encode()])[0]

    def publish(self) -> None:
        """Publish a checkpoint."""
        self.log.publish(self.signer)

    def anchor(self) -> None:
        """Anchor all published entries."""
        reader, ledger = self.log.published, self.city.ledger
        head, record = reader.head(), ledger.log(GATEWAY.uuid)
        proof = reader.prove_consistency(record.size, head.size) if record else ()
        account = dev_account(GATEWAY.account or 0)
        ledger.anchor(account, TreeGrowth(head.size, head.root, tuple(proof)))


@dataclass(frozen=True)
class RoomScene:
    """A city with an operations room.

    Attributes:
        city: the city.
        folder: the folder of all files.
        gateway: the log of the gateway.
        numbers: the numbers of the devices.
        setup: the room.
    """

    city: City
    folder: Path
    gateway: GatewayLog
    numbers: list[int]
    setup: RoomSetup

    @property
    def url(self) -> str:
        """The URL of the page."""
        return self.setup.settings.url


def make_scene(chain: Chain, cast: Cast, folder: Path, *, devices: int = 3, is_public: bool = False) -> RoomScene:
    """Make a city with devices, two releases, an order and a log, and an operations room for this city."""
    city = found_city(chain, cast)
    store = LocalStore(folder / "store")
    images = {version: f"image {version}".encode() * 100 for version in ("1.0.0", "1.1.0")}
    for version, image in images.items():
        city.publish(version, image, store)
    gateway = GatewayLog(city, folder / "gateway-log")
    numbers = []
    for index in range(devices):
        signing = SigningDevice(0xB10C07A + index)
        number = city.register(f"SN-{4001 + index}", PublicKey(KeyKind.P256, signing.key))
        gateway.devices[number] = signing
        numbers.append(number)
    order = city.order("berlin", city.release_id("1.1.0"))

    now = chain.head().time
    for index, number in enumerate(numbers):
        gateway.install(number, "1.0.0", images["1.0.0"], time=now - 80_000 + 40 * index)
    for index, number in enumerate(numbers[: len(numbers) * 2 // 3]):
        gateway.install(number, "1.1.0", images["1.1.0"], time=now - 4000 + 40 * index, order=order)
    gateway.state(
        EntryKind.WARNING, f"it sent a forged report from 10.64.0.9: {SCRIPT}", time=now - 600, device=numbers[0]
    )
    gateway.state(EntryKind.WARNING, "key verification failed", time=now - 300)
    gateway.state(EntryKind.EVENT, f"tamper: {SCRIPT} (severity 2)", time=now - 200, device=numbers[0])
    gateway.publish()
    gateway.anchor()
    return RoomScene(city, folder, gateway, numbers, _setup(city, folder, is_public=is_public))


def _setup(city: City, folder: Path, *, is_public: bool) -> RoomSetup:
    port = free_port()
    logs: dict[UUID, str] = {GATEWAY.uuid: str(folder / "gateway-log"), CLOUD.uuid: str(folder / "room-log")}
    settings = OperationsSettings(
        folder / "room", ("127.0.0.1", port), f"http://127.0.0.1:{port}", identity=CLOUD.uuid, logs=logs
    )
    return RoomSetup(
        settings,
        Connection(settings_of(city, folder)),
        [Connection(settings_of(city, folder))],
        command_line,
        LogSettings(folder / "room-log", None, None, ()),
        signer_of(CLOUD, "operations"),
        dev_account(CLOUD.account or 0),
        is_public=is_public,
    )


@contextmanager
def running_room(setup: RoomSetup, lines: list[str] | None = None) -> Iterator[str]:
    """Run an operations room in a thread while the ``with`` block runs. Yields the URL of the page."""
    stop, ready = Stop(), threading.Event()
    failures = list[BlockOTAError]()
    log = LineLog((lines if lines is not None else []).append)

    def run() -> None:
        try:
            run_room(setup, log, stop, on_ready=lambda _: ready.set())
        except BlockOTAError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        eventually(lambda: ready.is_set() or not thread.is_alive(), what="the operations room")
        if failures:
            raise failures[0]
        yield setup.settings.url
    finally:
        stop.ask()
        thread.join(DEADLINE)
        assert not thread.is_alive()
