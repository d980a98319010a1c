"""One delivery: bring a device to the release that it is to run. A pure state machine for each component of a device.

The decision what a device is to run is `blockota.model.target.choose`. The state machine takes that target and what the
device reports, and returns the next state and the entries for the log. Time is a parameter; nothing is sent from here:
a face offers `Delivery.offer` to the device as long as it is not None.

Every state is derived from reports of the device. That an image was sent, and that a device claims to have installed
it, changes what is offered, but only the report that the device runs the image, and has confirmed it, makes an entry of
an installation.

=============  =========================================================================================
Stage          Meaning
=============  =========================================================================================
``settled``    the device runs its target, or has none
``offered``    the device has not begun to fetch the image
``transfer``   the device fetches the image, or has the image and does not run it yet
``trial``      the device runs the image, or says that it installed it, and has not confirmed it
``postponed``  the device asked for a later time, until `Delivery.wake`
``paused``     a try failed, the next one begins at `Delivery.wake`
``stopped``    no tries are left, or the device rolled back: nothing is offered until an operator retries
=============  =========================================================================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from blockota.model.receipt import EntryKind, EvidenceLevel, ReleaseId

_JOB_SIZE = 6
"""Bytes of a job's number: hawkBit's clients read it as a signed 64-bit integer, JSON as a float of 53 bits."""


class Stage(StrEnum):
    """The stage of a delivery. The table in this module's docstring explains the stages."""

    SETTLED = "settled"
    OFFERED = "offered"
    TRANSFER = "transfer"
    TRIAL = "trial"
    POSTPONED = "postponed"
    PAUSED = "paused"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Target:
    """The release that a device is to run.

    Attributes:
        release: the release.
        image: SHA-256 of its image.
        order: number of the order that names it; None if the group's policy chose it.
    """

    release: ReleaseId
    image: bytes
    order: int | None = None

    def is_same_release(self, other: Target | None) -> bool:
        """Whether another target differs in the order at most."""
        return other is not None and (self.release, self.image) == (other.release, other.image)


@dataclass(frozen=True)
class DeliveryPolicy:
    """The limits of deliveries to the devices of a group, from the settings.

    Attributes:
        pauses: seconds to wait after each failed try before the next one; the number of tries is one more.
        postponements: how often a device may postpone one target.
        longest_postponement: seconds by which a device may postpone one target in total.
        transfer_time: seconds without progress after which a transfer counts as failed.
        trial_time: seconds after which an image that the device does not confirm counts as failed.
        offers_after_rollback: whether a device that rolled back is offered the same release again.
        is_configuration: whether the images of this component are configurations.
    """

    pauses: tuple[int, ...] = (60, 600, 3600)
    postponements: int = 3
    longest_postponement: int = 7 * 86_400
    transfer_time: int = 3600
    trial_time: int = 3600
    offers_after_rollback: bool = False
    is_configuration: bool = False


@dataclass(frozen=True)
class Delivery:
    """The state of one component of one device.

    Attributes:
        stage: the stage.
        target: the release to deliver; None if the device has no target.
        running: SHA-256 of the image that the device reported last; None before its first report.
        logged: the newest entry of an installation, as image and level; None without one.
        installed: digests of the releases with an entry of an installation, claimed ones not counted.
        tries: failed tries of the present target.
        attempt: a counter of all tries of all targets, which gives each try its own job number.
        offered_at: Unix time at which the device was told of the offer; None before.
        postponements: postponements of the present target by the device.
        postponed_since: Unix time of the first of them.
        wake: Unix time at which a `Timeout` is due; None for none.
        received: bytes of the image that the device has received, as far as it reports them.
        reason: why the delivery is postponed, paused or stopped.
    """

    stage: Stage = Stage.SETTLED
    target: Target | None = None
    running: bytes | None = None
    logged: tuple[bytes, EvidenceLevel] | None = None
    installed: frozenset[bytes] = frozenset()
    tries: int = 0
    attempt: int = 0
    offered_at: int | None = None
    postponements: int = 0
    postponed_since: int | None = None
    wake: int | None = None
    received: int = 0
    reason: str = ""

    @property
    def offer(self) -> Target | None:
        """What a face offers to the device now."""
        return self.target if self.stage in (Stage.OFFERED, Stage.TRANSFER) else None

    @property
    def job(self) -> int:
        """The number of the present try. The same try has the same number whenever it is offered; 0 without a target.

        A face passes the number to the device. An answer with another number is about another try.
        """
        if self.target is None:
            return 0
        named = b"%b %d" % (self.target.release.digest, self.attempt)
        return int.from_bytes(hashlib.sha256(named).digest()[:_JOB_SIZE])


