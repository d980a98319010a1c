"""Combine the records read from all chains with the images in the catalogue.

The results are the facts for the gateway's core, and a list of the files that the catalogue lacks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

from blockota.errors import BlockOTAError
from blockota.formats.delta import can_apply
from blockota.gateway.catalogue import ImageCatalogue, WantedFile
from blockota.gateway.facts import ComponentFacts, DeltaOffer, KnownDevice, ReleaseFacts, SiteFacts
from blockota.gateway.producer_chain import ProducerReading, ProductReading, is_active, manifest_of
from blockota.gateway.settings import GatewaySettings
from blockota.gateway.site_chain import SiteReading
from blockota.model.device import Ban, Device
from blockota.model.facts import Trust
from blockota.model.manifest import Manifest
from blockota.model.release import Release, Status, Version
from blockota.model.target import Component

_NEWEST = 3
"""The number of active releases of a product whose images are wanted without an order."""


@dataclass
class Assembly:
    """The assembled facts, and the faults found during the assembly.

    Attributes:
        catalogue: the images and manifests.
        facts: the chain facts for the gateway's core.
        wanted: the missing files, the most urgent first.
        kept: SHA-256 of the images that may be offered now or later.
        faults: why a product, release, delta or group cannot be offered; the key is its name. The name ``identity``
            stands for the gateway's own identity.
    """

    catalogue: ImageCatalogue
    facts: SiteFacts = field(default_factory=SiteFacts)
    wanted: list[WantedFile] = field(default_factory=list)
    kept: set[bytes] = field(default_factory=set)
    faults: dict[str, str] = field(default_factory=dict)

    def assemble(self, site: SiteReading, producers: Sequence[ProducerReading], settings: GatewaySettings) -> SiteFacts:
        """Combine the readings of all chains with the images that were found so far."""
        ordered: dict[Component, set[Version]] = {}
        for one in site.orders:
            ordered.setdefault(Component.of(one.order.release), set()).add(one.order.release.version)
        components: dict[Component, ComponentFacts] = {}
        for component in sorted({one for spec in site.specs.values() for one in spec.components}):
            reading = next((one for one in producers if component in one.products), None)
            if reading is None:
                components[component] = ComponentFacts(component, None, "its producer is not followed, or lacks it")
                continue
            self._want(component, reading, ordered.get(component, set()))
            is_configuration = any(one.policy.is_configuration(component.product) for one in settings.groups)
            components[component] = self._component(component, reading, is_configuration=is_configuration)

        for reading in producers:
            self.faults |= reading.faults
        if site.obstacle:
            self.faults["identity"] = site.obstacle
        for name in site.unknown_lists:
            self.faults[f"group {name}"] = "the gateway does not have the list of its devices"

        self.facts = SiteFacts(
            block=site.block.number,
            time=_newest_time(site, producers),
            devices={number: known_device(one, site, settings) for number, one in site.devices.items()},
            specs=site.specs,
            components=components,
            orders=site.orders,
            is_banned=site.is_banned,
        )
        return self.facts

    def is_over(self, producers: Sequence[ProducerReading]) -> bool:
        """Whether a release without an image has become active since the facts were assembled."""
        for reading in producers:
            time = reading.position.block.time
            releases = (one for product in reading.products for one in self.facts.components[product].releases)
            if any(one.image is None and not one.is_active and is_active(one.release, time) for one in releases):
                return True
        return False

    def set_time(self, site: SiteReading, producers: Sequence[ProducerReading]) -> None:
        """Replace the block number and the time of the facts, and leave the other facts unchanged."""
        self.facts = replace(self.facts, block=site.block.number, time=_newest_time(site, producers))

    def _component(self, component: Component, reading: ProducerReading, *, is_configuration: bool) -> ComponentFacts:
        product = reading.products[component]
        time = reading.position.block.time

        releases = []
        for release in product.releases:
            facts = ReleaseFacts(component.release(release.version), release, is_active=is_active(release, time))
            if facts.is_active and not product.withheld:
                try:
                    facts = self._with_image(facts, component, reading, is_configuration=is_configuration)
                except BlockOTAError as error:
                    self.faults[str(facts.id)] = f"{error.what}: {error.why}"
            releases.append(facts)
        return ComponentFacts(component, product.product, product.withheld, tuple(releases))

    def _with_image(
        self, facts: ReleaseFacts, component: Component, reading: ProducerReading, *, is_configuration: bool
    ) -> ReleaseFacts:
        """Add the manifest and the proven image to the facts of a release.

        If the manifest of the release has not been found yet, neither is added.
        """
        manifest: Manifest | None = None
        if address := manifest_of(reading.products[component], facts.release):
            manifest = self.catalogue.manifest(facts.release, address)
            if manifest is None:
                return facts

        trust = Trust(component.chain_id, component.contract, reading.confirmations)
        answer = reading.answer(component, facts.release)
        image = self.catalogue.prove(answer, trust, manifest, is_configuration=is_configuration)
        if image and manifest:
            image = replace(image, deltas=tuple(self._deltas(facts, manifest)))
        return replace(facts, manifest=manifest, image=image)

    def _deltas(self, facts: ReleaseFacts, manifest: Manifest) -> Iterator[DeltaOffer]:
        """Yield the deltas that produce the release's image, if the library for deltas is installed."""
        for delta in manifest.deltas if can_apply() else ():
            try:
                if found := self.catalogue.prove_delta(facts.release, delta):
                    yield found
            except BlockOTAError as error:
                self.faults[f"the delta of {facts.id} from {delta.base_version}"] = f"{error.what}: {error.why}"

    def _want(self, component: Component, reading: ProducerReading, ordered: Collection[Version]) -> None:
        """List the files of a product that are not in the catalogue."""
        product = reading.products[component]
        releases = wanted_releases(product, ordered, time=reading.position.block.time)
        for release in releases:
            files = [WantedFile(component, release)]
            try:
                if address := manifest_of(product, release):
                    files.insert(0, WantedFile(component, release, address))
            except BlockOTAError as error:
                self.faults[f"{release.product} {release.version}"] = f"{error.what}: {error.why}"
            self.wanted += [one for one in files if not self.catalogue.has(one)]

        for release in releases:
            self._want_deltas(component, release, product)

        if product.ahead and not self.catalogue.has(ahead := WantedFile(component, product.ahead)):
            self.wanted.append(ahead)
        self.kept |= {one.sha256 for one in (*_usable(product), product.ahead) if one}

    def _want_deltas(self, component: Component, release: Release, product: ProductReading) -> None:
        """Add the missing deltas of a release, and their missing base images, to the list of wanted files."""
        try:
            address = manifest_of(product, release) if can_apply() else None
            manifest = self.catalogue.manifest(release, address) if address else None
        except BlockOTAError:  # reported with the image of the release
            return
        releases = {one.sha256: one for one in product.releases}
        for delta in manifest.deltas if manifest else ():
            base = WantedFile(component, releases[delta.base]) if delta.base in releases else None
            # The image of a revoked release is not served any more.
            if base and (base.release.status is Status.ACTIVE or self.catalogue.has(base)):
                # The small delta is searched before the image, because a found image is offered immediately.
                files = (WantedFile(component, release, delta=delta), base)
                self.kept |= {one.sha256 for one in files}
                missing = [one for one in files if not self.catalogue.has(one) and one not in self.wanted]
                image = WantedFile(component, release)
                place = self.wanted.index(image) if image in self.wanted else len(self.wanted)
                self.wanted[place:place] = [one for one in missing if one.delta]
                self.wanted += [one for one in missing if not one.delta]


