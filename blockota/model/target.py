"""Chooses the release that a component of a device must run. Pure.

`choose` decides in this order:

1. Of the orders for the device, only orders with an open time window count. The newest of these orders determines the
   target, if the release of the order may be installed.
2. Otherwise, the policy of the group determines the target. `Mode.AUTO` chooses the newest release that may be
   installed. This release must come from the producer of the release that the device runs. `Mode.ORDERED` chooses no
   release.
3. The chosen release can be withheld for a time: while the device is banned, while the group or the contract is paused,
   or while the daily window of the group is closed. Withholding a release does not change the number of its failed
   tries.

A release may be installed if it meets five conditions: it is active; it is not below the floor; its image is proven;
the device meets the requirements in its manifest; and it does not replace a newer release. The last condition has one
exception: the newest active release that is not below the floor may replace a revoked release, even a newer one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from blockota.model.container import FACES, Container, checks_for
from blockota.model.delivery import DeliveryPolicy, Target
from blockota.model.manifest import NO_REQUIREMENTS, Requirements
from blockota.model.order import Order, OrderStatus
from blockota.model.receipt import ReleaseId
from blockota.model.release import Version, show_time

_DAY = 86_400


@dataclass(frozen=True, order=True)
class Component:
    """A product on the list of a Spec.

    The releases of the product update one component of the Spec's devices.

    Attributes:
        chain_id: the id of the producer chain.
        contract: address of the BlockOTA contract, checksummed.
        product: name of the product.
    """

    chain_id: int
    contract: str
    product: str

    @classmethod
    def of(cls, release: ReleaseId) -> Component:
        """Return the component that a release updates."""
        return cls(release.chain_id, release.contract, release.product)

    def release(self, version: Version) -> ReleaseId:
        """Return the name of a release of the product."""
        return ReleaseId(self.chain_id, self.contract, self.product, version)


@dataclass(frozen=True)
class Candidate:
    """A release that a device could run.

    Attributes:
        release: the release.
        image: SHA-256 of its image.
        active_from: Unix time before which the release must not be installed.
        is_revoked: whether its vendor revoked the release.
        requires: what the release requires of a device.
        container: the container of the release's image.
        is_proven: whether the gateway has the release's image, and the image passed the checks.
    """

    release: ReleaseId
    image: bytes
    active_from: int = 0
    is_revoked: bool = False
    requires: Requirements = NO_REQUIREMENTS
    container: Container = Container.STM32
    is_proven: bool = True


@dataclass(frozen=True)
class ProductFacts:
    """A product that a Spec lists for updates, with the product's releases.

    Attributes:
        component: the product.
        candidates: all its releases, in ascending order of their versions.
        floor: the lowest version that may be installed; None if all versions may be.
        withheld: why the releases are not offered now, such as a paused contract; empty if they are offered.
    """

    component: Component
    candidates: tuple[Candidate, ...]
    floor: Version | None = None
    withheld: str = ""


@dataclass(frozen=True)
class DailyWindow:
    """A daily time window in UTC in which devices are updated.

    Attributes:
        start: seconds after midnight.
        end: seconds after midnight. If `end` is less than `start`, the window ends on the next day.
    """

    start: int
    end: int

    def is_open(self, now: int) -> bool:
        """Whether a Unix time is in the window."""
        return (now - self.start) % _DAY < ((self.end - self.start) % _DAY or _DAY)

    def next_change(self, now: int) -> int:
        """Return the next Unix time at which the window opens or closes."""
        return min(now + ((edge - now - 1) % _DAY) + 1 for edge in (self.start, self.end))


class Mode(StrEnum):
    """The way in which releases are chosen for the devices of a group."""

    AUTO = "auto"
    """A device gets the newest release at once."""
    ORDERED = "ordered"
    """A device gets a release only by an order of an operator."""


@dataclass(frozen=True)
class GroupPolicy:
    """The rules for updating the devices of a group, from the settings.

    Attributes:
        mode: whether an order is required to install a release.
        windows: the times of the day for updates; empty if updates are allowed at any time.
        allow_downgrade: whether an older release may replace a newer release that is not revoked.
        configurations: names of products whose releases are configurations, in addition to all products with names that
            end in ``-cfg``.
        delivery: the limits of a delivery.
    """

    mode: Mode = Mode.AUTO
    windows: tuple[DailyWindow, ...] = ()
    allow_downgrade: bool = False
    configurations: frozenset[str] = frozenset()
    delivery: DeliveryPolicy = field(default_factory=DeliveryPolicy)

    def is_configuration(self, product: str) -> bool:
        """Whether the images of a product are configurations."""
        return product.endswith("-cfg") or product in self.configurations


@dataclass(frozen=True)
class Condition:
    """The known facts about a device.

    Attributes:
        running: SHA-256 of the image that the device reported for the component; None before its first report.
        hardware: hardware revision that the device reported; None before such a report.
        face: name of the only face that serves the device; empty if each face may serve the device.
        is_banned: whether the device is banned.
        is_paused: whether an operator paused the device or its group.
    """

    running: bytes | None = None
    hardware: str | None = None
    face: str = ""
    is_banned: bool = False
    is_paused: bool = False


@dataclass(frozen=True)
class Choice:
    """The result of choosing the target of a component.

    Attributes:
        target: the chosen release, which the device may already run; None if no release was chosen.
        why: the reason for the choice, as text for an operator.
        is_withheld: whether the release must not be offered now.
        changes_at: the next Unix time at which the choice may change; None if time alone does not change it.
    """

    target: Target | None
    why: str
    is_withheld: bool = False
    changes_at: int | None = None


def choose(
    device: Condition, products: Sequence[ProductFacts], orders: Sequence[Order], *, policy: GroupPolicy, now: int
) -> Choice:
    """Choose the target of one component of a device.

    Args:
        device: the known facts about the device.
        products: the products on the list of the device's Spec that update the component, at most one of each producer.
        orders: the orders for the device.
        policy: the policy of the device's group.
        now: Unix time.
    """
    running = [(product, one) for product in products for one in product.candidates if one.image == device.running]
    # Of releases with equal images, one that is not revoked.
    found = max(running, key=lambda pair: (not pair[1].is_revoked, pair[1].release.version), default=None)
    choosing = _Choosing(products, policy, now, device, found)
    choice = replace(choosing.by_order(orders), changes_at=min(choosing.changes(orders), default=None))
    withheld = choosing.withheld(choice.target)
    if device.is_banned:
        withheld = "the device is banned"
    elif device.is_paused:
        withheld = "an operator paused the device or its group"
    return replace(choice, is_withheld=True, why=withheld) if withheld else choice


@dataclass(frozen=True)
class _Choosing:
    products: Sequence[ProductFacts]
    policy: GroupPolicy
    now: int
    device: Condition
    running: tuple[ProductFacts, Candidate] | None

    def by_order(self, orders: Sequence[Order]) -> Choice:
        """Choose the release of the newest open order; if the order cannot be carried out, apply the group's policy."""
        listed = {product.component: product for product in self.products}
        opened = [one for one in orders if one.status is OrderStatus.OPEN and one.not_before <= self.now < one.deadline]
        current = [one for one in opened if Component.of(one.release) in listed]
        if not current:
            return self.by_policy()

        order = max(current, key=lambda one: one.number)

        product = listed[Component.of(order.release)]
        named = next((one for one in product.candidates if one.release == order.release), None)
        refusal = self._refusal_of_order(named, product) if named else "the contract has no such release"
        if named and not refusal:
            return Choice(Target(named.release, named.image, order.number), f"order {order.number}")

        otherwise = self.by_policy()
        return replace(otherwise, why=f"order {order.number} for {order.release}: {refusal}; {otherwise.why}")

    def by_policy(self) -> Choice:
        """Choose the newest release that may be installed, if the group's policy does not require an order."""
        if self.policy.mode is Mode.ORDERED:
            return Choice(None, "no order is open")

        product = self.running[0] if self.running else self._only_product()
        if product is None:
            names = ", ".join(sorted({one.component.product for one in self.products})) or "no product"
            return Choice(
                None, f"an order is needed: the device's Spec lists {names}, and the device runs none of them"
            )

        installed = self._installed(product)
        refusals = list[str]()
        for one in reversed(product.candidates):
            refusal = self._refusal(one, product)
            is_installed = installed is not None and one.image == installed.image
            if is_installed and not one.is_revoked and (not refusal or not self.policy.allow_downgrade):
                return Choice(Target(one.release, one.image), f"the device runs {one.release.version}")
            if not refusal:
                return Choice(Target(one.release, one.image), "the newest release that may be installed")
            refusals.append(f"{one.release}: {refusal}")

        return Choice(None, refusals[0] if refusals else f"{product.component.product} has no release")

    def changes(self, orders: Sequence[Order]) -> Iterator[int]:
        """Yield the Unix times at which the choice may change."""
        edges = [edge for order in orders for edge in (order.not_before, order.deadline)]
        edges += [one.active_from for product in self.products for one in product.candidates]
        yield from (edge for edge in edges if edge > self.now)
        yield from (window.next_change(self.now) for window in self.policy.windows)

    def withheld(self, target: Target | None) -> str:
        """Return why a release is not offered now; empty if it is offered."""
        windows = self.policy.windows
        if windows and not any(window.is_open(self.now) for window in windows):
            opening = min(window.next_change(self.now) for window in windows)
            return f"the daily window opens on {show_time(opening)}"
        if target is None or (self.running and self.running[1].image == target.image):
            return ""
        component = Component.of(target.release)
        return next(product.withheld for product in self.products if product.component == component)

    def _installed(self, product: ProductFacts) -> Candidate | None:
        """Return the release of a product that the device runs; None if the device runs no release of the product."""
        return self.running[1] if self.running and self.running[0] is product else None

    def _only_product(self) -> ProductFacts | None:
        published = [product for product in self.products if product.candidates] or self.products
        return published[0] if len(published) == 1 else None

    def _refusal_of_order(self, one: Candidate, product: ProductFacts) -> str:
        """Return why an order for a release cannot be carried out; empty if the order can be carried out."""
        installed = self._installed(product)
        if installed and one.image == installed.image and not one.is_revoked:
            return ""

        if refusal := self._refusal(one, product):
            return refusal
        if installed is None or self.policy.allow_downgrade or one.release.version >= installed.release.version:
            return ""

        if not installed.is_revoked:
            return f"the device runs the newer version {installed.release.version}"
        newer = [other for other in product.candidates if other.release.version > one.release.version]
        is_newest = all(self._refusal(other, product) for other in newer)
        return "" if is_newest else "the device runs a revoked release, which only the newest active one replaces"

    def _refusal(self, one: Candidate, product: ProductFacts) -> str:
        """Return why a release may not be installed on the device; empty if the release may be installed."""
        return next(self._refusals(one, product), "")

    def _refusals(self, one: Candidate, product: ProductFacts) -> Iterator[str]:
        if one.is_revoked:
            yield "the release is revoked"
        if one.active_from > self.now:
            yield f"the release is active from {show_time(one.active_from)}"
        if product.floor and one.release.version < product.floor:
            yield f"the release is below the lowest version allowed, {product.floor}"
        if not one.is_proven:
            yield "the gateway has not proven its image yet"

        device = self.device
        if device.face in FACES and not checks_for(one.container, device.face):
            yield f"its image is a file for the container {one.container}, which the face {device.face} cannot install"
        if one.requires.hardware and device.hardware not in one.requires.hardware:
            wanted = " or ".join(one.requires.hardware)
            yield f"it is for the hardware {wanted}, and the device's is {device.hardware or 'not reported'}"

        installed, least = self._installed(product), one.requires.installed
        if least and (installed is None or installed.release.version < least):
            present = installed.release.version if installed else "an unknown version"
            yield f"it needs at least {least} installed, and the device runs {present}"
