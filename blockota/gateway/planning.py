"""Decides which images the devices of a site must run, from the facts of one reading of the chains.

A device has one slot with the name ``""`` for its firmware, and one slot for each configuration product on its Spec's
list. A device runs only one firmware. The firmware is therefore chosen among the releases of all firmware products on
the Spec's list.

The choice is computed once for all devices with the same Spec, group, orders and running image.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from blockota.gateway.facts import ComponentFacts, KnownDevice, ProvenImage, ReleaseFacts, SiteFacts
from blockota.model.container import Container
from blockota.model.delivery import DeliveryPolicy, Target
from blockota.model.manifest import NO_REQUIREMENTS
from blockota.model.order import Order
from blockota.model.receipt import ReleaseId
from blockota.model.release import Status
from blockota.model.target import Candidate, Choice, Component, Condition, GroupPolicy, ProductFacts, choose

FIRMWARE = ""
"""The name of the slot for the firmware."""
_DEFAULT = GroupPolicy()


@dataclass(frozen=True)
class Slot:
    """A component of the devices of one Spec and group.

    Attributes:
        name: `FIRMWARE`, or the name of a configuration product.
        products: the products whose images can be installed in the slot.
        policy: the policy of the group.
        releases: the releases by the SHA-256 of their images.
        limits: the limits of the slot's deliveries.
    """

    name: str
    products: tuple[ProductFacts, ...]
    policy: GroupPolicy
    releases: Mapping[bytes, tuple[ReleaseId, ...]] = field(compare=False, repr=False, default_factory=dict)
    limits: DeliveryPolicy = field(compare=False, repr=False, default_factory=DeliveryPolicy)

    @classmethod
    def of(cls, name: str, products: tuple[ProductFacts, ...], policy: GroupPolicy) -> Slot:
        """Create a slot, with the releases by image."""
        releases: defaultdict[bytes, tuple[ReleaseId, ...]] = defaultdict(tuple)
        for product in products:
            for one in product.candidates:
                releases[one.image] += (one.release,)
        limits = replace(policy.delivery, is_configuration=name != FIRMWARE)
        return cls(name, products, policy, dict(releases), limits)

    def has(self, product: str) -> bool:
        """Whether a product's images can be installed in this slot."""
        return any(one.component.product == product for one in self.products)

    def recognise(self, image: bytes, target: Target | None) -> ReleaseId | None:
        """Return the release of a reported image; None if no release has this image.

        If several releases have the image, the release of the target is returned. If the target has another image, the
        newest release is returned.
        """
        found = self.releases.get(image, ())
        if target and target.release in found:
            return target.release
        return max(found, key=lambda release: release.version, default=None)

    def image_of(self, version: str, running: bytes | None) -> bytes | None:
        """Return the SHA-256 of the image of a version; None if no image or several images have this version.

        The products of the running image are searched first, and then all products of the slot.
        """
        known = self.releases.get(running, ()) if running else ()
        components = {Component.of(release) for release in known}
        found = set[tuple[Component, bytes]]()
        for product in self.products:
            images = {one.image for one in product.candidates if str(one.release.version) == version}
            found |= {(product.component, image) for image in images}
        # Several products may use the same version number.
        images = {image for component, image in found if component in components} or {image for _, image in found}
        return images.pop() if len(images) == 1 else None


