"""Log entries, a device that signs its statements, and an in-memory log with witnesses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from blockota.formats.cose import SignedStatement, to_be_signed
from blockota.formats.notes import Checkpoint, NoteAlgorithm
from blockota.formats.p256 import ORDER
from blockota.formats.public_key import KeyKind, PublicKey
from blockota.formats.tlog import TILE_WIDTH, Tile, TreeEdge, join_entries, leaf_hash
from blockota.ledger.reader import CHECKPOINT, LogReader
from blockota.ledger.trust import TrustedKeys
from blockota.messaging.topics import ThingEvent
from blockota.model.device_event import EVENT_TYPE
from blockota.model.proof_file import Anchor, ProofFile
from blockota.model.receipt import RUNS, DeviceStatement, EntryKind, EvidenceLevel, LogEntry, ReleaseId
from blockota.model.release import Version
from tests.support.logs import note_signer
from tests.support.witness import cosign

RELEASE = ReleaseId(1337, "0xCf7Ed3AccA5a467e9e704C703E8D87F634fB0Fc9", "acme-thermo2", Version(1, 1, 0))
IMAGE = hashlib.sha256(b"image of acme-thermo2 1.1.0").digest()
GATEWAY = UUID("8f14e45f-ceea-467f-a8a0-c2d5b1e7d301")
DEVICE = 300
ORIGIN = f"city.example/gateway/{GATEWAY.hex}"
COSIGNED_AT = 1_795_000_060


class SigningDevice:
    """A device with a P-256 key and a counter of its signed statements."""

    def __init__(self, secret: int = 0xB10C07A) -> None:
        self._key = derive_private_key(secret, SECP256R1())
        self.counter = 0

    @property
    def key(self) -> bytes:
        """The public key: x and y, 64 bytes in total."""
        numbers = self._key.public_key().public_numbers()
        return numbers.x.to_bytes(32) + numbers.y.to_bytes(32)

    def state(self, image: bytes, *, nonce: bytes = bytes(16), kind: str = RUNS) -> tuple[int, bytes]:
        """Sign a statement about an image. Returns the counter and the COSE_Sign1 structure."""
        self.counter += 1
        return self.counter, self.sign(DeviceStatement(nonce, self.counter, image).encode(), kind)

    def event(self, event: ThingEvent) -> ThingEvent:
        """Sign an event."""
        return replace(event, signature=SignedStatement.decode(self.sign(event.payload(), EVENT_TYPE)).signature)

    def sign(self, payload: bytes, kind: str = RUNS) -> bytes:
        """Sign any payload, with a low s."""
        r, s = decode_dss_signature(self._key.sign(to_be_signed(kind, payload), ECDSA(SHA256())))
        return SignedStatement(kind, payload, r.to_bytes(32) + min(s, ORDER - s).to_bytes(32)).encode()


class MemoryLog:
    """A log in memory with a key, and with witnesses that cosign its checkpoint."""

    def __init__(self, entries: Iterable[bytes], *, origin: str = ORIGIN, witnesses: int = 2) -> None:
        raw = list(entries)
        edge = TreeEdge()
        tiles = dict(edge.grow(map(leaf_hash, raw)))
        for begin in range(0, len(raw), TILE_WIDTH):
            part = raw[begin : begin + TILE_WIDTH]
            tiles[Tile(None, begin // TILE_WIDTH, len(part))] = join_entries(part)
        self._files = {tile.path: content for tile, content in tiles.items()}
        self.signer = note_signer(origin)
        self.witnesses = [
            note_signer(f"witness{number}.example", NoteAlgorithm.COSIGNATURE, seed=10 + number)
            for number in range(witnesses)
        ]
        note = Checkpoint(origin, edge.head()).signed(self.signer)
        cosigned = [cosign(note.text, witness, time=COSIGNED_AT) for witness in self.witnesses]
        self.note = note.with_signatures(*cosigned)
        self._files[CHECKPOINT] = self.note.encode()
        self.reader = LogReader(origin, self._files.get)

    def prove(self, index: int, anchor: Anchor | None = None) -> ProofFile:
        """Return the proof file of an entry."""
        proof = self.reader.prove_inclusion(index)
        return ProofFile(proof.entry, index, proof.path, proof.checkpoint.encode().decode(), anchor)

    def keys(self, **devices: bytes) -> TrustedKeys:
        """Return the keys of the log, its witnesses and devices; the argument ``device300`` is device 300's key."""
        keys = {int(name.removeprefix("device")): key for name, key in devices.items()}
        witnesses = tuple(witness.key for witness in self.witnesses)
        return TrustedKeys((self.signer.key,), witnesses, len(witnesses), keys)


def trust_table(keys: TrustedKeys) -> str:
    """Return the settings table [trust]."""
    devices = [f'{number} = """{PublicKey(KeyKind.P256, key).pem}"""' for number, key in keys.devices.items()]
    lists = [f"{name} = {json.dumps([*map(str, getattr(keys, name))])}" for name in ("logs", "witnesses")]
    return "\n".join(["[trust]", *lists, f"quorum = {keys.quorum}", "[trust.devices]", *devices, ""])


def install(**changes: Any) -> LogEntry:
    """Return the receipt of a bench that read the flash (level C), with the given changes."""
    entry = LogEntry(
        kind=EntryKind.INSTALL,
        time=1_795_000_000,
        device=DEVICE,
        release=RELEASE,
        image=IMAGE,
        previous=hashlib.sha256(b"image of acme-thermo2 1.0.0").digest(),
        level=EvidenceLevel.C,
        unique_id=bytes.fromhex("48ff6f064951325712260187"),
        gateway=GATEWAY,
        source="https://firmware.acme.example",
        order=7,
    )
    return replace(entry, **changes)


def signed_install(device: SigningDevice, **changes: Any) -> LogEntry:
    """Return a receipt that the device signed (level A)."""
    counter, signature = device.state(IMAGE)
    return install(level=EvidenceLevel.A, counter=counter, signature=signature, **changes)
