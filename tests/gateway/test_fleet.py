"""A small fleet of devices over real sockets with faults, and the judge that checks the resulting log.

`make bench-gateway` runs a large fleet. The devices of `benchmarks.fleet_campaign` and the gateway run in two
processes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.fleet_campaign import CampaignPlan, run_campaign
from benchmarks.fleet_ddi_device import SimulatedDdiDevice
from benchmarks.fleet_diary import Diary
from benchmarks.fleet_judge import judge_log
from benchmarks.fleet_lwm2m_device import ConstrainedDevice
from benchmarks.fleet_site import SiteSettings, fleet_site
from blockota.model.receipt import EntryKind, EvidenceLevel, LogEntry
from tests.support.receipts import DEVICE, IMAGE, SigningDevice, install, signed_install

OLD = bytes(32)
"""The SHA-256 of another image."""


def test_devices_with_faults_end_right(tmp_path: Path) -> None:
    """After 48 faults on devices of two faces, no entry is false, lost or repeated, and every device finishes."""
    settings = SiteSettings(faces=("ddi", "lwm2m"), blocks=1)
    with fleet_site(tmp_path, settings) as site:
        result = run_campaign(site, CampaignPlan({"ddi": 16, "lwm2m": 12}, faults=48, rounds=1, size=2048))
    verdict = result.verdict
    assert (verdict.false, verdict.lost, verdict.doubled, result.stuck, result.unverified) == ([], [], [], [], 0)
    assert result.faults.total() == 48
    assert set(result.faults) == {
        (face.face, one) for face in (SimulatedDdiDevice, ConstrainedDevice) for one in face.FAULTS
    }


@pytest.fixture
def signer() -> SigningDevice:
    """Return the key of a device."""
    return SigningDevice()


@pytest.fixture
def diary(signer: SigningDevice) -> Diary:
    """Return the record of a device that reported an image by a signed statement."""
    confirmed, reports = [(IMAGE, float(install().time))], [(IMAGE, EvidenceLevel.A)]
    return Diary(DEVICE, signer.key, confirmed=confirmed, reports=reports)


def faults(diary: Diary, *entries: LogEntry) -> tuple[int, int, int]:
    """Return how many entries the judge counts as false, lost and repeated."""
    verdict = judge_log(entries, [diary])
    return len(verdict.false), len(verdict.lost), len(verdict.doubled)


def test_the_judge_accepts_what_is_true(signer: SigningDevice, diary: Diary) -> None:
    """The judge accepts a log with a device's receipt and an event that the gateway acknowledged."""
    diary.texts.append((EntryKind.EVENT, "alarm (mqtt 300, 1)", 1))
    event = LogEntry(EntryKind.EVENT, time=install().time, device=DEVICE, source="alarm (mqtt 300, 1)")
    assert faults(diary, signed_install(signer), event) == (0, 0, 0)


def test_the_judge_finds_false_entries(signer: SigningDevice, diary: Diary) -> None:
    """The judge reports a receipt before the confirmation, a wrong signature, and a claim that no device made."""
    receipt = signed_install(signer)
    assert faults(diary, replace(receipt, time=receipt.time - 1)) == (1, 0, 0)
    assert faults(diary, signed_install(SigningDevice(7))) == (1, 0, 0)
    claim = install(kind=EntryKind.CLAIMED, level=EvidenceLevel.B, image=OLD[:-1] + b"\1")
    assert faults(diary, receipt, claim) == (1, 0, 1)


def test_the_judge_finds_lost_and_doubled_entries(signer: SigningDevice, diary: Diary) -> None:
    """The judge reports missing and repeated entries, and entries whose index differs from the acknowledged index."""
    receipt = signed_install(signer)
    assert faults(diary) == (0, 1, 0)
    assert faults(diary, receipt, signed_install(signer)) == (0, 0, 1)
    diary.texts.append((EntryKind.REFUSAL, "no (ddi 300, 1)", None))
    refusal = LogEntry(EntryKind.REFUSAL, time=receipt.time, device=DEVICE, source="no (ddi 300, 1)")
    assert faults(diary, receipt) == (0, 1, 0)
    assert faults(diary, receipt, refusal, refusal) == (0, 0, 1)
    diary.texts[0] = (EntryKind.REFUSAL, "no (ddi 300, 1)", 0)
    assert faults(diary, receipt, refusal) == (0, 1, 0)