@dataclass(frozen=True)
class Planned:
    """The target of the device was decided anew."""

    target: Target | None


@dataclass(frozen=True)
class Reported:
    """The device reports which image it runs.

    Attributes:
        image: SHA-256 of the image.
        release: the release with this image; None if no known release has it.
        level: who determined the image.
        is_confirmed: whether the device has confirmed the image, so that it does not roll back by itself.
        counter: the counter in the device's statement.
        statement: the device's signed statement, for level A.
    """

    image: bytes
    release: ReleaseId | None
    level: EvidenceLevel = EvidenceLevel.B
    is_confirmed: bool = True
    counter: int | None = None
    statement: bytes | None = None


@dataclass(frozen=True)
class Offered:
    """The device was told of the offer."""


@dataclass(frozen=True)
class Progress:
    """The device received a part of the image.

    Attributes:
        received: bytes so far.
    """

    received: int = 0


@dataclass(frozen=True)
class Outcome:
    """The device says how its try ended. A success is only its claim until it reports the running image.

    Attributes:
        succeeded: whether the device says that the image is installed.
        reason: the reason of a failure.
        is_refusal: whether the device refuses the image, so that another try makes no sense.
    """

    succeeded: bool
    reason: str = ""
    is_refusal: bool = False


@dataclass(frozen=True)
class Postponed:
    """The device asks for a later time.

    Attributes:
        until: Unix time.
        statement: the device's signed statement.
    """

    until: int
    reason: str = ""
    counter: int | None = None
    statement: bytes | None = None


@dataclass(frozen=True)
class Timeout:
    """The time `Delivery.wake` has come."""


@dataclass(frozen=True)
class Retried:
    """An operator asks for new tries."""


Event = Planned | Reported | Offered | Progress | Outcome | Postponed | Timeout | Retried


@dataclass(frozen=True)
class EntryFacts:
    """An entry for the log, without what is the same for all entries of a device.

    Attributes:
        kind: the kind of the entry.
        release: the release that it is about; None if no release has the image.
        image: SHA-256 of the image.
        previous: SHA-256 of the image before, for an entry about a running image.
        level: the evidence level of an entry about a running image, and A for a signed postponement.
        order: number of the order.
        counter: the device's counter.
        statement: the device's signed statement.
        text: the text of an event, postponement, refusal or warning; empty for others.
    """

    kind: EntryKind
    release: ReleaseId | None = None
    image: bytes | None = None
    previous: bytes | None = None
    level: EvidenceLevel | None = None
    order: int | None = None
    counter: int | None = None
    statement: bytes | None = None
    text: str = ""


@dataclass(frozen=True)
class Step:
    """The result of an event: the next state, and the entries for the log, in order."""

    delivery: Delivery
    entries: tuple[EntryFacts, ...] = ()


def advance(delivery: Delivery, event: Event, *, policy: DeliveryPolicy, now: int) -> Step:
    """Process one event.

    Args:
        delivery: the present state.
        event: the event.
        policy: the limits of the device's group.
        now: Unix time of the gateway's clock.

    Returns:
        The next state with the entries to log. An event that has no meaning in the present stage changes nothing.
    """
    rule = _RULES.get((delivery.stage, type(event)))
    return rule(_Situation(delivery, policy, now), event) if rule else Step(delivery)


