"""Measure how long reading an identity from anvil takes: ``python -m benchmarks.identities [--json]``.

The registry has 100 identities. The measured identity has an account and all kinds of keys.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from uuid import UUID

from benchmarks.chains import local_chain
from benchmarks.figure import Figure, options, report, seconds_of
from benchmarks.gas_registries import BATCH, ED25519, enrolment
from blockota.bindings.contract import create
from blockota.bindings.identities import IdentitiesContract
from blockota.formats.abi import interface
from blockota.keys import dev_account

IDENTITIES, RUNS = 100, 200


def figures() -> Iterator[Figure]:
    """Yield the milliseconds to read an identity with its keys, and the number of blocks mined meanwhile."""
    with local_chain() as chain:
        payer = dev_account(0)
        contract = IdentitiesContract(chain, create(chain, payer, "IdentityRegistry", payer.address)[0])
        for start in range(0, IDENTITIES, BATCH):
            batch = [enrolment(number, ED25519) for number in range(start, start + BATCH)]
            call = interface(contract.NAME).encode_call("enrolAll", batch)
            chain.send(payer, call, to=contract.address)

        uuid, before = UUID(bytes=enrolment(IDENTITIES // 2)["uuid"]), chain.head().number
        runs = tuple(1000 * seconds_of(lambda: contract.identity(uuid)) for _ in range(RUNS + 1))[1:]
        sent = chain.head().number - before  # anvil mines a block for each transaction
    yield Figure("reading an identity", statistics.median(runs), "ms", 1.0, times="One eth_call.", runs=runs)
    yield Figure("blocks with a transaction while identities are read", sent, "blocks", 0)


if __name__ == "__main__":
    options(__doc__, has_quick=False)
    sys.exit(report(figures()))
