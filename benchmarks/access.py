"""Measure the receiver of signed requests, and a whole validator: ``python -m benchmarks.access [--quick] [--json]``.

The script measures the receiver's checks without a network. The sender's record is in memory; the names of received
requests are on disk. The validator is a process that serves HTTPS and reads the registry from anvil. It stores each
request in its outbox, because its cloud service is unreachable. The validator's clients run in another process on the
same machine.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.access_clients import RATE, WARM_UP
from benchmarks.chains import local_chain
from benchmarks.figure import Figure, folder_on_disk, options, report
from blockota.bindings.identities import IdentitiesContract, enrolment_argument
from blockota.formats.public_key import read_pem
from blockota.identity.receiving import ReceiverParts, RequestReceiver
from blockota.identity.registry import IdentityReader
from blockota.identity.request_state import RequestState
from blockota.identity.validator import METHODS
from blockota.identity.warnings import WarningMaker
from blockota.keys import dev_account
from blockota.model.identity import Enrolment, IdentityKind, Keys
from blockota.model.request import Receiver
from tests.conftest import Cast
from tests.support import forks
from tests.support.city import City, found_city
from tests.support.foreign_requests import ALGORITHMS, ForeignSender
from tests.support.validators import CLOUD, VALIDATOR, validator_process, write_validator

VERDICTS, BATCH, READS = 4000, 64, 200
SECONDS = 10


def figures(*, is_quick: bool) -> Iterator[Figure]:
    """Yield the figures of the receiver, the identity registry and the validator."""
    with local_chain() as chain, folder_on_disk() as folder, forks.server():
        city = found_city(chain, Cast(*(dev_account(number) for number in range(7))))
        senders = [ForeignSender(algorithm) for algorithm in ALGORITHMS]
        for one in senders:
            enrolment = Enrolment(one.uuid, IdentityKind.GATEWAY, Keys(read_pem(one.pem.decode())))
            city.decide("identities", "enrol", enrolment_argument(enrolment))
        yield _reading(city)
        for one in senders:
            yield _verdicts(city, folder, one)
        yield from _validator(city, folder, senders[ALGORITHMS.index("ES256")], 5 if is_quick else SECONDS)


def _reading(city: City) -> Figure:
    """Measure the time to read a sender's record that is not in memory."""
    contract = IdentitiesContract(city.chain, city.deployment.registries["identities"])
    runs = []
    for _ in range(READS + 1):
        reader = IdentityReader(lambda: contract)
        reader.refresh()
        began = time.perf_counter()
        reader.reading(VALIDATOR, "")
        runs.append(1000 * (time.perf_counter() - began))
    return Figure("reading a sender's record", statistics.median(runs[1:]), "ms", 1.0, times="One eth_call.")


def _verdicts(city: City, folder: Path, sender: ForeignSender) -> Figure:
    """Measure the processor time of a receiver from a request's bytes to its answer."""
    registry = IdentityReader(lambda: IdentitiesContract(city.chain, city.deployment.registries["identities"]))
    requests = [sender.request() for _ in range(VERDICTS)]
    with RequestState(folder / f"{sender.algorithm}.sqlite") as state:
        parts = ReceiverParts(registry, state, WarningMaker(VALIDATOR))
        own = Receiver(VALIDATOR, METHODS, max_age=1 << 30)
        receiver = RequestReceiver(own, parts, keep=lambda requests: [{}] * len(requests))
        receiver.receive(sender.request(), address="mqtt")
        began = time.process_time()
        for start in range(0, VERDICTS, BATCH):
            receiver.receive_all([receiver.read(raw, address="mqtt") for raw in requests[start : start + BATCH]])
        seconds = time.process_time() - began
        if receiver.counts[None] != VERDICTS + 1:
            raise AssertionError(f"requests were refused: {receiver.counts}")
    least = 2000.0 if sender.algorithm == "ES256" else None
    times = f"Processor time, in batches of {BATCH}, names on the disk."
    name = f"verdicts per second and core, {sender.algorithm}"
    return Figure(name, VERDICTS / seconds, "verdicts/s", least, is_minimum=True, times=times)


def _validator(city: City, folder: Path, sender: ForeignSender, seconds: int) -> Iterator[Figure]:
    """Measure the response times of a validator at a steady rate of requests."""
    config = write_validator(city, folder)
    cloud = f'\n[validator.cloud]\nidentity = "{CLOUD}"\nurl = "http://127.0.0.1:9"\n'
    config.write_text(config.read_text() + cloud)
    with validator_process(config) as (_, run):
        requests = b"\n".join(sender.request() for _ in range(RATE * seconds + WARM_UP))
        command = [sys.executable, "-m", "benchmarks.access_clients", run.url, str(folder / "validator/authority.pem")]
        done = subprocess.run(command, input=requests, capture_output=True, check=True)
        answered = sorted(json.loads(done.stdout)["seconds"])
    times = f"{RATE:,} requests a second for {seconds} s over HTTPS, in the outbox for the cloud."
    yield Figure("validator, 99th percentile", 1000 * answered[len(answered) * 99 // 100], "ms", 50.0, times=times)
    yield Figure("validator, median", 1000 * statistics.median(answered), "ms", times=times)


if __name__ == "__main__":
    sys.exit(report(figures(is_quick=options(__doc__).quick)))
