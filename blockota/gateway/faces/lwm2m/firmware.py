"""Decides what to do with the firmware object of a device (LwM2M object 5), from the reports of the device. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum, auto

from blockota.gateway.core import DeviceOffer
from blockota.model.delivery import Delivery, Stage


class FirmwareState(IntEnum):
    """The state of the firmware object, resource 5/0/3."""

    IDLE = 0
    DOWNLOADING = 1
    DOWNLOADED = 2
    UPDATING = 3


class FirmwareAction(Enum):
    """The next action of a face on the firmware object."""

    NOTHING = auto()
    SEND = auto()  # write the URI, or the image
    WATCH = auto()  # read the state again soon
    EXECUTE = auto()
    RESET = auto()  # write an empty URI, which resets the object to idle


SUCCESS, UNSUPPORTED_PROTOCOL = 1, 9
RESULTS = {
    2: "not enough flash for the image",
    3: "out of memory during the download",
    4: "connection lost during the download",
    5: "the integrity check of the image failed",
    6: "unsupported type of image",
    7: "the URI is not valid",
    8: "the update failed",
    UNSUPPORTED_PROTOCOL: "unsupported protocol for the download",
    10: "the update was cancelled",
    11: "the update was deferred",
}
"""The failures in resource 5/0/5 that LwM2M 1.0 and 1.1 define."""
REFUSALS = {2, 6}
"""Failures after which another try of the same image is useless."""
UNABLE_TO_PULL = {7, UNSUPPORTED_PROTOCOL}
"""Failures after which the image is pushed."""
PUSH_ONLY = 1
"""The value of resource 5/0/9 for a device that cannot pull."""


@dataclass(frozen=True)
class FirmwareView:
    """The values that a device reports in objects 3 and 5, and in BlockOTA's own object 26241.

    Attributes:
        state: resource 5/0/3.
        result: resource 5/0/5.
        version: firmware version, 3/0/3.
        hardware: hardware version, 3/0/18.
        package_version: version of the downloaded image, 5/0/7.
        delivery: whether the device can pull images, receives pushed images, or supports both, 5/0/9.
        image: SHA-256 of the running image, 26241/0/0, as 32 bytes.
        statement: signed statement about the running image, 26241/0/2.
    """

    state: int = FirmwareState.IDLE
    result: int = 0
    version: str | None = None
    hardware: str | None = None
    package_version: str | None = None
    delivery: int | None = None
    image: bytes | None = None
    statement: bytes | None = None


def was_told(delivery: Delivery) -> bool:
    """Whether the device was notified of the current try.

    A device sets its result to 0 when it is notified of an image. Before the notification, its state and result
    describe an earlier try.
    """
    is_open = delivery.stage is Stage.OFFERED and delivery.offered_at is not None
    return is_open or delivery.stage in (Stage.TRANSFER, Stage.TRIAL)


def is_running_confirmed(view: FirmwareView, delivery: Delivery) -> bool:
    """Whether the image that a device runs now is certain to stay installed.

    A device that is updating may run the old or the new image, and may roll back. A device that has not begun to
    install the new image still runs the previous image, and does not roll back.
    """
    if delivery.stage is Stage.TRIAL:
        return view.state == FirmwareState.IDLE
    return view.state != FirmwareState.UPDATING


def failure_of(view: FirmwareView, offer: DeviceOffer | None, delivery: Delivery) -> str:
    """Return why the current try failed on the device; empty if the try did not fail."""
    if not was_told(delivery):
        return ""
    if view.state == FirmwareState.IDLE and view.result > SUCCESS:
        return f"the device reports: {RESULTS.get(view.result, f'update result {view.result}')}"
    if view.state == FirmwareState.DOWNLOADED and offer and view.package_version:
        wanted = str(offer.release.version)
        if view.package_version != wanted:
            return f"the device downloaded version {view.package_version} instead of {wanted}"
    return ""


def is_lost(view: FirmwareView, delivery: Delivery) -> bool:
    """Whether a device that registers again has lost the offered image, for example by a restart.

    A lost image counts as a failed try. Without this rule, a device that restarts in each download would try forever.
    """
    is_idle = view.state == FirmwareState.IDLE and view.result <= SUCCESS
    return is_idle and was_told(delivery) and delivery.stage is not Stage.TRIAL


def is_waiting_for_blocks(view: FirmwareView, delivery: Delivery) -> bool:
    """Whether a device has received a part of the image, and waits for further blocks until a timeout."""
    return view.state == FirmwareState.DOWNLOADING and was_told(delivery) and delivery.stage is not Stage.TRIAL


def next_action(view: FirmwareView, offer: DeviceOffer | None, delivery: Delivery, *, now: int) -> FirmwareAction:
    """Decide the next action.

    Args:
        view: the last report of the device.
        offer: the offer of the image that the device must install; None if no offer exists.
        delivery: state of the device's firmware in the core.
        now: Unix time.
    """
    if view.state == FirmwareState.UPDATING or delivery.stage is Stage.TRIAL:
        return FirmwareAction.WATCH
    if view.state == FirmwareState.IDLE:
        return FirmwareAction.SEND if offer else FirmwareAction.NOTHING
    # An image that was withdrawn, or that another server sent, is not installed.
    if offer is None or not was_told(delivery):
        return FirmwareAction.RESET
    if view.state == FirmwareState.DOWNLOADING:
        return FirmwareAction.WATCH
    if offer.not_before is not None and now < offer.not_before:
        return FirmwareAction.WATCH
    return FirmwareAction.EXECUTE
