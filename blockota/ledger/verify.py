"""Check the proof file of a log entry with the trusted keys. No I/O.

The steps:

1. The entry is well formed, and its values are consistent (`blockota.model.receipt`).
2. The checkpoint is signed by a trusted key of the log that the checkpoint names.
3. The inclusion path leads from the entry to the root of the checkpoint. This proves that the log has the entry.
4. A quorum of the trusted witnesses cosigned the checkpoint. This proves that the log shows all readers the same
   entries.
5. The log belongs to the gateway that the entry names.
6. If a key of the device is trusted, the device's signature is checked, which determines the evidence level (`judge`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from blockota.errors import Action, RefusedError
from blockota.formats.notes import Checkpoint, Note, VerifierKey
from blockota.formats.tlog import TreeHead, is_included, leaf_hash
from blockota.ledger.trust import TrustedKeys
from blockota.model.evidence import Evidence, judge
from blockota.model.proof_file import ProofFile
from blockota.model.receipt import LogEntry

_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")


@dataclass(frozen=True)
class Cosigned:
    """A valid signature of a trusted witness.

    Attributes:
        witness: the name of the witness.
        time: Unix time in seconds, by the witness's clock.
    """

    witness: str
    time: int


@dataclass(frozen=True)
class VerifiedEntry:
    """A log entry with a valid proof.

    Attributes:
        entry: the entry.
        index: position of the entry in the log.
        log_key: the trusted key that signed the checkpoint. Its name is the log's origin.
        head: size and root of the log in the checkpoint.
        witnesses: the signatures of trusted witnesses.
        evidence: what the entry proves.
        names_gateway: whether the log's origin contains the UUID of the entry's gateway. If the origin does not contain
            this UUID, only the gateway chain shows which identity keeps the log.
    """

    entry: LogEntry
    index: int
    log_key: VerifierKey
    head: TreeHead
    witnesses: tuple[Cosigned, ...]
    evidence: Evidence
    names_gateway: bool

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of a verified entry, as in ``log verify --json``."""
        return {
            "index": self.index,
            "log": {"origin": self.log_key.name, "key": str(self.log_key)},
            "checkpoint": {"size": self.head.size, "root": self.head.root.hex()},
            "witnesses": [{"name": one.witness, "time": one.time} for one in self.witnesses],
            "evidence": {
                "kind": str(self.evidence.kind),
                "level": self.evidence.level and str(self.evidence.level),
                "isSigned": self.evidence.is_signed,
                "proves": self.evidence.proves,
            },
            "entry": self.entry.as_fields(),
        }


def verify_proof(file: ProofFile, keys: TrustedKeys) -> VerifiedEntry:
    """Check a proof file.

    Raises:
        RefusedError: a step fails.
    """
    # (1) the entry
    entry = LogEntry.decode(file.entry)
    try:
        note = Note.parse(file.checkpoint.encode())
        checkpoint = Checkpoint.parse(note.text)
        # (2) the log's signature
        log_key = _signing_key(note, checkpoint.origin, keys)
        # (3) the inclusion path
        if not is_included(leaf_hash(file.entry), file.index, checkpoint.head, file.path):
            raise _forged(f"its path does not lead from the entry to the root of the log {checkpoint.origin}")
        # (4) the witnesses
        witnesses = _cosignatures(note, keys)
    except ValueError as error:
        raise _forged(str(error)) from error

    # (5) the keeper of the log
    owner = keeper_in(checkpoint.origin)
    if owner and owner != entry.gateway:
        named = f"the gateway {entry.gateway}" if entry.gateway else "no gateway"
        raise _forged(f"the log {checkpoint.origin} belongs to {owner}, and the entry names {named}")

    # (6) the device
    evidence = judge(entry, keys.devices.get(entry.device))
    return VerifiedEntry(
        entry, file.index, log_key, checkpoint.head, witnesses, evidence, names_gateway=owner is not None
    )


def keeper_in(origin: str) -> UUID | None:
    """Return the UUID at the end of the origin of an enrolled log; None if the origin does not end in a UUID."""
    last = origin.rpartition("/")[2]
    return UUID(last) if _UUID.fullmatch(last) else None


def _signing_key(note: Note, origin: str, keys: TrustedKeys) -> VerifierKey:
    """Return the trusted log key with which the note is signed. A log can have several keys after a rotation."""
    candidates = [key for key in keys.logs if key.name == origin]
    if not candidates:
        raise RefusedError(
            f"the log {origin} is not trusted",
            why="[trust] has no key with this name",
            remedy="get the key of the log from its keeper or from the gateway chain, and add it",
            action=Action.NAME_TRUST,
        )

    signing = next((key for key in candidates if note.is_signed_by(key)), None)
    if signing is None:
        raise _forged(f"its checkpoint is not signed by a trusted key of the log {origin}")
    return signing


def _cosignatures(note: Note, keys: TrustedKeys) -> tuple[Cosigned, ...]:
    times = {key.name: note.cosigned_at(key) for key in keys.witnesses}
    witnesses = tuple(Cosigned(name, time) for name, time in times.items() if time is not None)
    if len(witnesses) < keys.quorum:
        raise RefusedError(
            "too few witnesses cosigned the log",
            why=f"{len(witnesses)} of {len(times)} trusted witnesses cosigned the log, but the quorum is {keys.quorum}",
            remedy="ask the keeper of the log for a receipt that more witnesses cosigned",
        )
    return witnesses


def _forged(why: str) -> RefusedError:
    return RefusedError(
        "the receipt is forged or damaged",
        why=why,
        remedy="do not rely on the receipt; ask the keeper of the log for the file again",
    )
