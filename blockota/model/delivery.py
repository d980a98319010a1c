"""One delivery brings a device to the release that it is to run.

The module has the states and events of each component. `blockota.model.target.choose` decides what a device is to run,
and `blockota.model.delivery_rules.advance` is the state machine. This module sends nothing: a face offers
`Delivery.offer` to the device as long as it is not None.

Every state is derived from reports of the device. A sent image, or a device's claim that it installed the image,
changes only what is offered. A log entry of an installation needs a report that the device runs the image and has
confirmed it.

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

If a target is withheld, for example while a daily window is closed, the delivery keeps its stage and its tries.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum

from blockota.model.receipt import EntryKind, EvidenceLevel, ReleaseId

_JOB_BITS = 31
"""The number of bits of a job's number. SWUpdate reads the number as a signed 32-bit integer and misreads larger
numbers."""


NO_REASON = "the device gives no reason"


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
        order: number of the order that chose the release; None if the group's policy chose it.
    """

    release: ReleaseId
    image: bytes
    order: int | None = None

    def is_same_release(self, other: Target | None) -> bool:
        """Whether another target is the same release, possibly under another order."""
        return other is not None and (self.release, self.image) == (other.release, other.image)


@dataclass(frozen=True)
class DeliveryPolicy:
    """The limits of deliveries to the devices of a group, from the settings.

    Attributes:
        pauses: seconds to wait after each failed try. There is one try more than pauses.
        postponements: how often a device may postpone one target.
        longest_postponement: the total number of seconds by which a device may postpone one target.
        late_after: the number of seconds after which an offer that the device has not taken is logged as late.
        transfer_time: the number of seconds without progress after which a transfer counts as failed.
        trial_time: the number of seconds after which an image that the device has not confirmed counts as failed.
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
        given_up: former targets without tries left. An operator's retry or a new order makes them possible again.
        running: SHA-256 of the image that the device reported last; None before its first report.
        logged: image and evidence level of the newest log entry of an installation; None without an entry.
        installed: digests of the releases with a log entry of an installation; claimed installations do not count.
        tries: the number of failed tries of the present target.
        attempt: a counter of the tries of all targets. It gives each try a job number of its own.
        offered_at: Unix time at which the device was notified of the offer; None before the notification.
        postponements: how often the device has postponed the present target.
        postponed_since: Unix time of the first postponement.
        wake: Unix time at which a `Timeout` is due; None if no timeout is set.
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
        """The target that a face offers to the device now; None for no offer."""
        is_open = self.stage in (Stage.OFFERED, Stage.TRANSFER) and not self.is_withheld
        return self.target if is_open else None

    @property
    def job(self) -> int:
        """The number of the present try; 0 without a target.

        A repeated offer of the same try has the same number. A face passes the number to the device. An answer with a
        different number is about a different try.
        """
        if self.target is None:
            return 0
        named = b"%b %d" % (self.target.release.digest, self.attempt)
        return int.from_bytes(hashlib.sha256(named).digest()) % ((1 << _JOB_BITS) - 1) + 1

    def ended_by(self, job: int, reason: str) -> bool:
        """Whether the last try ended with a given answer of the device, which the device then repeats.

        Args:
            job: number of the try.
            reason: the reason for its failure.
        """
        is_over = self.stage in (Stage.PAUSED, Stage.STOPPED) and self.reason == (reason or NO_REASON)
        return is_over and job == replace(self, attempt=self.attempt - 1).job


@dataclass(frozen=True)
class Planned:
    """The decision on the target of the device was made again.

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
        statement: the signed statement of the device, for evidence level A.
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
    """The device states how its try ended.

    A stated success is only a claim until the device reports the running image.

    Attributes:
        succeeded: whether the device states that the image is installed.
        reason: the reason for a failure.
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
    """The facts of a log entry that differ between the entries of one device.

    Attributes:
        kind: the kind of the entry.
        release: the release that the entry is about; None if no release has the image.
        image: SHA-256 of the image.
        previous: SHA-256 of the image that the device ran before. Only an entry about a running image has it.
        level: the evidence level. An entry about a running image has one; a signed postponement has level A.
        order: number of the order.
        counter: the device's counter.
        statement: the device's signed statement.
        text: the text of an event, postponement, refusal or warning; empty for other kinds.
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
