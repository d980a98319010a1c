"""The state machine of a delivery: every event in every stage, and the limits of the policy."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from blockota.model.delivery import (
    Delivery,
    DeliveryPolicy,
    EntryFacts,
    Event,
    Offered,
    Outcome,
    Planned,
    Postponed,
    Progress,
    Reported,
    Retried,
    Stage,
    Target,
    Timeout,
)
from blockota.model.delivery_rules import DeliveryStep, advance
from blockota.model.receipt import EntryKind, EvidenceLevel, ReleaseId
from blockota.model.release import Version

NOW = 1_795_000_000
POLICY = DeliveryPolicy(pauses=(60, 600), postponements=2, longest_postponement=1000, late_after=5000)
CONTRACT = "0xCf7Ed3AccA5a467e9e704C703E8D87F634fB0Fc9"


def release(version: str) -> ReleaseId:
    """Return the name of a release."""
    return ReleaseId(1337, CONTRACT, "acme-thermo2", Version.parse(version))


def target(version: str, order: int | None = None) -> Target:
    """Return a target."""
    return Target(release(version), hashlib.sha256(version.encode()).digest(), order)


OLD, NEW, NEXT = target("1.0.0"), target("1.1.0"), target("1.2.0")
UNKNOWN = bytes(range(32))


def runs(one: Target, level: EvidenceLevel = EvidenceLevel.B, *, is_confirmed: bool = True) -> Reported:
    """Return the report of a device that runs the image of a target."""
    return Reported(one.image, one.release, level, is_confirmed=is_confirmed)


def steps(
    *events: Event | tuple[int, Event], start: Delivery | None = None, policy: DeliveryPolicy = POLICY
) -> DeliveryStep:
    """Process events; return the last state and all entries.

    An event may be given with a time in seconds after `NOW`.
    """
    delivery, entries = start or Delivery(), list[EntryFacts]()
    for one in events:
        seconds, event = one if isinstance(one, tuple) else (0, one)
        step = advance(delivery, event, policy=policy, now=NOW + seconds)
        delivery = step.delivery
        entries += step.entries
    return DeliveryStep(delivery, tuple(entries))


OFFER: tuple[Event, ...] = (runs(OLD), Planned(NEW))
AT: dict[Stage, Delivery] = {
    Stage.SETTLED: steps(Planned(NEW), runs(NEW)).delivery,
    Stage.OFFERED: steps(*OFFER).delivery,
    Stage.TRANSFER: steps(*OFFER, Progress(10)).delivery,
    Stage.TRIAL: steps(*OFFER, Progress(10), runs(NEW, is_confirmed=False)).delivery,
    Stage.POSTPONED: steps(*OFFER, Postponed(NOW + 100)).delivery,
    Stage.PAUSED: steps(*OFFER, Outcome(succeeded=False)).delivery,
    Stage.STOPPED: steps(*OFFER, Outcome(succeeded=False, is_refusal=True)).delivery,
}
LATER = NOW + 10_000
EVENTS: dict[str, Event] = {
    "same target": Planned(NEW),
    "same, ordered": Planned(target("1.1.0", 7)),
    "other target": Planned(NEXT),
    "no target": Planned(None),
    "withheld": Planned(NEW, is_withheld=True),
    "confirmed": runs(NEW),
    "on trial": runs(NEW, is_confirmed=False),
    "runs the old": runs(OLD),
    "offered": Offered(),
    "progress": Progress(20),
    "no progress": Progress(),
    "success": Outcome(succeeded=True),
    "failure": Outcome(succeeded=False, reason="no space"),
    "refusal": Outcome(succeeded=False, is_refusal=True),
    "postponed": Postponed(LATER + 100),
    "timeout": Timeout(),
    "retried": Retried(),
}
#                 settled   offered    transfer   trial     postponed   paused    stopped
MATRIX = """
same target     | settled | offered   | transfer  | trial   | postponed | paused  | stopped
same, ordered   | settled | offered   | transfer  | trial   | postponed | paused  | offered
other target    | offered | offered   | offered   | trial   | offered   | offered | offered
no target       | settled | settled   | settled   | trial   | settled   | settled | settled
withheld        | settled | offered   | offered   | trial   | postponed | paused  | stopped
confirmed       | settled | settled   | settled   | settled | settled   | settled | settled
on trial        | settled | trial     | trial     | trial   | trial     | trial   | stopped
runs the old    | paused  | offered   | transfer  | stopped | postponed | paused  | stopped
offered         | settled | offered   | transfer  | trial   | postponed | paused  | stopped
progress        | settled | transfer  | transfer  | trial   | postponed | paused  | stopped
no progress     | settled | transfer  | transfer  | trial   | postponed | paused  | stopped
success         | settled | trial     | trial     | trial   | postponed | paused  | stopped
failure         | settled | paused    | paused    | paused  | postponed | paused  | stopped
refusal         | settled | stopped   | stopped   | stopped | postponed | paused  | stopped
postponed       | settled | postponed | postponed | trial   | postponed | paused  | stopped
timeout         | settled | offered   | paused    | paused  | offered   | offered | stopped
retried         | settled | offered   | transfer  | trial   | offered   | offered | offered
"""
ROWS = {
    name.strip(): [Stage(cell.strip()) for cell in cells]
    for name, *cells in (line.split("|") for line in MATRIX.strip().splitlines())
}


def test_the_table_has_all_events() -> None:
    """The table of this test contains every event in every stage, and an example of every stage."""
    assert ROWS.keys() == EVENTS.keys()
    assert {stage: delivery.stage for stage, delivery in AT.items()} == {stage: stage for stage in Stage}


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_leads_to_its_stage(name: str) -> None:
    """For each stage and event, the next stage is the one in the table."""
    found = [advance(AT[stage], EVENTS[name], policy=POLICY, now=LATER).delivery.stage for stage in Stage]
    assert found == ROWS[name]


def test_only_a_confirmed_report_makes_a_receipt() -> None:
    """A confirmed report makes an installation entry. Progress, a success and an unconfirmed report do not."""
    before = steps(*OFFER, Offered(), Progress(5), Outcome(succeeded=True), runs(NEW, is_confirmed=False))
    assert [str(one.kind) for one in before.entries] == ["claimed"]  # of the old image
    [entry] = steps(runs(NEW, EvidenceLevel.C), start=before.delivery).entries
    assert (entry.kind, entry.image, entry.previous, entry.level) == (EntryKind.INSTALL, NEW.image, OLD.image, "C")


@pytest.mark.parametrize(
    ("levels", "kinds"),
    [
        ("B", ["claimed"]),
        ("BB", ["claimed"]),
        ("BA", ["claimed", "install"]),
        ("AB", ["install"]),
        ("AC", ["install"]),
        ("CCB", ["install"]),
    ],
)
def test_an_image_is_logged_again_only_with_stronger_evidence(levels: str, kinds: list[str]) -> None:
    """After a claim, a receipt for the same image is logged.

    After a receipt, no further entry for the same image is logged.
    """
    step = steps(*(runs(NEW, EvidenceLevel(level)) for level in levels))
    assert [str(one.kind) for one in step.entries] == kinds


def test_kinds_of_receipts() -> None:
    """If a device returns to a release that it ran earlier, even from an unknown image, a reinstallation is logged.

    The entry of a configuration has a kind of its own.
    """
    step = steps(*(runs(one, EvidenceLevel.A) for one in (OLD, NEW, OLD)))
    assert [str(one.kind) for one in step.entries] == ["install", "install", "reinstall"]
    strange = steps(Reported(UNKNOWN, None), Reported(UNKNOWN, None), runs(OLD, EvidenceLevel.A), start=step.delivery)
    assert [str(one.kind) for one in strange.entries] == ["warning", "reinstall"]
    configuration = steps(runs(NEW, EvidenceLevel.A), policy=replace(POLICY, is_configuration=True))
    assert [str(one.kind) for one in configuration.entries] == ["configuration"]


def test_tries_end_after_the_pauses_of_the_policy() -> None:
    """After each failed try, the delivery waits as long as the policy's next pause lasts.

    After the last failed try, only a retry by an operator continues the delivery.
    """
    fail = Outcome(succeeded=False, reason="no space")
    first = steps(*OFFER, fail)
    assert (first.delivery.wake, first.delivery.reason) == (NOW + 60, "no space")
    second = steps((59, Timeout()), (60, Timeout()), (70, fail), start=first.delivery)
    assert (second.delivery.stage, second.delivery.wake) == (Stage.PAUSED, NOW + 670)
    third = steps((670, Timeout()), (680, fail), start=second.delivery).delivery
    assert (third.stage, third.tries, third.offer) == (Stage.STOPPED, 3, None)
    retried = steps(Retried(), start=third).delivery
    assert (retried.stage, retried.tries, retried.given_up) == (Stage.OFFERED, 0, frozenset())


def test_a_release_that_was_given_up_comes_back_only_by_an_order() -> None:
    """After a device rolled a release back, only a new order offers this release to the device again."""
    rolled_back = steps(*OFFER, Outcome(succeeded=True), runs(OLD)).delivery
    assert (rolled_back.stage, rolled_back.reason) == (Stage.STOPPED, "the device rolled back")
    other = steps(Planned(NEXT), start=rolled_back).delivery
    assert other.offer == NEXT
    back = steps(Planned(NEW), start=other).delivery
    assert (back.stage, back.offer) == (Stage.STOPPED, None)
    ordered = target("1.1.0", 8)
    assert steps(Planned(ordered), start=back).delivery.offer == ordered
    often = replace(POLICY, offers_after_rollback=True)
    assert steps(*OFFER, Outcome(succeeded=True), runs(OLD), policy=often).delivery.stage is Stage.PAUSED


def test_a_device_that_leaves_its_release_uses_up_its_tries() -> None:
    """A try also counts as failed if the device confirms the release but later runs another image."""
    settled = AT[Stage.SETTLED]
    for _ in POLICY.pauses:
        left = steps(runs(OLD), start=settled)
        assert left.delivery.stage is Stage.PAUSED
        settled = steps((10_000, Timeout()), runs(NEW), start=left.delivery).delivery
    assert steps(runs(OLD), start=settled).delivery.stage is Stage.STOPPED


def test_a_withheld_target_keeps_its_tries() -> None:
    """A target that is withheld is not offered, and its timeouts are stopped.

    Afterwards, the tries continue with a new job.
    """
    failed = steps(*OFFER, Outcome(succeeded=False), (60, Timeout()), (61, Progress(1))).delivery
    withheld = steps((62, Planned(NEW, is_withheld=True)), start=failed).delivery
    assert (withheld.stage, withheld.offer, withheld.wake, withheld.tries) == (Stage.OFFERED, None, None, 1)
    assert withheld.job != failed.job
    assert steps(Progress(5), Outcome(succeeded=False), start=withheld) == DeliveryStep(withheld)
    again = steps((99, Planned(NEW)), start=withheld).delivery
    assert (again.offer, again.tries, again.wake, again.job) == (NEW, 1, NOW + 99 + 5000, withheld.job)


def test_postponements_are_limited_in_number_and_time() -> None:
    """A device may postpone a target as often and as long as the policy allows. Further requests are refused."""
    first = steps(*OFFER, Postponed(NOW + 5000, reason="in use"))
    assert (first.delivery.wake, first.entries[-1].text) == (NOW + 1000, "in use")
    second = steps((1000, Timeout()), (1000, Postponed(NOW + 9000)), start=first.delivery)
    assert (second.delivery.stage, second.entries[-1].kind) == (Stage.OFFERED, EntryKind.WARNING)
    short = steps(*OFFER, Postponed(NOW + 5), (5, Timeout()), (5, Postponed(NOW + 9)), (9, Timeout()), Postponed(0))
    assert (short.delivery.postponements, short.entries[-1].kind) == (2, EntryKind.WARNING)


def test_a_late_or_stuck_device_is_logged() -> None:
    """If the device does not accept an offer in time, this is logged once.

    A transfer without progress, and a trial without a report, end after their timeouts.
    """
    late = steps((5000, Timeout()), (6000, Timeout()), start=AT[Stage.OFFERED])
    assert [one.kind for one in late.entries] == [EntryKind.EVENT]
    assert late.delivery.offer == NEW
    stuck = steps((3000, Progress(10)), (3600, Timeout()), start=AT[Stage.TRANSFER])
    assert (stuck.delivery.stage, stuck.entries[0].text) == (Stage.PAUSED, "no progress for 3600 seconds")
    assert steps((3000, Progress(11)), (3600, Timeout()), start=AT[Stage.TRANSFER]).delivery.stage is Stage.TRANSFER
    assert steps((3600, Timeout()), start=AT[Stage.TRIAL]).entries[0].text == "not confirmed within 3600 seconds"


def test_a_release_that_was_given_up_is_withdrawn_when_its_order_ends() -> None:
    """If the tries for a release are used up, a new order grants new tries.

    Without an order, the release is not offered again.
    """
    gave_up = steps(*OFFER, runs(NEW, is_confirmed=False), runs(OLD)).delivery
    assert gave_up.stage is Stage.STOPPED
    ordered = steps(Planned(target("1.1.0", 7)), start=gave_up).delivery
    for events in ((), (Progress(10),), (Postponed(NOW + 100),), (Outcome(succeeded=False),)):
        ended = steps(*events, Planned(NEW), start=ordered).delivery
        assert (ended.stage, ended.offer) == (Stage.STOPPED, None)
    # A device on trial decides alone; the release is not offered again after the trial.
    trial = steps(runs(NEW, is_confirmed=False), Planned(NEW), start=ordered).delivery
    assert trial.stage is Stage.TRIAL
    late = steps((POLICY.trial_time, Timeout()), (LATER - NOW, Timeout()), start=trial).delivery
    assert late.stage is Stage.STOPPED


def test_a_device_that_leaves_a_release_without_tries_gets_it_only_by_an_operator() -> None:
    """If a device has no tries left and leaves its release, the release is offered again only after a retry."""
    gave_up = steps(*OFFER, Outcome(succeeded=False, is_refusal=True)).delivery
    left = steps(runs(NEW), runs(OLD), start=gave_up).delivery
    assert (left.stage, left.tries) == (Stage.STOPPED, gave_up.tries)
    assert steps(Retried(), start=left).delivery.offer == NEW


def test_an_order_for_a_running_release_starts_with_new_tries() -> None:
    """An order for the release that the device already runs resets the used tries, even if no tries were left."""
    policy = DeliveryPolicy(pauses=())
    events = (Planned(NEW), Outcome(succeeded=False), runs(NEW), Planned(target("1.1.0", 7)))
    delivery = steps(*events, policy=policy).delivery
    assert (delivery.stage, delivery.tries) == (Stage.SETTLED, 0)
    left = steps(runs(OLD), start=delivery, policy=policy).delivery
    assert (left.stage, left.tries) == (Stage.STOPPED, 1)


def test_an_order_that_ends_too_early_is_logged() -> None:
    """If a device does not fulfil an order by its deadline, an event is logged.

    If the device fulfils the order by its deadline, no event about the deadline is logged.
    """
    ordered = steps(runs(OLD), Planned(target("1.1.0", 7))).delivery
    [entry] = steps(Planned(None, why="no order is open"), start=ordered).entries
    assert (entry.kind, entry.order) == (EntryKind.EVENT, 7)
    assert entry.text == "the device did not run the release before order 7 ended: no order is open"
    assert steps(Planned(NEW), start=ordered).entries == ()
    done = steps(runs(NEW), Planned(None), start=ordered)
    assert [(one.kind, one.order) for one in done.entries] == [(EntryKind.CLAIMED, 7)]
