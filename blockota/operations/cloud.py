"""The cloud: verify the requests that validators send, and store them.

A validator sends a request with the method ``store`` and the data ``{"requests": [TEXT, ...]}``. Each TEXT is a
`submit` request that a gateway signed and the validator accepted. The `Receiver` verifies the `store` request.
`CloudStore` then verifies each `submit` request in the data of the `store` request:

1. The request is well-formed, has the method `submit` and readings, and is addressed to the validator or to no
   identity.
2. The sender is a gateway, and a present or earlier key of the gateway signed the request. The cloud verifies each
   gateway's signature itself, because the database must contain a proof of each reading.
3. The request was signed before any ban of the gateway took effect, and its time is not in the future.

The validator may have read a newer block than the cloud, so the cloud may not know the sender or its key yet. If the
cloud's block is older than the request, the cloud reports that its registry may be behind. The validator then repeats
the request.

The validator has already checked that the gateway signed the request recently and did not send it before.

The cloud stores all requests that pass these checks. They are stored in one transaction, which is committed before the
cloud answers. If a request does not pass, the cloud still stores the other requests of the same validator. The answer
is then an error that names the refused request. The validator sets the refused request aside, and the cloud's log gets
a warning about the validator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from blockota.errors import ChainError, RefusedError
from blockota.identity.receiving import Outcome
from blockota.identity.registry import IdentityReader
from blockota.model.identity import Identity, IdentityKind
from blockota.model.reading import readings_in
from blockota.model.request import WINDOW, RegistryReading, SignedRequest, read_request
from blockota.operations.database import CloudDatabase
from blockota.operations.writing import AcceptedRequest, write_requests

STORE = "store"
"""The method."""
METHODS = {STORE: frozenset({IdentityKind.VALIDATOR})}
"""The kinds of identities that may call the cloud's methods."""
_NO_ADDRESS = ""
_LONGEST_LAG, _CLOCKS = 300, 15
"""Seconds after a signature for which a record may be missing, and by which the clocks of gateway and chain differ."""
_SHOWN = 200
"""The largest number of characters of a reason in an answer."""


