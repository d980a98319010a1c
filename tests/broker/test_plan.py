"""The plan of a broker's sync round: the steps for each state of an agreement, a release and a file."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace

import pytest

from blockota.broker.offences import Offence
from blockota.broker.plan import (
    AgreementFacts,
    Announce,
    BrokerMemory,
    CopyStage,
    Drop,
    Facts,
    Fetch,
    Pin,
    Step,
    Withhold,
    plan,
)
from blockota.formats.cid import CID, RAW
from blockota.model.agreement import Agreement, AgreementStatus
from blockota.model.manifest import MAX_SIZE
from blockota.model.release import Release, Status, Version
from blockota.model.rights import Claim, ReleaseFile
from tests.support.samples import NOW, PRODUCT, code, release_of

URL, VENDOR, OTHER = "https://broker.example", "https://vendor.example", "https://other.example"
RELEASE = release_of(code())
IMAGE = ReleaseFile(RELEASE.cid, RELEASE.size, RELEASE.sha256, "acme-thermo2 1.1.0")
MANIFEST = CID(RAW, hashlib.sha256(b"manifest").digest())
AGREEMENT = Agreement(1, "0xb", PRODUCT.name, Version(1, 1, 0), NOW + 60, AgreementStatus.ACCEPTED, "")
CLAIM = Claim(RELEASE, agreement=AGREEMENT)
AGREED = AgreementFacts(CLAIM, AGREEMENT)
ENDED = "no accepted agreement covers it any more"
NEXT_STEPS: dict[CopyStage, list[type[Step]]] = {
    CopyStage.WANTED: [Fetch, Pin, Announce],
    CopyStage.WHOLE: [Pin, Announce],
    CopyStage.PINNED: [Announce],
    CopyStage.UNFIT: [Withhold],
    CopyStage.DROPPING: [Fetch, Pin, Announce],
    CopyStage.DROPPED: [Fetch, Pin, Announce],
}


def facts_of(agreement: Agreement, release: Release = RELEASE) -> AgreementFacts:
    """Return an agreement with equal states at the confirmed block and at the newest block."""
    return AgreementFacts(Claim(release, agreement=agreement), agreement)


def remembered(stage: CopyStage | None, file: ReleaseFile = IMAGE) -> BrokerMemory:
    """Return the broker's state with one file at the given stage, or with no file."""
    return BrokerMemory({file.cid: (file, stage)} if stage else {})


def steps(
    *agreements: AgreementFacts, memory: BrokerMemory | None = None, url: str = URL, time: int = NOW
) -> tuple[Step, ...]:
    """Return the steps that a sync round plans."""
    return plan(Facts(time, agreements), memory or BrokerMemory(), now=float(NOW), sources=(VENDOR,), url=url)


@pytest.mark.parametrize("stage", CopyStage, ids=str)
def test_a_wanted_file_goes_on_where_it_was(stage: CopyStage) -> None:
    """For each stage of a file, the plan contains the remaining steps in order."""
    assert [type(step) for step in steps(AGREED, memory=remembered(stage))] == NEXT_STEPS[stage]


@pytest.mark.parametrize(
    ("status", "release_status", "is_late", "stage"),
    list(itertools.product(AgreementStatus, Status, (False, True), (None, *CopyStage))),
)
def test_only_what_is_good_is_wanted(
    status: AgreementStatus, release_status: Status, *, is_late: bool, stage: CopyStage | None
) -> None:
    """If the agreement is invalid or the release is not active, the plan only drops a stored file, with the reason."""
    agreed = facts_of(replace(AGREEMENT, status=status), replace(RELEASE, status=release_status))
    found = steps(agreed, memory=remembered(stage), time=AGREEMENT.expires_at if is_late else NOW)
    if status is AgreementStatus.ACCEPTED and release_status is Status.ACTIVE and not is_late:
        assert [type(step) for step in found] == NEXT_STEPS[stage or CopyStage.WANTED]
    else:
        why = "agreement 1 has expired" if is_late else ENDED
        why = why if release_status is Status.ACTIVE else "the vendor revoked the release"
        assert found == (() if stage in {None, CopyStage.DROPPED} else (Drop(IMAGE, frozenset(), why),))


def test_an_agreement_ends_in_the_second_that_it_names() -> None:
    """An agreement is invalid from the second of its expiry on, as in the contract."""
    assert steps(AGREED, time=AGREEMENT.expires_at - 1)
    assert not steps(AGREED, time=AGREEMENT.expires_at)


def test_without_agreements_all_is_dropped() -> None:
    """Without agreements, the broker drops all files."""
    assert steps(memory=remembered(CopyStage.PINNED)) == (Drop(IMAGE, frozenset(), ENDED),)


