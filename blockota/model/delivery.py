"""One delivery: bring a device to the release that it is to run. The states and events of each component of a device.

The decision what a device is to run is `blockota.model.target.choose`; `blockota.model.delivery_rules.advance` is the
state machine. Nothing is sent from here: a face offers `Delivery.offer` to the device as long as it is not None.

Every state is derived from reports of the device. That an image was sent, and that a device claims to have installed
it, changes what is offered, but only the report that the device runs the image, and has confirmed it, makes an entry of
an installation.

=============  =========================================================================================
Stage          Meaning
=============  =========================================================================================
``settled``    the device runs its target, or has none
``offered``    the device has not begun to fetch the image
``transfer``   the device fetches the image, or has the image and does not run it yet
``trial``      the device runs the image, or states that it installed it, and has not confirmed it
``postponed``  the device asked for a later time, until `Delivery.wake`
``paused``     a try failed, the next one begins at `Delivery.wake`
``stopped``    no tries are left, or the device rolled back: nothing is offered until an operator retries
=============  =========================================================================================

A target that is withheld, for example while a daily window is closed, keeps its stage and its tries.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from blockota.model.receipt import EntryKind, EvidenceLevel, ReleaseId

_JOB_BITS = 31
"""Bits of a job's number: SWUpdate reads it as a signed 32-bit integer, and takes another number if it is larger."""


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
        late_after: seconds after which an offer that the device does not take is logged as late.
        transfer_time: seconds without progress after which a transfer counts as failed.
        trial_time: seconds after which an image that the device does not confirm counts as failed.
        offers_after_rollback: whether a device that rolled back is offered the same release again.
        is_configuration: whether the images of this component are configurations.
    """

    pauses: tuple[int, ...] = (60, 600, 3600)
    postponements: int = 3
    longest_postponement: int = 7 * 86_400
    late_after: int = 7 * 86_400
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
        is_withheld: whether the target must not be offered now.
        given_up: former targets for which no tries are left, until an operator retries or orders the release anew.
        running: SHA-256 of the image that the device reported last; None before its first report.
        logged: the newest entry of an installation, as image and level; None without one.
        installed: digests of the releases with an entry of an installation, claimed ones not counted.
        tries: failed tries of the present target.
        attempt: a counter of all tries of all targets, which gives each try its own job number.
        offered_at: Unix time at which the device was notified of the offer; None before.
        postponements: postponements of the present target by the device.
        postponed_since: Unix time of the first of them.
        wake: Unix time at which a `Timeout` is due; None for none.
        received: bytes of the image that the device has received, as far as it reports them.
        reason: why the delivery is postponed, paused or stopped.
    """

    stage: Stage = Stage.SETTLED
    target: Target | None = None
    is_withheld: bool = False
    given_up: frozenset[Target] = frozenset()
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
        is_open = self.stage in (Stage.OFFERED, Stage.TRANSFER) and not self.is_withheld
        return self.target if is_open else None

    @property
    def job(self) -> int:
        """The number of the present try. The same try has the same number whenever it is offered; 0 without a target.

        A face passes the number to the device. An answer with another number is about another try.
        """
        if self.target is None:
            return 0
        named = b"%b %d" % (self.target.release.digest, self.attempt)
        return int.from_bytes(hashlib.sha256(named).digest()) % ((1 << _JOB_BITS) - 1) + 1


@dataclass(frozen=True)
class Planned:
    """The target of the device was decided anew.

    Attributes:
        target: the release that the device is to run.
        is_withheld: whether the release must not be offered now.
        why: the reason of the decision.
    """

    target: Target | None
    is_withheld: bool = False
    why: str = ""


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
        is_reinstalled: whether the image was written anew, after another try had destroyed it.
    """

    image: bytes
    release: ReleaseId | None
    level: EvidenceLevel = EvidenceLevel.B
    is_confirmed: bool = True
    counter: int | None = None
    statement: bytes | None = None
    is_reinstalled: bool = False


@dataclass(frozen=True)
class Offered:
    """The device was notified of the offer."""


@dataclass(frozen=True)
class Progress:
    """The device received a part of the image.

    Attributes:
        received: bytes so far.
    """

    received: int = 0


@dataclass(frozen=True)
class Outcome:
    """The device states how its try ended. A success is only a claim until the device reports the running image.

    Attributes:
        succeeded: whether the device states that the image is installed.
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