class CloudStore:
    """Verifies the requests of validators, and stores them in the database.

    Args:
        identity: UUID of the cloud.
        database: the database.
        registry: reads the records of gateways from IdentityRegistry.
        clock: returns Unix time.

    Attributes:
        stored: number of gateways' requests that were stored since the start.
        readings: number of readings in the stored requests.
    """

    def __init__(
        self,
        identity: UUID,
        database: CloudDatabase,
        registry: IdentityReader,
        *,
        clock: Callable[[], int],
    ) -> None:
        self._identity, self._database, self._registry, self._clock = identity, database, registry, clock
        self.stored, self.readings = 0, 0

    def keep(self, requests: Sequence[SignedRequest]) -> list[Outcome]:
        """Store durably the `submit` requests that the `store` requests contain.

        Returns:
            One result for each `store` request: ``{"stored": NUMBER}`` with the number of its `submit` requests, or an
            error. The result is an error if a `submit` request was refused, or if the record of a gateway could not be
            read.

        Raises:
            StoreError: the database cannot be written.
        """
        now = self._clock()
        examined = [self._examine(one, now) for one in requests]
        accepted = [one for found, _, _ in examined for one in found]
        with self._database.writing() as connection:
            new = write_requests(connection, accepted, cloud=self._identity, now=now)
        self.stored += len(new)
        by_digest = {one.digest: one for one in accepted}
        self.readings += sum(len(by_digest[digest].readings) for digest in new)
        return [failure or _outcome(found, refused) for found, refused, failure in examined]

    def _examine(self, request: SignedRequest, now: int) -> tuple[list[AcceptedRequest], list[str], ChainError | None]:
        """Return the accepted requests, the reasons for refusals, and the error if a record could not be read."""
        try:
            texts = _texts(request.data)
        except ValueError as error:
            return [], [str(error)], None

        passed, refused, failure = list[AcceptedRequest](), list[str](), None
        for index, text in enumerate(texts):
            try:
                passed.append(self._examine_text(text, validator=request.sender, now=now))
            except RefusedError as error:
                refused.append(f"request {index}: {error.why or error.what}"[:_SHOWN])
            except ChainError as error:
                failure = error
        return passed, refused, failure

    def _examine_text(self, text: str, *, validator: UUID, now: int) -> AcceptedRequest:
        """Verify one `submit` request.

        Raises:
            RefusedError: the request does not pass a check.
            ChainError: the record of the gateway cannot be read.
        """
        # (1) the request and its readings
        found = read_request(text.encode(errors="surrogatepass"))
        if found.method != "submit":
            raise _refused(f"its method is {found.method!r:.40}, and not submit")
        if found.receiver not in {None, validator}:
            raise _refused(f"it was sent to {found.receiver}, and not to the validator that hands it on")
        readings = readings_in(found.data)

        # (2) the gateway and its signature
        reading = self._registry.reading(found.sender, _NO_ADDRESS)
        identity, is_late = reading.identity, _may_come(found, reading, now)
        if identity is None:
            raise _unknown(f"its sender {found.sender} is not an enrolled gateway", is_late=is_late)
        if identity.kind is not IdentityKind.GATEWAY:
            raise _refused(f"its sender {found.sender} is not an enrolled gateway")
        if not found.is_signed_by(identity.keys.key) and not any(
            found.is_signed_by(key) for key in self._registry.keys_of(identity.uuid)
        ):
            raise _unknown(f"it is not signed by a key of {identity.uuid}", is_late=is_late)

        # (3) the ban and the time
        if why := _time_fault(found, identity, now):
            raise _refused(why)
        return AcceptedRequest(found.raw, identity.uuid, validator, found.time, readings, found.name)


def _may_come(request: SignedRequest, reading: RegistryReading, now: int) -> bool:
    """Whether the validator may have checked a request against a newer block than the cloud.

    The answer is False when the request is older than `_LONGEST_LAG`. A validator sends its requests in order, so one
    request that is repeated forever would block all later requests. Without the limit, this could happen on a chain
    that rarely adds blocks.
    """
    if request.time is None or abs(now - request.time) > _LONGEST_LAG:
        return False
    return reading.block_time <= request.time + _CLOCKS


def _unknown(why: str, *, is_late: bool) -> RefusedError | ChainError:
    return ChainError("the registry may be behind", why=why) if is_late else _refused(why)


def _time_fault(request: SignedRequest, identity: Identity, now: int) -> str:
    if request.time is None:
        return "it was signed without a time by a banned gateway" if identity.banned else ""
    if request.time < 0:
        return "its time is before 1970"
    if request.time > now + WINDOW:
        return f"it was signed {request.time - now} seconds in the future"
    if identity.banned and identity.banned_at is not None and request.time > identity.banned_at + WINDOW:
        return f"it was signed after {identity.uuid} was banned"
    return ""


def _texts(data: Mapping[str, Any]) -> list[str]:
    """Return the texts of the `submit` requests in the data of a `store` request.

    Raises:
        ValueError: the data have no list of texts.
    """
    found = data.get("requests")
    if set(data) != {"requests"} or not isinstance(found, list) or not found:
        raise ValueError('the data are not {"requests": [...]} with at least one request')
    if not all(isinstance(one, str) for one in found):
        raise ValueError("a request in the data is not a text")
    return found


def _outcome(passed: Sequence[AcceptedRequest], refused: Sequence[str]) -> Outcome:
    if refused:
        why = f"{len(refused)} of {len(passed) + len(refused)} requests, {refused[0]}"
        return RefusedError("the cloud refused some requests, and stored the others", why=why)
    return {"stored": len(passed)}


def _refused(why: str) -> RefusedError:
    return RefusedError("the request is refused", why=why)
