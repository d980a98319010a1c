"""Any sequence of events of an honest or a lying device preserves the guarantees of a delivery.

The model in this test uses only inputs and outputs of the delivery. The model counts offers, failures and postponements
itself.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from blockota.model.delivery import (
    Delivery,
    DeliveryPolicy,
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
from blockota.model.delivery_rules import advance
from blockota.model.receipt import EntryKind, EvidenceLevel, ReleaseId
from tests.model.test_delivery import NEW, NEXT, NOW, OLD, UNKNOWN, target

RELEASES = {one.image: one.release for one in (OLD, NEW, NEXT)}
TARGETS = st.one_of(
    st.none(),
    st.builds(target, st.sampled_from(["1.0.0", "1.1.0", "1.2.0"]), st.sampled_from([None, 7, 8])),
)
STRENGTH = {EvidenceLevel.B: 0, EvidenceLevel.A: 1, EvidenceLevel.C: 1}


class Deliveries(RuleBasedStateMachine):
    """One component of one device, together with the model."""

    @initialize(
        pauses=st.lists(st.sampled_from([1, 60]), max_size=2).map(tuple),
        postponements=st.integers(0, 2),
        offers_after_rollback=st.booleans(),
    )
    def begin(self, pauses: tuple[int, ...], postponements: int, *, offers_after_rollback: bool) -> None:
        """Start with a policy, and with a device that has not reported an image."""
        self.policy = DeliveryPolicy(
            pauses, postponements, longest_postponement=500, offers_after_rollback=offers_after_rollback
        )
        self.delivery, self.now = Delivery(), NOW
        self.failures = self.postponed = 0  # of the present target
        self.since: int | None = None  # the first postponement
        self.last: tuple[bytes, EvidenceLevel] | None = None  # the newest entry about a running image
        self.barred: set[tuple[ReleaseId, int | None]] = set()  # rolled back
        self.stopped: set[tuple[ReleaseId, int | None]] = set()  # no tries are left
        self.offered: dict[int, ReleaseId] = {}  # the release of each job number
        self.ended: set[int] = set()  # the numbers of the tries that ended

    def send(self, event: Event) -> None:
        """Process an event, and compare the result with the model's."""
        before = self.delivery
        step = advance(before, event, policy=self.policy, now=self.now)
        self.delivery = after = step.delivery
        self.count(before, event)
        for entry in step.entries:
            if entry.kind.names_running_image:
                assert isinstance(event, Reported)
                assert event.is_confirmed
                assert (entry.image, entry.level, entry.release) == (event.image, event.level, event.release)
                assert entry.kind is EntryKind.CLAIMED or event.level is not EvidenceLevel.B
                if self.last and self.last[0] == event.image:
                    assert STRENGTH[event.level] > STRENGTH[self.last[1]]
                self.last = event.image, event.level
            elif entry.kind is EntryKind.POSTPONEMENT:
                self.postponed += 1
                self.since = self.now if self.since is None else self.since
        if (
            isinstance(event, Reported)
            and event.is_confirmed
            and event.release is None
            and event.image != before.running
        ):
            self.last = None
        assert len([one for one in step.entries if one.kind.names_running_image]) <= 1
        assert after.wake is None or after.stage is not Stage.STOPPED

    def count(self, before: Delivery, event: Event) -> None:
        """Count the failures of the current target, and the tries of all targets."""
        after = self.delivery
        same = before.target is not None and before.target.is_same_release(after.target)
        begins = before.stage is Stage.STOPPED and after.stage is not Stage.STOPPED
        waits = before.stage in (Stage.POSTPONED, Stage.PAUSED, Stage.STOPPED)
        is_retried = isinstance(event, Retried) and waits
        has_new_tries = self.has_no_tries(before.target) and not self.has_no_tries(after.target)
        if not same or is_retried or (isinstance(event, Planned) and (begins or has_new_tries)):
            self.failures = self.postponed = 0
            self.since = None
        if is_retried and after.target:
            self.barred = {one for one in self.barred if one[0] != after.target.release}
            self.stopped = {one for one in self.stopped if one[0] != after.target.release}
        stopped = (Stage.PAUSED, Stage.STOPPED)
        if not isinstance(event, Planned) and after.stage in stopped and before.stage not in stopped:
            # A device that reached a release without tries left, and leaves it, does not begin another try.
            self.failures += not (before.stage is Stage.SETTLED and self.has_no_tries(before.target))
        if after.stage is Stage.STOPPED and after.target:
            self.stopped.add((after.target.release, after.target.order))
        if before.offer and after.stage is not Stage.POSTPONED and (after.offer is None or not same):
            self.ended.add(before.job)
        if isinstance(event, Reported) and event.is_confirmed and before.stage is Stage.TRIAL:
            assert before.target
            if event.image != before.target.image:
                self.barred.add((before.target.release, before.target.order))

    def has_no_tries(self, one: Target | None) -> bool:
        """Whether the tries of a target are used up."""
        return one is not None and any(
            release == one.release and one.order in (None, order) for release, order in self.stopped
        )

    @rule(chosen=TARGETS, is_withheld=st.booleans())
    def plan(self, chosen: Target | None, *, is_withheld: bool) -> None:
        """Decide on the target again."""
        self.send(Planned(chosen, is_withheld))

    @rule(
        image=st.sampled_from([OLD.image, NEW.image, NEXT.image, UNKNOWN]),
        level=st.sampled_from(EvidenceLevel),
        is_confirmed=st.booleans(),
    )
    def report(self, image: bytes, level: EvidenceLevel, *, is_confirmed: bool) -> None:
        """Report any image."""
        self.send(Reported(image, RELEASES.get(image), level, is_confirmed))

    @rule(
        event=st.one_of(
            st.just(Offered()),
            st.builds(Progress, st.integers(-1, 100)),
            st.builds(Outcome, st.booleans(), st.just("why"), st.booleans()),
            st.just(Timeout()),
            st.just(Retried()),
        )
    )
    def other(self, event: Event) -> None:
        """Send any other event."""
        self.send(event)

    @rule(seconds=st.integers(-10, 1000))
    def postpone(self, seconds: int) -> None:
        """Ask for a later time."""
        self.send(Postponed(self.now + seconds))

    @rule(seconds=st.sampled_from([0, 1, 59, 60, 3600, 700_000]))
    def wait(self, seconds: int) -> None:
        """Advance the time until a timeout is due."""
        self.now += seconds
        if self.delivery.wake is not None and self.now >= self.delivery.wake:
            self.send(Timeout())

    @invariant()
    def limits(self) -> None:
        """Tries and postponements stay within the limits of the policy."""
        if not hasattr(self, "policy"):
            return
        delivery, policy = self.delivery, self.policy
        assert self.failures <= len(policy.pauses) + 1
        assert delivery.tries == self.failures
        assert delivery.offer is None or self.failures <= len(policy.pauses)
        assert self.postponed <= policy.postponements
        if delivery.stage is Stage.POSTPONED and delivery.wake is not None and self.since is not None:
            assert delivery.wake <= self.since + policy.longest_postponement

    @invariant()
    def offers(self) -> None:
        """A release is not offered if it is withheld, is running, or was rolled back. Each try has its own number."""
        if not hasattr(self, "policy") or self.delivery.offer is None:
            return
        offer = self.delivery.offer
        assert not self.delivery.is_withheld
        assert offer.image != self.delivery.running
        if not self.policy.offers_after_rollback:
            assert not [one for one in self.barred if one[0] == offer.release and offer.order in (None, one[1])]
        number = self.delivery.job
        assert number not in self.ended
        assert self.offered.setdefault(number, offer.release) == offer.release
        assert 0 < number < 1 << 48


Deliveries.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestDeliveries = Deliveries.TestCase