@dataclass(frozen=True)
class _Situation:
    delivery: Delivery
    policy: DeliveryPolicy
    now: int

    def begin(self, target: Target | None, *, entries: tuple[EntryFacts, ...] = ()) -> Step:
        """Start with a new target, or settle without one."""
        now = self.delivery
        is_open = target is not None and target.image != now.running
        fresh = Delivery(
            stage=Stage.OFFERED if is_open else Stage.SETTLED,
            target=target,
            running=now.running,
            logged=now.logged,
            installed=now.installed,
            attempt=now.attempt + 1,
        )
        return Step(fresh, entries)

    def entry(self, kind: EntryKind, *, text: str) -> EntryFacts:
        """Return an entry about the present target."""
        target = self.delivery.target
        return EntryFacts(
            kind,
            release=target.release if target else None,
            image=target.image if target else None,
            order=target.order if target else None,
            text=text,
        )

    def fail(self, reason: str, *, is_final: bool = False, kind: EntryKind = EntryKind.EVENT) -> Step:
        """End a try: the next one begins after a pause, if one is left."""
        delivery, pauses = self.delivery, self.policy.pauses
        entry = self.entry(kind, text=reason)
        counted = replace(delivery, tries=delivery.tries + 1, attempt=delivery.attempt + 1)
        failed = replace(counted, received=0, offered_at=None, reason=reason)
        if is_final or delivery.tries >= len(pauses):
            return Step(replace(failed, stage=Stage.STOPPED, wake=None), (entry,))
        return Step(replace(failed, stage=Stage.PAUSED, wake=self.now + pauses[delivery.tries]), (entry,))


def _planned(situation: _Situation, event: Planned) -> Step:
    """Take a new target. A try is not disturbed by a target that differs in the order only."""
    delivery, target = situation.delivery, event.target
    if target == delivery.target:
        return Step(delivery)
    is_trying = delivery.stage in (Stage.OFFERED, Stage.TRANSFER, Stage.TRIAL)
    if is_trying and target and target.is_same_release(delivery.target):
        return Step(replace(delivery, target=target))
    # The device has the image, and decides alone whether it confirms it: a cancellation would change nothing.
    if delivery.stage is Stage.TRIAL:
        return Step(delivery)
    entries: tuple[EntryFacts, ...] = ()
    if delivery.target and delivery.target.order is not None and delivery.stage is not Stage.SETTLED:
        text = f"order {delivery.target.order} ended before the device ran the release"
        entries = (situation.entry(EntryKind.EVENT, text=text),)
    return situation.begin(target, entries=entries)


def _offered(situation: _Situation, _: Offered) -> Step:
    delivery = situation.delivery
    return Step(delivery if delivery.offered_at is not None else replace(delivery, offered_at=situation.now))


def _progress(situation: _Situation, event: Progress) -> Step:
    wake = situation.now + situation.policy.transfer_time
    received = max(event.received, situation.delivery.received)
    return Step(replace(situation.delivery, stage=Stage.TRANSFER, received=received, wake=wake))


def _outcome(situation: _Situation, event: Outcome) -> Step:
    if not event.succeeded:
        kind = EntryKind.REFUSAL if event.is_refusal else EntryKind.EVENT
        return situation.fail(event.reason or "the device gives no reason", is_final=event.is_refusal, kind=kind)
    return Step(_on_trial(situation))


def _on_trial(situation: _Situation) -> Delivery:
    wake = situation.now + situation.policy.trial_time
    if situation.delivery.stage is Stage.TRIAL:  # repeating a claim does not extend the time
        return situation.delivery
    return replace(situation.delivery, stage=Stage.TRIAL, wake=wake, reason="")


def _postponed(situation: _Situation, event: Postponed) -> Step:
    """Postpone, up to the limits of the policy. A request beyond them is refused: the offer stays."""
    delivery, policy = situation.delivery, situation.policy
    since = situation.now if delivery.postponed_since is None else delivery.postponed_since
    latest = since + policy.longest_postponement
    if delivery.postponements >= policy.postponements or situation.now >= latest:
        why = f"the device asks for another postponement, after {delivery.postponements}: {event.reason}"
        return Step(delivery, (situation.entry(EntryKind.WARNING, text=why.rstrip(": ")),))
    until = min(max(event.until, situation.now), latest)
    entry = replace(
        situation.entry(EntryKind.POSTPONEMENT, text=event.reason or "the device gives no reason"),
        level=EvidenceLevel.A if event.statement else None,
        counter=event.counter,
        statement=event.statement,
    )
    later = replace(delivery, stage=Stage.POSTPONED, wake=until, reason=entry.text, received=0)
    return Step(replace(later, postponements=delivery.postponements + 1, postponed_since=since), (entry,))


