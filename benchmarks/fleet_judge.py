"""Compare the log of a gateway with the diaries of its devices, and report false, lost and duplicate entries.

The judge computes the expected entries about running images from the reports that the gateway acknowledged. The judge
shares no code with the gateway's state machine. An *install* or *reinstall* entry is false if the device had not
confirmed the image before the entry. The entry is also false unless it has level A exactly if the device signed the
report. A *claimed* entry is false if the device neither confirmed the image before the entry nor reported it.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.fleet_diary import Diary
from blockota.errors import RefusedError
from blockota.model.evidence import judge
from blockota.model.receipt import EntryKind, EvidenceLevel, LogEntry

_OWN = re.compile(r"\(\w+ \d+, \d+\)")
"""The unique end of each text that a device made."""


@dataclass
class FleetVerdict:
    """The errors in a log.

    Attributes:
        entries: the number of entries in the log.
        false: entries that state what did not happen.
        lost: entries that are missing.
        doubled: entries that occur too often.
    """

    entries: int = 0
    false: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)


def judge_log(entries: Sequence[LogEntry], diaries: Iterable[Diary]) -> FleetVerdict:
    """Compare a log with the diaries of all devices."""
    verdict = FleetVerdict(len(entries))
    of_device: defaultdict[int, list[LogEntry]] = defaultdict(list)
    for entry in entries:
        of_device[entry.device].append(entry)
    for diary in diaries:
        own = of_device[diary.number]
        verdict.false += _false(own, diary)
        running = Counter((entry.kind, entry.image) for entry in own if entry.kind.names_running_image)
        expected = Counter(expected_entries(diary))
        _compare(verdict, diary, expected, running)
        _compare_texts(verdict, diary, own)
        for kind, text, index in diary.texts:
            if index is not None and (
                index >= len(entries) or (entries[index].kind, entries[index].source) != (kind, text)
            ):
                verdict.lost.append(f"device {diary.number}: {kind} {text!r} is not at the index {index}")
    return verdict


def expected_entries(diary: Diary) -> Iterator[tuple[EntryKind, bytes | None]]:
    """Yield the kind and the image of each log entry that a device's reports must produce.

    A report of another image than in the previous entry produces an entry. A report of the same image produces an entry
    only if it proves the image and the previous entry only claims it.
    """
    logged: tuple[bytes, EvidenceLevel] | None = None
    installed: set[bytes] = set()
    for image, level in diary.reports:
        is_known = logged is not None and logged[0] == image
        if is_known and logged and (level is EvidenceLevel.B or logged[1] is not EvidenceLevel.B):
            continue
        logged = image, level
        if level is EvidenceLevel.B:
            yield EntryKind.CLAIMED, image
        else:
            yield (EntryKind.REINSTALL if image in installed else EntryKind.INSTALL), image
            installed.add(image)


def _false(entries: Iterable[LogEntry], diary: Diary) -> Iterator[str]:
    """Yield the entries about images that the device did not run or did not report."""
    reported = {image for image, _ in diary.reports}
    for entry in entries:
        if not entry.kind.names_running_image:
            continue
        since = min((int(time) for image, time in diary.confirmed if image == entry.image), default=None)
        is_true = since is not None and entry.time >= since
        if entry.kind is EntryKind.CLAIMED and (is_true or entry.image in reported):
            continue
        try:
            is_signed = judge(entry, diary.key).is_signed
        except RefusedError:
            is_signed = False
        if not is_true or (entry.level is EvidenceLevel.A) != is_signed or entry.kind is EntryKind.CLAIMED:
            yield f"device {diary.number}: {entry.kind} of {entry.release}, level {entry.level}"


def _compare(
    verdict: FleetVerdict,
    diary: Diary,
    expected: Mapping[tuple[EntryKind, bytes | None], int],
    found: Mapping[tuple[EntryKind, bytes | None], int],
) -> None:
    for kind, image in {**expected, **found}:
        wanted, count = expected.get((kind, image), 0), found.get((kind, image), 0)
        text = f"device {diary.number}: {kind} of {image.hex()[:8] if image else '?'}, {count} instead of {wanted}"
        if count < wanted:
            verdict.lost.append(text)
        elif count > wanted:
            verdict.doubled.append(text)


def _compare_texts(verdict: FleetVerdict, diary: Diary, entries: Iterable[LogEntry]) -> None:
    """Compare the texts of a device: the log must contain each acknowledged text once, and other texts at most once."""
    found = Counter((entry.kind, entry.source or "") for entry in entries if _OWN.search(entry.source or ""))
    for kind, text, _ in diary.texts:
        if not found[kind, text]:
            verdict.lost.append(f"device {diary.number}: {kind} {text!r}")
    for (kind, text), count in found.items():
        if count > 1 and kind is not EntryKind.WARNING:
            verdict.doubled.append(f"device {diary.number}: {kind} {text!r}, {count} times")
