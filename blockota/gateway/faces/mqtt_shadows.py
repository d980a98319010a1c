"""The requests of MQTT devices about their configuration and their state, as the AWS Device Shadow defines them.

``state.reported`` of a device has four parts. ``firmware`` and ``configuration`` are objects with one field for each
product. The value of a field has the members ``sha256``, ``version``, ``confirmed`` and ``receipt``. ``hardware`` and
``uniqueId`` are texts. A device that refuses a configuration reports the configuration's hash as ``refused``, with a
``reason``. The gateway stores all other fields without reading them.

Only the gateway writes ``state.desired``. The field ``configuration`` contains the documents of the configurations that
the device must have. The field ``nonce`` contains the nonce for the device's next signed statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from blockota.formats.jws import base64url
from blockota.gateway.core import Clock, Core, DeviceOffer, Report
from blockota.gateway.faces.mqtt_documents import DocumentMaker
from blockota.gateway.faces.mqtt_jobs import RejectedRequestError
from blockota.gateway.faces.mqtt_state import ThingStore
from blockota.messaging.documents import ReportedState, Shadow, merge

INVALID, FORBIDDEN, CONFLICT = 400, 403, 409
"""Codes of rejections (AWS)."""


@dataclass(frozen=True)
class ShadowDesk:
    """Answers requests about shadows.

    Attributes:
        core: the core.
        store: keeps the shadows.
        documents: creates the documents that describe configurations.
        clock: the gateway's clock.
    """

    core: Core
    store: ThingStore
    documents: DocumentMaker
    clock: Clock

    def refresh(self, thing: int, every: Iterable[DeviceOffer] | None = None) -> Shadow:
        """Update the desired configurations of a device from the core's offers.

        Args:
            thing: number of the device.
            every: all offers to the device; None to read the offers from the core.
        """
        shadow = self.store.shadow(thing)
        found = self.core.offers(thing) if every is None else every
        offers = {offer.release.product: offer for offer in found if offer.is_configuration}
        before = shadow.desired.get("configuration", {})
        if not offers and not before:
            return shadow

        # A configuration that is no longer offered stays if the device has it, and is withdrawn otherwise.
        gone = {product: one for product, one in before.items() if product not in offers}
        wanted = {product: one for product, one in gone.items() if shadow.configuration(product) == one.get("sha256")}
        for product, offer in offers.items():
            wanted[product] = _same_or_new(before.get(product), self.documents.document(thing, offer))
        if wanted == before:
            return shadow

        desired = {"configuration": wanted} if wanted else {}
        after = replace(shadow, version=shadow.version + 1, desired=desired)
        self.store.put_shadow(thing, after)
        return after

    async def get(self, thing: int, _: Mapping[str, Any]) -> dict[str, Any]:
        """Return the shadow of a device."""
        shadow = self.refresh(thing)
        await self._was_told(thing, shadow)
        desired = {**shadow.desired, "nonce": base64url(self.core.nonce(thing))}
        return {"state": replace(shadow, desired=desired).as_state(), "version": shadow.version}

    async def update(self, thing: int, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Process a device's report about itself."""
        state = fields.get("state")
        if not isinstance(state, dict) or not isinstance(state.get("reported") or {}, dict):
            raise RejectedRequestError(INVALID, "the request has no object state.reported")
        if state.get("desired") is not None:
            raise RejectedRequestError(FORBIDDEN, "only the gateway writes state.desired")

        version = self.store.shadow(thing).version
        if fields.get("version") not in (None, version):
            why = f"the version is {version}, not {fields['version']!r:.20}"
            raise RejectedRequestError(CONFLICT, why, is_warned=False)

        change: dict[str, Any] = state.get("reported") or {}
        reported = ReportedState.parse(change)
        merge(self.store.shadow(thing).reported, change)
        await self._inform_core(thing, reported)

        # The core may have changed its offers meanwhile.
        shadow = self.store.shadow(thing)
        after = replace(shadow, version=shadow.version + 1, reported=merge(shadow.reported, change))
        self.store.put_shadow(thing, after)
        return {"state": {"reported": change}, "version": after.version}

    async def _inform_core(self, thing: int, reported: ReportedState) -> None:
        for image in reported.images:
            # A refusal counts only if the refused configuration is offered now.
            offer = self.core.offer(thing, image.product) if image.refused is not None else None
            if offer and offer.is_configuration and offer.image == image.refused:
                await self.core.outcome(thing, offer.job, succeeded=False, reason=image.reason, is_refusal=True)
            if image.sha256 is not None:
                await self.core.reported(
                    thing,
                    Report(
                        image=image.sha256,
                        product=image.product,
                        version=image.version,
                        is_confirmed=image.is_confirmed,
                        statement=image.statement,
                        hardware=reported.hardware,
                        unique_id=reported.unique_id,
                    ),
                )

        if not reported.images and (reported.hardware or reported.unique_id):
            await self.core.reported(thing, Report(hardware=reported.hardware, unique_id=reported.unique_id))

    async def _was_told(self, thing: int, shadow: Shadow) -> None:
        for product in shadow.delta.get("configuration", {}):
            offer = self.core.offer(thing, product)
            if offer and self.core.state(thing, product).offered_at is None:
                await self.core.offered(thing, offer.job)


def _same_or_new(before: Mapping[str, Any] | None, document: dict[str, Any]) -> Mapping[str, Any]:
    """Return the new document, or the previous document if only the signature differs. ECDSA signatures are random."""
    if before and {**before, "jws": ""} == {**document, "jws": ""}:
        return before
    return document