def wanted_releases(product: ProductReading, ordered: Collection[Version], *, time: int) -> list[Release]:
    """Return the releases whose images the gateway needs: the newest releases, and the releases that orders name.

    The newest active release may require that a device first installs an older release. The three newest active
    releases are therefore wanted. Releases with a later activation time are wanted too.
    """
    usable = _usable(product)
    active = [one for one in usable if one.active_from <= time][:_NEWEST]
    return [one for one in usable if one in active or one.active_from > time or one.version in ordered]


def _usable(product: ProductReading) -> list[Release]:
    """Return the releases that are neither revoked nor below the product's minimum version, newest first."""
    floor = product.product.minimum_version
    return [one for one in product.releases if one.status is Status.ACTIVE and not (floor and one.version < floor)]


def _newest_time(site: SiteReading, producers: Sequence[ProducerReading]) -> int:
    return max([site.newest.time, *(one.position.newest.time for one in producers)])


def known_device(device: Device, site: SiteReading, settings: GatewaySettings) -> KnownDevice:
    """Return a device: its record in the registry, and its group, face and settings in the settings file."""
    model = site.specs[device.spec_hash].name if device.spec_hash in site.specs else ""
    face, of_device = settings.bound_devices.get(device.number, ("", {}))

    return KnownDevice(
        number=device.number,
        name=device.name,
        spec_hash=device.spec_hash,
        key=device.key,
        is_banned=device.ban is not Ban.NONE,
        group=settings.group_of(device.number, model).name,
        face=face,
        settings=of_device,
    )