class Plan:
    """Chooses the targets of a site's devices.

    Args:
        facts: the facts.
        policies: the policies of the groups, by name.
        previous: the previous plan. Unchanged slots are the same objects as in the previous plan, so a change is found
            by comparing object identities.

    Attributes:
        known_slots: the slots that were requested so far, by Spec and group.
    """

    def __init__(self, facts: SiteFacts, policies: Mapping[str, GroupPolicy], *, previous: Plan | None = None) -> None:
        self.facts, self._policies = facts, policies
        self._products = {name: _product(one) for name, one in facts.components.items()}
        self._before = previous.known_slots if previous else {}
        self.known_slots: dict[tuple[bytes, str], Mapping[str, Slot]] = {}
        releases = (one for component in facts.components.values() for one in component.releases)
        self._images = {one.image.sha256: one.image for one in releases if one.image}
        self._choices: dict[tuple[object, ...], _KnownChoice] = {}

        orders: defaultdict[int, tuple[Order, ...]] = defaultdict(tuple)
        for one in facts.orders:
            for number in one.members:
                orders[number] += (one.order,)
        self._orders = dict(orders)

    def is_of(self, facts: SiteFacts, policies: Mapping[str, GroupPolicy]) -> bool:
        """Whether this plan was made from these facts and policies, apart from the block and the time.

        Mappings are compared by identity, because comparing all devices of a site would take long. The service reuses
        unchanged mappings.
        """
        mine = self.facts
        parts = ((mine.devices, facts.devices), (mine.specs, facts.specs), (mine.components, facts.components))
        others = (mine.orders, mine.is_banned, self._policies), (facts.orders, facts.is_banned, policies)
        return all(one is other for one, other in parts) and others[0] == others[1]

    def device(self, number: int) -> KnownDevice | None:
        """Return a device of the site."""
        return self.facts.devices.get(number)

    def products(self, device: KnownDevice | None) -> tuple[ComponentFacts, ...]:
        """Return the facts of the products that a device's Spec lists."""
        spec = self.facts.specs.get(device.spec_hash) if device else None
        known = self.facts.components
        return tuple(known[one] for one in spec.components if one in known) if spec else ()

    def slots(self, device: KnownDevice) -> Mapping[str, Slot]:
        """Return the components of a device, by name."""
        key = device.spec_hash, device.group
        if key not in self.known_slots:
            made = self._make_slots(*key)
            # A slot that did not change stays the same object.
            before = self._before.get(key, {})
            self.known_slots[key] = {
                name: before[name] if before.get(name) == slot else slot for name, slot in made.items()
            }
        return self.known_slots[key]

    def orders(self, number: int) -> tuple[Order, ...]:
        """Return the open orders for a device."""
        return self._orders.get(number, ())

    def image(self, sha256: bytes) -> ProvenImage | None:
        """Return a proven image."""
        return self._images.get(sha256)

    def choose(self, slot: Slot, condition: Condition, orders: tuple[Order, ...], now: int) -> Choice:
        """Choose the target of a component of a device."""
        key = id(slot), condition, tuple(one.number for one in orders)
        known = self._choices.get(key)
        # A choice is valid until its own next change.
        if known is None or now < known.made or (known.choice.changes_at or now + 1) <= now:
            choice = choose(condition, slot.products, orders, policy=slot.policy, now=now)
            known = self._choices[key] = _KnownChoice(choice, now)
        return known.choice

    def _make_slots(self, spec_hash: bytes, group: str) -> dict[str, Slot]:
        policy = self._policies.get(group, _DEFAULT)
        spec = self.facts.specs.get(spec_hash)
        products: defaultdict[str, tuple[ProductFacts, ...]] = defaultdict(tuple)
        for component in spec.components if spec else ():
            if component in self._products:
                name = component.product if policy.is_configuration(component.product) else FIRMWARE
                products[name] += (self._products[component],)
        return {name: Slot.of(name, found, policy) for name, found in products.items()}


@dataclass(frozen=True)
class _KnownChoice:
    choice: Choice
    made: int


def _product(facts: ComponentFacts) -> ProductFacts:
    """Convert the facts about a product into the form that `choose` needs."""
    ascending = tuple(sorted(map(_candidate, facts.releases), key=lambda one: one.release.version))
    floor = facts.product.minimum_version if facts.product else None
    return ProductFacts(facts.component, ascending, floor, facts.withheld)


def _candidate(facts: ReleaseFacts) -> Candidate:
    requires = facts.manifest.requires if facts.manifest else NO_REQUIREMENTS
    # The container is not read before the image is proven.
    container = facts.image.container if facts.image else Container.STM32
    return Candidate(
        release=facts.id,
        image=facts.release.sha256,
        active_from=facts.release.active_from,
        is_revoked=facts.release.status is Status.REVOKED,
        requires=requires,
        container=container,
        is_proven=facts.image is not None,
    )
