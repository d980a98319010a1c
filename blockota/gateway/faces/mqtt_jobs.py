"""The requests of MQTT devices about updates, as AWS IoT Jobs defines them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from blockota.errors import RefusedError
from blockota.formats.cose import SignedStatement
from blockota.gateway.core import Clock, Core, DeviceOffer, Report
from blockota.gateway.faces.mqtt_documents import DocumentMaker
from blockota.gateway.faces.mqtt_state import ThingStore
from blockota.messaging.documents import JobExecution, JobStatus, JobUpdate, RejectCode
from blockota.messaging.topics import NEXT_JOB
from blockota.model.delivery import Stage
from blockota.model.receipt import DeviceStatement


class RejectedRequestError(Exception):
    """A request of a device is rejected; the answer to the device contains the code and the reason.

    Args:
        code: the code of the answer.
        why: the message of the answer.
        fields: additional fields of the rejection.
        is_warned: whether a warning about the request is logged.
    """

    def __init__(
        self, code: RejectCode | int, why: str, *, fields: Mapping[str, Any] | None = None, is_warned: bool = True
    ) -> None:
        super().__init__(why)
        self.code, self.why, self.fields, self.is_warned = code, why, fields or {}, is_warned


@dataclass(frozen=True)
class JobDesk:
    """Answers requests about jobs. A job is an offer of firmware, not of a configuration.

    Attributes:
        core: the core.
        store: keeps the executions.
        documents: creates the job documents.
        clock: the gateway's clock.
    """

    core: Core
    store: ThingStore
    documents: DocumentMaker
    clock: Clock

    def next_job(self, thing: int, offers: Iterable[DeviceOffer]) -> dict[str, Any] | None:
        """Return the job execution that a device must begin or continue; None if the device has no job.

        Args:
            thing: number of the device.
            offers: all offers to the device.
        """
        offer = next((one for one in offers if not one.is_configuration), None)
        return self._with_document(thing, offer) if offer else None

    async def start_next(self, thing: int, _: Mapping[str, Any]) -> dict[str, Any]:
        """Begin the next job of a device."""
        offers = self._offers(thing)
        if not offers:
            return {}

        offer = offers[0]
        await self._was_told(thing, offer)
        await self.core.progress(thing, offer.job)

        execution, now = self._execution(thing, offer), self.clock()
        if execution.status is JobStatus.QUEUED:
            started = replace(execution, status=JobStatus.IN_PROGRESS, version=execution.version + 1)
            self.store.put_execution(offer.release.product, replace(started, started_at=now, updated_at=now))
        return {"execution": self._with_document(thing, offer)}

    async def pending(self, thing: int, _: Mapping[str, Any]) -> dict[str, Any]:
        """List the jobs of a device."""
        lists: dict[str, list[dict[str, Any]]] = {"inProgressJobs": [], "queuedJobs": []}
        for offer in self._offers(thing):
            await self._was_told(thing, offer)
            execution = self._execution(thing, offer)
            is_queued = execution.status is JobStatus.QUEUED
            lists["queuedJobs" if is_queued else "inProgressJobs"].append(execution.summary())
        return lists

    async def describe(self, thing: int, job: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Describe the execution of a job."""
        offers = self._offers(thing)
        offer = next((one for one in offers if job in (NEXT_JOB, str(one.job))), None)
        if offer:
            await self._was_told(thing, offer)
            described = self._with_document(thing, offer)
            if fields.get("includeJobDocument") is False:
                del described["jobDocument"]
            return {"execution": described}

        if job == NEXT_JOB:
            return {}
        return {"execution": self._known(thing, job)[1].as_fields()}

    async def update(self, thing: int, job: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Process a device's update of the status of its job."""
        update = JobUpdate.parse(fields)
        offer = next((one for one in self._offers(thing) if str(one.job) == job), None)
        product, before = (offer.release.product, self._execution(thing, offer)) if offer else self._known(thing, job)

        is_repeated = (before.status, before.details) == (update.status, update.details)
        if is_repeated and before.status.is_end:  # the answer to the first request was lost
            return self._answer(before, update, offer)

        self._check(before, update)
        await self._inform_core(thing, before.job, product, update)

        now = self.clock()
        after = replace(
            before,
            status=update.status,
            details=update.details or before.details,
            version=before.version + 1,
            started_at=now if before.started_at is None else before.started_at,
            updated_at=now,
        )
        self.store.put_execution(product, after)
        return self._answer(after, update, offer)

    def _check(self, execution: JobExecution, update: JobUpdate) -> None:
        state = {"executionState": execution.state()}
        if update.expected_version not in (None, execution.version):
            why = f"the version is {execution.version}, not {update.expected_version}"
            raise RejectedRequestError(RejectCode.VERSION_MISMATCH, why, fields=state, is_warned=False)
        if execution.status.is_end and execution.status is not update.status:
            why = f"the job ended as {execution.status}"
            raise RejectedRequestError(RejectCode.INVALID_TRANSITION, why, fields=state)

    async def _inform_core(self, thing: int, job: int, product: str, update: JobUpdate) -> None:
        """Pass an update to the core.

        Raises:
            RejectedRequestError: the core does not accept the update.
            RefusedError: the core refuses a statement.
            ValueError: a detail is not valid.
        """
        reason = update.details.get("reason", "")
        statement = update.receipt
        until = update.number("postponedUntil")

        if update.status is JobStatus.SUCCEEDED:
            # A single call: a gateway that is killed between two calls would not recognise the repeated update.
            report = _report(update, product, statement)
            claim = self.core.reported(thing, report) if report else self.core.outcome(thing, job, succeeded=True)
            is_taken = await claim
        elif update.status is JobStatus.IN_PROGRESS and until is not None:
            is_taken = await self.core.postponed(thing, job, until=until, reason=reason, statement=statement)
        elif update.status is JobStatus.IN_PROGRESS:
            is_taken = await self.core.progress(thing, job, update.number("received") or 0)
        else:
            is_refusal = update.status is JobStatus.REJECTED
            is_taken = await self.core.outcome(thing, job, succeeded=False, reason=reason, is_refusal=is_refusal)

        if not is_taken:
            why = "the job may not be postponed" if until is not None else "the job is not the present one"
            raise RejectedRequestError(RejectCode.INVALID_TRANSITION, why, is_warned=False)

    def _answer(self, execution: JobExecution, update: JobUpdate, offer: DeviceOffer | None) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        if update.wants_state:
            answer["executionState"] = execution.state()
        if update.wants_document and offer:
            answer["jobDocument"] = self._document(execution.thing, offer)
        return answer

    def _known(self, thing: int, job: str) -> tuple[str, JobExecution]:
        number = int(job) if job.isascii() and job.isdecimal() else -1
        known = self.store.execution_of(thing, number)
        if known is None:
            raise RejectedRequestError(RejectCode.NOT_FOUND, f"the device has no job {job}", is_warned=False)
        return known

    def _offers(self, thing: int) -> list[DeviceOffer]:
        return [offer for offer in self.core.offers(thing) if not offer.is_configuration]

    async def _was_told(self, thing: int, offer: DeviceOffer) -> None:
        # That the broker has the notice does not mean that the device has it. Now the device asks for the job.
        if self.core.state(thing, offer.release.product).offered_at is None:
            await self.core.offered(thing, offer.job)

    def _execution(self, thing: int, offer: DeviceOffer) -> JobExecution:
        """Return the execution of an offer's job.

        If the stored execution has ended, or belongs to another job, a new execution is returned.
        """
        kept = self.store.execution(thing, offer.release.product)
        if kept and kept.job == offer.job and not kept.status.is_end:
            return kept
        is_begun = self.core.state(thing, offer.release.product).stage is Stage.TRANSFER
        status = JobStatus.IN_PROGRESS if is_begun else JobStatus.QUEUED
        now = self.clock()
        return JobExecution(thing, offer.job, status, queued_at=now, updated_at=now)

    def _document(self, thing: int, offer: DeviceOffer) -> dict[str, Any]:
        running = self.core.state(thing, offer.release.product).running
        return self.documents.document(thing, offer, running=running)

    def _with_document(self, thing: int, offer: DeviceOffer) -> dict[str, Any]:
        return self._execution(thing, offer).as_fields(self._document(thing, offer))


def _report(update: JobUpdate, product: str, statement: bytes | None) -> Report | None:
    """Return the report about the running image in a successful update.

    Returns None if the update names no image.
    """
    image = update.details.get("sha256")
    digest = bytes.fromhex(image) if image is not None else None

    if digest is None and statement is not None:
        try:
            digest = DeviceStatement.decode(SignedStatement.decode(statement).payload).image
        except ValueError as error:
            raise RefusedError("the receipt is refused", why=str(error)) from error
    if digest is None:
        return None

    return Report(
        image=digest,
        product=product,
        version=update.details.get("version"),
        statement=statement,
        hardware=update.details.get("hardware"),
    )
