"""Requests that a validator must refuse: forged, replayed, of a banned and of an unknown identity."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from uuid import UUID, uuid4

from joserfc import jws
from joserfc.jwk import ECKey

from blockota.ledger.log import TileLog
from blockota.model.receipt import LogEntry
from blockota.model.warning import RequestWarning
from tests.peers.city.members import Member
from tests.peers.city.services import REQUESTS
from tests.peers.city.world import World
from tests.support.waiting import eventually

VERIFICATION_FAILED, BANNED, STALE, UNKNOWN = -32001, -32002, -32003, -32004


def request_of(sender: UUID, key: ECKey, receiver: Member, data: object) -> str:
    """Return a request ``submit``, signed by joserfc and not by BlockOTA's own code."""
    claims = {"iat": int(time.time()), "jti": uuid4().hex, "aud": str(receiver.uuid), "method": "submit", "data": data}
    token = jws.serialize_compact({"alg": "ES256", "kid": str(sender)}, json.dumps(claims).encode(), key)
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "submit", "params": {"signed": token}})


def refuse_requests(world: World) -> dict[str, int]:
    """Send the requests over the network outside of the tunnels, as a thief does, and check answers and warnings.

    Returns:
        The code of each refusal, by what was sent.
    """
    validator, gateway = world.validators[0], world.gateways[0]
    reading = {"thing": "1", "time": int(time.time()), "name": "trial", "value": 1, "unit": ""}
    data = {"readings": [reading]}
    forged = request_of(gateway.uuid, ECKey.generate_key("P-256"), validator, data)
    good = request_of(gateway.uuid, key_of(gateway), validator, data)
    unknown = request_of(uuid4(), ECKey.generate_key("P-256"), validator, data)
    banned = request_of(world.stolen.uuid, key_of(world.stolen), validator, data)

    answers = post(world, world.stolen, validator, [forged, good, good, unknown, banned])
    assert "result" in answers[1], answers[1]
    wanted = {"forged": VERIFICATION_FAILED, "replayed": STALE, "unknown": UNKNOWN, "banned": BANNED}
    refused = dict(zip(wanted, (answers[0], *answers[2:]), strict=True))
    codes = {name: int(answer["error"]["code"]) for name, answer in refused.items()}
    assert codes == wanted, refused
    eventually(lambda: len(reasons_at(validator)) >= len(wanted), what="the warnings in the validator's log")
    return codes


def post(world: World, sender: Member, receiver: Member, requests: Sequence[str]) -> list[dict[str, dict[str, int]]]:
    """Post requests from the host of a member to the host of a validator, and return the answers."""
    path = world.folder / "requests.json"
    path.write_text(json.dumps(requests))
    authority = receiver.folder / "validator" / "authority.pem"
    words = [f"https://{receiver.host.address}:{REQUESTS}", str(authority), str(path)]
    with sender.run_module("tests.peers.city.requester", *words) as process:
        out, errors = process.communicate()
    assert out, errors
    answers: list[dict[str, dict[str, int]]] = json.loads(out)
    return answers


def reasons_at(validator: Member) -> set[str]:
    """Return the reasons of the warnings in a validator's log."""
    log = TileLog(validator.folder / "validator" / "log")
    found = (RequestWarning.parse(LogEntry.decode(raw).source or "") for raw in log.entries())
    return {one.reason for one in found if one}


def key_of(member: Member) -> ECKey:
    """Return the identity's key of a member."""
    return ECKey.import_key((member.folder / "identity.pem").read_text())