def test_one_good_agreement_is_enough_to_keep_a_file() -> None:
    """If a file has an ended and a new agreement, the file is kept, and is announced for the new agreement."""
    old = facts_of(replace(AGREEMENT, status=AgreementStatus.TERMINATED, uri=URL))
    new = facts_of(replace(AGREEMENT, number=2))
    found = steps(old, new, memory=remembered(CopyStage.PINNED))
    assert found == (Announce(new.newest, URL, IMAGE),)


def test_drops_come_first_and_know_what_to_keep() -> None:
    """The plan starts with the drops; a drop keeps the blocks that a wanted file shares with the dropped file."""
    other = ReleaseFile(MANIFEST, 3, b"x" * 32, "old")
    found = steps(AGREED, memory=remembered(CopyStage.PINNED, other))
    assert found[0] == Drop(other, frozenset({IMAGE.cid}), ENDED)
    assert [type(step) for step in found] == [Drop, Fetch, Pin, Announce]


@pytest.mark.parametrize(
    ("uri", "is_announcing", "is_sent"),
    [("", False, True), (URL, False, False), (OTHER, False, True), ("", True, True), (URL, True, True)],
)
def test_it_is_announced_where_it_is_not_yet(uri: str, *, is_announcing: bool, is_sent: bool) -> None:
    """A URL that the chain already has is announced again only if the journal has an unfinished announcement."""
    agreed = replace(AGREED, newest=replace(AGREEMENT, uri=uri), is_announcing=is_announcing)
    found = steps(agreed, memory=remembered(CopyStage.PINNED))
    assert found == ((Announce(agreed.newest, URL, IMAGE),) if is_sent else ())


@pytest.mark.parametrize("status", [status for status in AgreementStatus if status is not AgreementStatus.ACCEPTED])
def test_what_has_just_ended_is_not_announced(status: AgreementStatus) -> None:
    """An agreement that ended at the newest block is not announced, because the contract would refuse it."""
    agreed = replace(AGREED, newest=replace(AGREEMENT, status=status))
    assert steps(agreed, memory=remembered(CopyStage.PINNED)) == ()


def test_without_a_url_nothing_is_announced() -> None:
    """Without a URL, files are fetched and pinned, but not announced."""
    assert [type(step) for step in steps(AGREED, url="")] == [Fetch, Pin]


def test_a_manifest_is_kept_beside_the_image() -> None:
    """An image's manifest is fetched up to a maximum size, because the chain does not record the manifest's size."""
    found = steps(replace(AGREED, claim=replace(CLAIM, manifest=MANIFEST)))
    wanted = [step.file for step in found if isinstance(step, Fetch)]
    assert [(file.cid, file.size, file.sha256) for file in wanted] == [
        (IMAGE.cid, IMAGE.size, IMAGE.sha256),
        (MANIFEST, MAX_SIZE, None),
    ]


def test_sources_are_the_vendor_and_other_replicas() -> None:
    """The sources of a fetch are the vendor's sources and other replicas, but not the broker's own URL."""
    found = steps(replace(AGREED, replicas=(OTHER, URL, VENDOR, OTHER)))
    assert found[0] == Fetch(IMAGE, (VENDOR,), (OTHER,))


@pytest.mark.parametrize(("ahead", "is_asked"), [(1, False), (0, True), (-1, True)])
def test_a_source_is_omitted_for_a_time(ahead: int, *, is_asked: bool) -> None:
    """For one minute after a wrong block of a file, the source gets no requests for this file."""
    until = NOW + ahead
    memory = BrokerMemory({}, tuple(Offence(url, IMAGE.cid, until - 60.0) for url in (VENDOR, OTHER)))
    found = steps(replace(AGREED, replicas=(OTHER,)), memory=memory)
    skipped = {VENDOR: float(until), OTHER: float(until)}
    assert found[0] == (Fetch(IMAGE, (VENDOR,), (OTHER,)) if is_asked else Fetch(IMAGE, (), (), skipped))


@pytest.mark.parametrize("change", [{"size": 65}, {"sha256": bytes(32)}])
def test_another_record_of_the_same_address_begins_again(change: dict[str, int | bytes]) -> None:
    """A file whose record changed on the chain is fetched again."""
    other = ReleaseFile(**({"cid": IMAGE.cid, "size": IMAGE.size, "sha256": IMAGE.sha256, "label": "x"} | change))  # type: ignore[arg-type] # of mixed values
    for stage in (CopyStage.PINNED, CopyStage.UNFIT):
        assert isinstance(steps(AGREED, memory=remembered(stage, other))[0], Fetch)
