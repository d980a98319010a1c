"""The state machine of a delivery, as a table of rules for each stage and event. Pure; time is a parameter.

`advance` computes the next state and the new log entries from a state and an event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from blockota.model.delivery import (
    NO_REASON,
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
from blockota.model.receipt import EntryKind, EvidenceLevel


@dataclass(frozen=True)
class DeliveryStep:
    """The result of an event: the next state, and the new log entries in order."""

    delivery: Delivery
    entries: tuple[EntryFacts, ...] = ()


def advance(delivery: Delivery, event: Event, *, policy: DeliveryPolicy, now: int) -> DeliveryStep:
    """Process one event.

    Args:
        delivery: the present state.
        event: the event.
        policy: the limits of the device's group.
        now: Unix time of the gateway's clock.

    Returns:
        The next state and the new log entries. An event without a rule for the current stage changes nothing.
    """
    rule = _RULES.get((delivery.stage, type(event)))
    if delivery.is_withheld and delivery.stage is Stage.OFFERED and type(event) not in _ALWAYS:
        return DeliveryStep(delivery)
    return rule(_DeliverySituation(delivery, policy, now), event) if rule else DeliveryStep(delivery)


@dataclass(frozen=True)
class _DeliverySituation:
    delivery: Delivery
    policy: DeliveryPolicy
    now: int

    def start(self, target: Target | None, *, is_withheld: bool) -> Delivery:
        """Offer a new target, or change to the stage ``settled`` if no target exists."""
        old = self.delivery
        is_over = self.is_given_up(target) and target is not None and target.is_same_release(old.target)

        fresh = Delivery(
            target=target,
            is_withheld=is_withheld,
            given_up=old.given_up,
            running=old.running,
            logged=old.logged,
            installed=old.installed,
            attempt=old.attempt + 1,
            tries=old.tries if is_over else 0,
        )

        if target is None or target.image == old.running:
            return fresh
        return replace(self, delivery=fresh).open()

    def is_given_up(self, target: Target | None) -> bool:
        """Whether all tries of a target are used up. Another order for the same release allows new tries."""
        given_up = (one for one in self.delivery.given_up if target and target.is_same_release(one))
        return any(target and target.order in (None, one.order) for one in given_up)

    def open(self) -> Delivery:
        """Offer the target, if tries are left for it."""
        delivery = self.delivery
        if self.is_given_up(delivery.target):
            return self.stop("the tries of this release are used up")
        wake = None if delivery.is_withheld else self.now + self.policy.late_after
        return replace(delivery, stage=Stage.OFFERED, received=0, offered_at=None, wake=wake, reason="")

    def stop(self, reason: str) -> Delivery:
        """Stop the delivery until an operator requests a retry."""
        return replace(self.delivery, stage=Stage.STOPPED, received=0, offered_at=None, wake=None, reason=reason)

    def entry(self, kind: EntryKind, *, text: str) -> EntryFacts:
        """Return a log entry about the current target."""
        target = self.delivery.target
        if target is None:
            return EntryFacts(kind, text=text)
        return EntryFacts(kind, release=target.release, image=target.image, order=target.order, text=text)

    def fail(self, reason: str, *, is_final: bool = False) -> Delivery:
        """End a try.

        If a try is left, the next try begins after a pause.
        """
        delivery, pauses = self.delivery, self.policy.pauses
        counted = replace(delivery, tries=delivery.tries + 1, attempt=delivery.attempt + 1)
        failed = replace(counted, received=0, offered_at=None, reason=reason)
        is_last = is_final or delivery.tries >= len(pauses) or self.is_given_up(delivery.target)
        if delivery.target and is_last:
            given_up = delivery.given_up | {delivery.target}
            return replace(self, delivery=replace(failed, given_up=given_up)).stop(reason)
        return replace(failed, stage=Stage.PAUSED, wake=self.now + pauses[delivery.tries])

    def failed(self, reason: str, *, is_final: bool = False, kind: EntryKind = EntryKind.EVENT) -> DeliveryStep:
        """End a try, and return its log entry."""
        return DeliveryStep(self.fail(reason, is_final=is_final), (self.entry(kind, text=reason),))


def _planned(situation: _DeliverySituation, event: Planned) -> DeliveryStep:
    """Take a new target.

    If only the order of the target changes, and tries are left, the running try continues.
    """
    delivery, target = situation.delivery, event.target
    is_same = target is not None and target.is_same_release(delivery.target)
    is_over = delivery.stage is Stage.STOPPED or situation.is_given_up(target)
    is_kept = is_same and (not is_over or delivery.stage in (Stage.SETTLED, Stage.TRIAL))
    if target == delivery.target or is_kept:
        # A new order for a release whose tries are used up starts with new tries, also if the device runs the release.
        has_new_tries = situation.is_given_up(delivery.target) and not situation.is_given_up(target)
        kept = replace(delivery, target=target, tries=0 if has_new_tries else delivery.tries)
        return DeliveryStep(_withheld(replace(situation, delivery=kept), event.is_withheld))
    # The device has the image, and decides alone whether it confirms it: a cancellation would change nothing.
    if delivery.stage is Stage.TRIAL:
        return DeliveryStep(delivery)
    entries: tuple[EntryFacts, ...] = ()
    if delivery.target and delivery.target.order is not None and delivery.stage is not Stage.SETTLED:
        text = f"the device did not run the release before order {delivery.target.order} ended: {event.why}"
        entries = (situation.entry(EntryKind.EVENT, text=text.rstrip(": ")),)
    return DeliveryStep(situation.start(target, is_withheld=event.is_withheld), entries)


def _withheld(situation: _DeliverySituation, is_withheld: bool) -> Delivery:  # noqa: FBT001
    """Withhold the target, or offer it again.

    The next offer has a new job number.
    """
    delivery = situation.delivery
    if is_withheld == delivery.is_withheld:
        return delivery
    changed = replace(delivery, is_withheld=is_withheld)
    if delivery.stage not in (Stage.OFFERED, Stage.TRANSFER):
        return changed
    return replace(situation, delivery=replace(changed, attempt=delivery.attempt + is_withheld)).open()


def _offered(situation: _DeliverySituation, _: Offered) -> DeliveryStep:
    delivery = situation.delivery
    return DeliveryStep(delivery if delivery.offered_at is not None else replace(delivery, offered_at=situation.now))


def _progress(situation: _DeliverySituation, event: Progress) -> DeliveryStep:
    """Record the progress.

    During a transfer, only a message that reports more bytes than before extends the timeout. A transfer without
    progress therefore fails.
    """
    delivery = situation.delivery
    if delivery.stage is Stage.TRANSFER and event.received <= delivery.received:
        return DeliveryStep(delivery)
    wake = situation.now + situation.policy.transfer_time
    return DeliveryStep(replace(delivery, stage=Stage.TRANSFER, received=max(event.received, 0), wake=wake))


def _outcome(situation: _DeliverySituation, event: Outcome) -> DeliveryStep:
    if not event.succeeded:
        kind = EntryKind.REFUSAL if event.is_refusal else EntryKind.EVENT
        return situation.failed(event.reason or NO_REASON, is_final=event.is_refusal, kind=kind)
    return DeliveryStep(_on_trial(situation))


def _on_trial(situation: _DeliverySituation) -> Delivery:
    wake = situation.now + situation.policy.trial_time
    if situation.delivery.stage is Stage.TRIAL:  # repeating a claim does not extend the time
        return situation.delivery
    return replace(situation.delivery, stage=Stage.TRIAL, wake=wake, reason="")


def _postponed(situation: _DeliverySituation, event: Postponed) -> DeliveryStep:
    """Postpone the delivery, up to the limits of the policy.

    A request beyond the limits is refused, and the offer stays open. A request with a past time is refused too, because
    it can be a repeated message about a postponement that has ended.
    """
    delivery, policy = situation.delivery, situation.policy
    since = situation.now if delivery.postponed_since is None else delivery.postponed_since
    latest = since + policy.longest_postponement
    if delivery.postponements >= policy.postponements or situation.now >= latest:
        why = f"the device asks for another postponement, after {delivery.postponements}: {event.reason}"
        return DeliveryStep(delivery, (situation.entry(EntryKind.WARNING, text=why.rstrip(": ")),))
    if event.until <= situation.now:
        why = f"the device asks for a postponement until the Unix time {event.until}, which has passed"
        return DeliveryStep(delivery, (situation.entry(EntryKind.WARNING, text=why),))

    until = min(event.until, latest)
    entry = replace(
        situation.entry(EntryKind.POSTPONEMENT, text=event.reason or NO_REASON),
        level=EvidenceLevel.A if event.statement else None,
        counter=event.counter,
        statement=event.statement,
    )
    later = replace(delivery, stage=Stage.POSTPONED, wake=until, reason=entry.text, received=0)
    return DeliveryStep(replace(later, postponements=delivery.postponements + 1, postponed_since=since), (entry,))


def _timeout(situation: _DeliverySituation, _: Timeout) -> DeliveryStep:
    delivery = situation.delivery
    if delivery.wake is None or situation.now < delivery.wake:
        return DeliveryStep(delivery)

    if delivery.stage is Stage.TRANSFER:
        return situation.failed(f"no progress for {situation.policy.transfer_time} seconds")
    if delivery.stage is Stage.TRIAL:
        return situation.failed(f"not confirmed within {situation.policy.trial_time} seconds")
    if delivery.stage is Stage.OFFERED:
        text = f"the device did not begin to fetch the release within {situation.policy.late_after} seconds"
        return DeliveryStep(replace(delivery, wake=None), (situation.entry(EntryKind.EVENT, text=text),))

    return DeliveryStep(situation.open())


def _retried(situation: _DeliverySituation, _: Retried) -> DeliveryStep:
    delivery = situation.delivery
    given_up = frozenset(old for old in delivery.given_up if not old.is_same_release(delivery.target))
    again = replace(situation, delivery=replace(delivery, given_up=given_up))
    return DeliveryStep(again.start(delivery.target, is_withheld=delivery.is_withheld))


def _reported(situation: _DeliverySituation, event: Reported) -> DeliveryStep:
    delivery = situation.delivery
    if event.is_confirmed:
        return _confirmed(situation, event)
    # A device that starts the image again after its delivery ended stays where it is until it confirms the image.
    is_over = delivery.stage in (Stage.SETTLED, Stage.STOPPED)
    is_target = delivery.target is not None and event.image == delivery.target.image
    return DeliveryStep(_on_trial(situation) if is_target and not is_over else delivery)


def _confirmed(situation: _DeliverySituation, event: Reported) -> DeliveryStep:
    """Process the report that the device runs an image and has confirmed it."""
    delivery, target = situation.delivery, situation.delivery.target
    entries = _entries_about(situation, event)
    known = replace(delivery, running=event.image)
    if entries and event.release:
        known = replace(known, logged=(event.image, event.level))
        if event.level is not EvidenceLevel.B:
            known = replace(known, installed=known.installed | {event.release.digest})
    elif entries:  # an unknown image: the release is logged again when the device returns to it
        known = replace(known, logged=None)
    now = replace(situation, delivery=known)

    if target is None:
        return DeliveryStep(known, entries)
    if event.image == target.image:
        settled = replace(known, stage=Stage.SETTLED, received=0, offered_at=None, wake=None, reason="")
        return DeliveryStep(settled, entries)
    if delivery.stage is Stage.TRIAL:
        failed = now.failed("the device rolled back", is_final=not situation.policy.offers_after_rollback)
        return DeliveryStep(failed.delivery, (*entries, *failed.entries))
    # The device left its target by itself. It gets the release again, but not more often than after failed tries.
    if delivery.stage is Stage.SETTLED:
        reason = "the device no longer runs the release"
        return DeliveryStep(now.stop(reason) if now.is_given_up(target) else now.fail(reason), entries)
    return DeliveryStep(known, entries)


def _entries_about(situation: _DeliverySituation, event: Reported) -> tuple[EntryFacts, ...]:
    """Return the log entry about a running image.

    Returns an empty result if the log already has an entry with evidence of an equal or higher level.
    """
    delivery, target = situation.delivery, situation.delivery.target

    if event.release is None:
        if event.image == delivery.running:
            return ()
        text = f"the device runs an image that no release has: SHA-256 {event.image.hex()}"
        return (EntryFacts(EntryKind.WARNING, image=event.image, text=text),)

    # An image that is logged already is logged again only if evidence of level A or C follows a claim of level B.
    is_logged = delivery.logged is not None and delivery.logged[0] == event.image
    if delivery.logged and is_logged and EvidenceLevel.B in (event.level, delivery.logged[1]):
        is_logged = event.level is EvidenceLevel.B
    if is_logged and not event.is_reinstalled:
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


_ALWAYS: Mapping[type, Callable[..., DeliveryStep]] = {Planned: _planned, Reported: _reported}
_DURING_TRY: Mapping[type, Callable[..., DeliveryStep]] = {
    Progress: _progress,
    Outcome: _outcome,
    Postponed: _postponed,
    Timeout: _timeout,
}
_AT: Mapping[Stage, Mapping[type, Callable[..., DeliveryStep]]] = {
    Stage.SETTLED: {},
    Stage.OFFERED: {Offered: _offered, **_DURING_TRY},
    Stage.TRANSFER: _DURING_TRY,
    Stage.TRIAL: {Outcome: _outcome, Timeout: _timeout},
    Stage.POSTPONED: {Timeout: _timeout, Retried: _retried},
    Stage.PAUSED: {Timeout: _timeout, Retried: _retried},
    Stage.STOPPED: {Retried: _retried},
}
_RULES: Mapping[tuple[Stage, type], Callable[..., DeliveryStep]] = {
    (stage, event): rule for stage, rules in _AT.items() for event, rule in {**_ALWAYS, **rules}.items()
}
"""The rule for each event in each stage; an event without a rule changes nothing."""
