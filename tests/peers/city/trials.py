"""Requests that validators must refuse, sent through the tunnels of an enrolled gateway that an attacker controls."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from joserfc import jws
from joserfc.jwk import ECKey

from blockota.ledger.log import TileLog
from blockota.model.receipt import LogEntry
from blockota.model.warning import RequestWarning
from tests.peers.city.members import Member
from tests.peers.city.services import REQUESTS
from tests.peers.city.world import World
from tests.support.namespaces import run
from tests.support.waiting import eventually

Answer = Mapping[str, Any]
"""A JSON-RPC response."""
BANNED = -32002


@dataclass(frozen=True)
class Refusal:
    """What an answer and the warning about it must have.

    Attributes:
        name: what was sent.
        code: the code in both.
        reason: the reason in both.
        node: the identity that the request names.
        is_proven: whether the warning is proven against the identity.
    """

    name: str
    code: int
    reason: str
    node: UUID
    is_proven: bool = False


def refuse_requests(world: World) -> dict[str, int]:
    """Send a forged, a replayed, an unknown and a borrowed request to each validator, and check answers and warnings.

    Returns:
        The code of each refusal, by what was sent.
    """
    attacker, victim, stranger = world.captured, world.gateways[0], uuid4()
    refusals = [
        Refusal("forged", -32001, "Public key verification failed", attacker.uuid),
        Refusal("replayed", -32003, "The request was seen before", attacker.uuid),
        Refusal("unknown", -32004, "Unknown identity", stranger),
        Refusal("another's", -32004, "The address of the sender belongs to another identity", victim.uuid),
    ]
    sent = {}
    for validator in world.validators:
        forged = request_of(attacker.uuid, ECKey.generate_key("P-256"), validator)
        good = request_of(attacker.uuid, key_of(attacker), validator)
        unknown = request_of(stranger, ECKey.generate_key("P-256"), validator)
        borrowed = request_of(victim.uuid, key_of(victim), validator)
        sent[validator.number] = [good, forged, good, unknown, borrowed]

    answers = post(world, attacker, world.validators, sent)
    for validator in world.validators:
        first, *refused = answers[validator.number]
        assert "result" in first, first
        for refusal, answer in zip(refusals, refused, strict=True):
            check_refusal(refusal, answer, validator, attacker)
    return {one.name: one.code for one in refusals}


def refuse_banned(world: World) -> int:
    """Ban the captured gateway, and send its requests through a tunnel that is still open.

    The attacker stops the gateway's own ``vpn sync``, and that of one validator hangs, so that this tunnel stays. The
    validator's service knows of the ban, and refuses the requests. Then ``vpn sync`` goes on, and closes the tunnel.

    Returns:
        The code of the refusal.
    """
    attacker, validator = world.captured, world.validators[0]
    refusal = Refusal("banned", BANNED, "Gateway is banned", attacker.uuid, is_proven=True)

    def refused() -> Answer:
        request = request_of(attacker.uuid, key_of(attacker), validator)
        answer = post(world, attacker, [validator], {validator.number: [request]})[validator.number][0]
        return {} if "result" in answer else answer

    programs = [world.tunnels[one.number] for one in (attacker, validator)]
    for program in programs:
        program.send_signal(signal.SIGSTOP)
    try:
        world.ledger.ban(attacker)
        check_refusal(refusal, eventually(refused, what="a refusal of the banned gateway"), validator, attacker)
    finally:
        for program in programs:
            program.send_signal(signal.SIGCONT)
    for one in world.validators:
        eventually(lambda: attacker.tunnel_key not in peers_of(one), what="the end of the tunnel")  # noqa: B023 - at once
    return refusal.code


def check_refusal(refusal: Refusal, answer: Answer, validator: Member, sender: Member) -> None:
    """Check an answer, and the warning in the validator's log that has its id and the virtual IP of the sender."""
    error = answer["error"]
    assert (error["code"], error["message"]) == (refusal.code, refusal.reason), answer
    number = error["data"]["warning"]
    eventually(lambda: number in warnings_at(validator), what=f"the warning {number} of {answer}")
    warning = warnings_at(validator)[number]
    found = warning.address, warning.node, warning.is_proven, warning.code, warning.reason
    assert found == (str(sender.address), refusal.node, refusal.is_proven, refusal.code, refusal.reason), warning


def request_of(sender: UUID, key: ECKey, receiver: Member) -> str:
    """Return a request ``submit``, signed by joserfc and not by BlockOTA's own code."""
    now = int(time.time())
    data = {"readings": [{"thing": "1", "time": now, "name": "trial", "value": 1, "unit": ""}]}
    claims = {"iat": now, "jti": uuid4().hex, "aud": str(receiver.uuid), "method": "submit", "data": data}
    token = jws.serialize_compact({"alg": "ES256", "kid": str(sender)}, json.dumps(claims).encode(), key)
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "submit", "params": {"signed": token}})


def post(
    world: World, sender: Member, receivers: Sequence[Member], requests: Mapping[int, Sequence[str]]
) -> dict[int, list[Answer]]:
    """Post requests from the host of a member to validators, through the tunnels, and return the answers.

    Args:
        world: the city.
        sender: the member.
        receivers: the validators.
        requests: the requests for each validator, by its number.

    Returns:
        The answers, by the number of the validator.
    """
    authorities = {one.number: str(one.folder / "validator" / "authority.pem") for one in receivers}
    places = [[f"https://{one.address}:{REQUESTS}", authorities[one.number], requests[one.number]] for one in receivers]
    path = world.folder / "requests.json"
    path.write_text(json.dumps(places))
    with sender.run_module("tests.peers.city.requester", str(path)) as process:
        out, errors = process.communicate()
    assert out, errors
    return dict(zip(authorities, json.loads(out), strict=True))


def warnings_at(validator: Member) -> dict[str, RequestWarning]:
    """Return the warnings in a validator's log, by their ids."""
    log = TileLog(validator.folder / "validator" / "log")
    found = (RequestWarning.parse(LogEntry.decode(raw).source or "") for raw in log.entries())
    return {one.id: one for one in found if one}


def peers_of(member: Member) -> str:
    """Return the public keys of the peers that the interface of a member has."""
    return run("wg", "show", member.interface, "peers")


def key_of(member: Member) -> ECKey:
    """Return the identity's key of a member."""
    return ECKey.import_key((member.folder / "identity.pem").read_text())