def _timeout(situation: _Situation, _: Timeout) -> Step:
    delivery = situation.delivery
    if delivery.wake is None or situation.now < delivery.wake:
        return Step(delivery)
    if delivery.stage is Stage.TRANSFER:
        return situation.fail(f"no progress for {situation.policy.transfer_time} seconds")
    if delivery.stage is Stage.TRIAL:
        return situation.fail(f"not confirmed within {situation.policy.trial_time} seconds")
    return Step(replace(delivery, stage=Stage.OFFERED, wake=None, reason=""))


def _retried(situation: _Situation, _: Retried) -> Step:
    return situation.begin(situation.delivery.target)


def _reported(situation: _Situation, event: Reported) -> Step:
    delivery = situation.delivery
    if event.is_confirmed:
        return _confirmed(situation, event)
    # A device that starts the image again after its delivery ended stays where it is until it confirms the image.
    is_over = delivery.stage in (Stage.SETTLED, Stage.STOPPED)
    is_target = delivery.target is not None and event.image == delivery.target.image
    return Step(_on_trial(situation) if is_target and not is_over else delivery)


def _confirmed(situation: _Situation, event: Reported) -> Step:
    """Process the report that the device runs an image and has confirmed it."""
    delivery, target = situation.delivery, situation.delivery.target
    entries = _entries_about(situation, event)
    known = replace(delivery, running=event.image)
    if entries and event.release:
        known = replace(known, logged=(event.image, event.level))
        if event.level is not EvidenceLevel.B:
            known = replace(known, installed=known.installed | {event.release.digest})
    now = replace(situation, delivery=known)

    if target and delivery.stage is Stage.TRIAL and event.image != target.image:
        failed = now.fail("the device rolled back", is_final=not situation.policy.offers_after_rollback)
        return Step(failed.delivery, (*entries, *failed.entries))
    # The device reached its target, or left it by itself.
    if target and (event.image == target.image) == (delivery.stage is not Stage.SETTLED):
        return now.begin(target, entries=entries)
    return Step(known, entries)


def _entries_about(situation: _Situation, event: Reported) -> tuple[EntryFacts, ...]:
    """Return the entry about a running image; none if it is logged already, with evidence that is not weaker."""
    delivery, target = situation.delivery, situation.delivery.target
    if event.release is None:
        if event.image == delivery.running:
            return ()
        text = f"the device runs an image that no release has: SHA-256 {event.image.hex()}"
        return (EntryFacts(EntryKind.WARNING, image=event.image, text=text),)
    is_logged = delivery.logged is not None and delivery.logged[0] == event.image
    if delivery.logged and is_logged and EvidenceLevel.B in (event.level, delivery.logged[1]):
        is_logged = event.level is EvidenceLevel.B
    if is_logged:
        return ()
    kind = EntryKind.INSTALL
    if situation.policy.is_configuration:
        kind = EntryKind.CONFIGURATION
    elif event.level is EvidenceLevel.B:
        kind = EntryKind.CLAIMED
    elif event.release.digest in delivery.installed:
        kind = EntryKind.REINSTALL
    previous = delivery.running if delivery.running != event.image else None
    order = target.order if target and target.image == event.image else None
    entry = EntryFacts(
        kind,
        release=event.release,
        image=event.image,
        previous=previous,
        level=event.level,
        order=order,
        counter=event.counter,
        statement=event.statement,
    )
    return (entry,)


_ALWAYS: Mapping[type, Callable[..., Step]] = {Planned: _planned, Reported: _reported}
_AT: Mapping[Stage, Mapping[type, Callable[..., Step]]] = {
    Stage.SETTLED: {},
    Stage.OFFERED: {Offered: _offered, Progress: _progress, Outcome: _outcome, Postponed: _postponed},
    Stage.TRANSFER: {Progress: _progress, Outcome: _outcome, Postponed: _postponed, Timeout: _timeout},
    Stage.TRIAL: {Outcome: _outcome, Timeout: _timeout},
    Stage.POSTPONED: {Timeout: _timeout, Retried: _retried},
    Stage.PAUSED: {Timeout: _timeout, Retried: _retried},
    Stage.STOPPED: {Retried: _retried},
}
_RULES: Mapping[tuple[Stage, type], Callable[..., Step]] = {
    (stage, event): rule for stage, rules in _AT.items() for event, rule in {**_ALWAYS, **rules}.items()
}
"""The rule for each event in each stage; an event without a rule changes nothing."""
