"""A delivery: the update of one component of a device to its target release.

The module defines the states and the events of a delivery. `blockota.model.target.choose` chooses the target, and
`blockota.model.delivery_rules.advance` is the state machine. While `Delivery.offer` is not None, a face (a gateway's
interface to devices) offers this target to the device.

The state follows from the reports of the device. A completed transfer does not count as an installation, and a device's
claim of success does not count either. An installation is logged only after the device has reported that it runs and
has confirmed the image.

=============  =========================================================================================
Stage          Meaning
=============  =========================================================================================
``settled``    the device runs its target, or has no target
``offered``    the target is offered, and the device has not begun to fetch the image
``transfer``   the device fetches the image, or has the image and does not run it yet
``trial``      the device runs the image or claims an installation, but has not confirmed the image
``postponed``  the device has postponed the update to `Delivery.wake`
``paused``     a try has failed, and the next try begins at `Delivery.wake`
``stopped``    no tries are left, or the device rolled back: nothing is offered until an operator retries
=============  =========================================================================================

If a target is withheld, for example while a daily window is closed, the stage and the number of tries do not change.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from blockota.model.receipt import EntryKind, EvidenceLevel, ReleaseId

_JOB_BITS = 31
"""The number of bits of a job's number. SWUpdate reads the number as a signed 32-bit integer and misreads larger
numbers."""


NO_REASON = "the device gives no reason"


class Stage(StrEnum):
    """The stage of a delivery. The module's docstring describes the stages."""

    SETTLED = "settled"
    OFFERED = "offered"
    TRANSFER = "transfer"
    TRIAL = "trial"
    POSTPONED = "postponed"
    PAUSED = "paused"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Target:
    """The release that a component of a device must run.

    Attributes:
        release: the release.
        image: SHA-256 of its image.
        order: number of the order that chose the release; None if the group's policy chose it.
    """

    release: ReleaseId
    image: bytes
    order: int | None = None

    def is_same_release(self, other: Target | None) -> bool:
        """Whether another target has the same release and the same image. The orders of the targets can differ."""
        return other is not None and (self.release, self.image) == (other.release, other.image)


@dataclass(frozen=True)
class DeliveryPolicy:
    """The limits of deliveries to the devices of a group, from the settings.

    Attributes:
        pauses: seconds to wait after each failed try. The number of tries is one more than the number of pauses.
        postponements: the number of times that a device may postpone one target.
        longest_postponement: the total number of seconds by which a device may postpone one target.
        late_after: the number of seconds in which the device should begin to fetch an offered image. After this time,
            the offer is logged as late.
        transfer_time: the number of seconds that a transfer may last without progress. After this time, the transfer
            counts as failed.
        trial_time: the number of seconds in which the device must confirm an image on trial. After this time, the trial
            counts as failed.
        offers_after_rollback: whether a release is offered again to a device that rolled back from it.
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
        given_up: former targets for which no tries are left. An operator's retry or a new order allows new tries.
        running: SHA-256 of the image that the device reported last; None before its first report.
        logged: image and evidence level of the newest installation in the log; None without an installation.
        installed: digests of the releases whose installation is logged with evidence of level A or C.
        tries: the number of failed tries of the current target.
        attempt: a counter of the tries of all targets. The job number of a try is derived from this counter.
        offered_at: Unix time at which the device was notified of the offer; None before the notification.
        postponements: the number of times that the device has postponed the current target.
        postponed_since: Unix time of the first postponement.
        wake: Unix time at which a `Timeout` is due; None if no timeout is set.
        received: number of bytes of the image that the device has received; 0 if the device reports no number.
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
        """The target that a face offers to the device now; None if nothing is offered."""
        is_open = self.stage in (Stage.OFFERED, Stage.TRANSFER) and not self.is_withheld
        return self.target if is_open else None

    @property
    def job(self) -> int:
        """The number of the current try; 0 without a target.

        A repeated offer of the same try has the same number. A face sends the number to the device. An answer with a
        different number is about a different try.
        """
        if self.target is None:
            return 0
        named = b"%b %d" % (self.target.release.digest, self.attempt)
        # From 1, because 0 stands for a delivery without a target.
        return int.from_bytes(hashlib.sha256(named).digest()) % ((1 << _JOB_BITS) - 1) + 1

    def as_fields(self) -> dict[str, Any]:
        """Return the JSON object of the delivery, as in ``gateway devices --json``."""
        target: dict[str, Any] = {"target": None, "image": None, "order": None}
        if self.target:
            release, image = str(self.target.release), self.target.image.hex()
            target = {"target": release, "image": image, "order": self.target.order}

        return {
            "stage": str(self.stage),
            "running": self.running.hex() if self.running else None,
            **target,
            "job": self.job or None,
            "tries": self.tries,
            "received": self.received,
            "wake": self.wake,
            "reason": self.reason or None,
        }

    def ended_by(self, job: int, reason: str) -> bool:
        """Whether an answer about a failed try repeats the answer that already ended the last try.

        Args:
            job: the number of the try, as the answer states it.
            reason: the reason for the failure, as the answer states it.
        """
        is_over = self.stage in (Stage.PAUSED, Stage.STOPPED) and self.reason == (reason or NO_REASON)
        return is_over and job == replace(self, attempt=self.attempt - 1).job


@dataclass(frozen=True)
class Planned:
    """The target of the component was chosen again.

    Attributes:
        target: the release that the component must run; None if no target exists.
        is_withheld: whether the target must not be offered now.
        why: the reason for the choice.
    """

    target: Target | None
    is_withheld: bool = False
    why: str = ""


@dataclass(frozen=True)
class Reported:
    """The device reports its running image.

    Attributes:
        image: SHA-256 of the image.
        release: the release with this image; None if no known release has this image.
        level: evidence level of the report.
        is_confirmed: whether the device has confirmed the image, so that it does not roll back by itself.
        counter: the counter in the device's statement.
        statement: the signed statement of the device, for evidence level A.
        is_reinstalled: whether the face has just written the image to the flash.
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
    """The device reports whether its try succeeded.

    A success is only a claim until the device reports the running image.

    Attributes:
        succeeded: whether the device states that the image is installed.
        reason: the reason for a failure.
        is_refusal: whether the device refuses the image, so that another try is useless.
    """

    succeeded: bool
    reason: str = ""
    is_refusal: bool = False


@dataclass(frozen=True)
class Postponed:
    """The device postpones the update.

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
    """The time `Delivery.wake` has been reached."""


@dataclass(frozen=True)
class Retried:
    """An operator requests new tries."""


Event = Planned | Reported | Offered | Progress | Outcome | Postponed | Timeout | Retried


@dataclass(frozen=True)
class EntryFacts:
    """The facts of a log entry, except the facts that all entries of a device have in common.

    Attributes:
        kind: the kind of the entry.
        release: the release that the entry is about; None if no release has the image.
        image: SHA-256 of the image.
        previous: SHA-256 of the image that the device ran before its running image; None if this image is not known, or
            if the entry is not about a running image.
        level: the evidence level of an entry about a running image, a device's event or a signed postponement; None for
            all other entries.
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
