"""Requests that must be refused, sent through the tunnels of enrolled hosts that an attacker controls."""

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

from blockota.model.identity import IdentityKind
from tests.peers.city.logs import LoggedWarning, find_warning
from tests.peers.city.members import Member
from tests.peers.city.services import COMMAND, COMMANDS, REQUESTS
from tests.peers.city.world import World
from tests.support.namespaces import run
from tests.support.waiting import eventually

Answer = Mapping[str, Any]
"""A JSON-RPC response."""
FORGED, BANNED, STALE, UNKNOWN = -32001, -32002, -32003, -32004


@dataclass(frozen=True)
class Refusal:
    """The required contents of an answer, and of the warning about the refused request.

    Attributes:
        code: the code in both.
        reason: the reason in both.
        node: the identity that the request names.
        is_proven: whether the warning contains a proof against the identity.
    """

    code: int
    reason: str
    node: UUID
    is_proven: bool = False


def refuse_requests(world: World) -> list[LoggedWarning]:
    """Send each validator a forged, a replayed, an unknown and a stolen request; check answers and warnings.

    Returns:
        The warnings; the first one is about a forged request.
    """
    attacker, victim, stranger = world.captured, world.gateways[0], uuid4()
    refusals = [
        Refusal(FORGED, "Public key verification failed", attacker.uuid),
        Refusal(STALE, "The request was seen before", attacker.uuid),
        Refusal(UNKNOWN, "Unknown identity", stranger),
        Refusal(UNKNOWN, "The address of the sender belongs to another identity", victim.uuid),
    ]
    sent = {}
    for validator in world.validators:
        forged = submission(attacker.uuid, ECKey.generate_key("P-256"), validator)
        good = submission(attacker.uuid, key_of(attacker), validator)
        unknown = submission(stranger, ECKey.generate_key("P-256"), validator)
        borrowed = submission(victim.uuid, key_of(victim), validator)
        sent[validator.number] = [good, forged, good, unknown, borrowed]

    answers, warnings = post(world, attacker, world.validators, sent), []
    for validator in world.validators:
        first, *refused = answers[validator.number]
        assert "result" in first, first
        for refusal, answer in zip(refusals, refused, strict=True):
            warnings.append(check_refusal(refusal, answer, validator, attacker))
    return warnings


def refuse_command(world: World) -> LoggedWarning:
    """Send a forged command from the host of a validator to a gateway, and check the answer and the warning."""
    validator, gateway = world.validators[0], world.gateways[0]
    data = {"thing": 256, "id": "forged", "name": COMMAND, "arguments": {}, "deadline": int(time.time()) + 60}
    forged = request_of(validator.uuid, ECKey.generate_key("P-256"), gateway, ("command", data))
    [answer] = post(world, validator, [gateway], {gateway.number: [forged]})[gateway.number]
    return check_refusal(Refusal(FORGED, "Public key verification failed", validator.uuid), answer, gateway, validator)


def refuse_banned(world: World) -> LoggedWarning:
    """Ban the captured gateway, and send its requests through a tunnel that is still open.

    The attacker stops ``vpn sync`` on the gateway, and the test stops ``vpn sync`` on one validator.
    The tunnel between the gateway and this validator therefore stays open.
    The validator's service reads the ban from the chain, and refuses the requests. ``vpn sync`` on the validator then
    continues, and closes the tunnel.
    """
    attacker, validator = world.captured, world.validators[0]
    refusal = Refusal(BANNED, "Gateway is banned", attacker.uuid, is_proven=True)

    def refused() -> Answer:
        request = submission(attacker.uuid, key_of(attacker), validator)
        [answer] = post(world, attacker, [validator], {validator.number: [request]})[validator.number]
        return {} if "result" in answer else answer

    programs = [world.tunnels[one.number] for one in (attacker, validator)]
    for program in programs:
        program.send_signal(signal.SIGSTOP)
    try:
        world.ledger.ban(attacker)
        answer = eventually(refused, what="a refusal of the banned gateway")
        warning = check_refusal(refusal, answer, validator, attacker)
    finally:
        for program in programs:
            program.send_signal(signal.SIGCONT)
    for one in world.validators:
        eventually(lambda: attacker.tunnel_key not in peers_of(one), what="the end of the tunnel")  # noqa: B023 - at once
    return warning


def check_refusal(refusal: Refusal, answer: Answer, receiver: Member, sender: Member) -> LoggedWarning:
    """Check an error answer and the logged warning to which the answer refers; return the warning."""
    error = answer["error"]
    assert (error["code"], error["message"]) == (refusal.code, refusal.reason), answer
    number = error["data"]["warning"]
    eventually(lambda: find_warning(receiver, number) is not None, what=f"the warning {number} of {answer}")
    found = find_warning(receiver, number)
    assert found
    warning = found.warning
    assert (warning.address, warning.node, warning.is_proven) == (str(sender.address), refusal.node, refusal.is_proven)
    assert (warning.code, warning.reason) == (refusal.code, refusal.reason)
    return found


def submission(sender: UUID, key: ECKey, receiver: Member) -> str:
    """Return a request ``submit`` with one reading."""
    readings = [{"thing": "1", "time": int(time.time()), "name": "trial", "value": 1, "unit": ""}]
    return request_of(sender, key, receiver, ("submit", {"readings": readings}))


def request_of(sender: UUID, key: ECKey, receiver: Member, call: tuple[str, Mapping[str, object]]) -> str:
    """Return a request that is signed by joserfc and not by BlockOTA's own code.

    Args:
        sender: the identity that the request names.
        key: the key that signs.
        receiver: the member that should receive the request.
        call: the method and its data.
    """
    method, data = call
    claims = {"iat": int(time.time()), "jti": uuid4().hex, "aud": str(receiver.uuid), "method": method, "data": data}
    token = jws.serialize_compact({"alg": "ES256", "kid": str(sender)}, json.dumps(claims).encode(), key)
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"signed": token}})


def post(
    world: World, sender: Member, receivers: Sequence[Member], requests: Mapping[int, Sequence[str]]
) -> dict[int, list[Answer]]:
    """Post requests from the host of a member, through the tunnels, and return the answers.

    Args:
        world: the city.
        sender: the member.
        receivers: validators or gateways.
        requests: the requests for each receiver, by its number.

    Returns:
        The answers, by the number of the receiver.
    """
    places = []
    for one in receivers:
        is_validator = one.kind is IdentityKind.VALIDATOR
        url = f"https://{one.address}:{REQUESTS}" if is_validator else f"http://{one.address}:{COMMANDS}"
        places.append([url, str(one.folder / "validator" / "authority.pem"), requests[one.number]])
    path = world.folder / "requests.json"
    path.write_text(json.dumps(places))
    with sender.run_module("tests.peers.city.requester", str(path)) as process:
        out, errors = process.communicate()
    assert out, errors
    return dict(zip([one.number for one in receivers], json.loads(out), strict=True))


def peers_of(member: Member) -> str:
    """Return the public keys of the peers that the interface of a member has."""
    return run("wg", "show", member.interface, "peers")


def key_of(member: Member) -> ECKey:
    """Return the identity key of a member."""
    return ECKey.import_key((member.folder / "identity.pem").read_text())
