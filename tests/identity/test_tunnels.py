"""Which identities may reach each other through the tunnels, as files of WireGuard and nftables."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from blockota.identity.tunnels import Ports, find_peers, render_interface, render_peers, render_rules
from blockota.model.identity import Identity, IdentityKind
from tests.support.identities import UUIDS, enrolment_of


def record(number: int, kind: IdentityKind = IdentityKind.GATEWAY, **changed: object) -> Identity:
    """Return the record of an identity with the virtual IP 10.64.0.(number + 1)."""
    enrolled = enrolment_of(number, kind)
    good = Identity(
        uuid=enrolled.uuid,
        kind=kind,
        keys=enrolled.keys,
        virtual_ip=enrolled.virtual_ip,
        banned=False,
        banned_at=None,
        retired=False,
        since=0,
        from_block=0,
        previous=None,
    )
    return replace(good, **changed)  # type: ignore[arg-type]


VALIDATOR = record(0, IdentityKind.VALIDATOR)
CITY = [
    VALIDATOR,
    record(1),
    record(2, banned=True),
    record(3, retired=True),
    record(4, virtual_ip=None),
    record(5, IdentityKind.CLOUD),
    record(6, IdentityKind.VALIDATOR),
    record(7, IdentityKind.OPERATOR),
    record(8),
    record(9, IdentityKind.FOG),
]


def addresses(own: Identity) -> list[int]:
    """Return the peers of an identity as record numbers: the last byte of the virtual IP, less one."""
    return [int(peer.address) % 256 - 1 for peer in find_peers(CITY, own, {})]


@pytest.mark.parametrize(
    ("own", "numbers"),
    [
        (VALIDATOR, [1, 5, 8]),
        (record(1), [0, 5, 6, 9]),
        (record(5, IdentityKind.CLOUD), [0, 1, 6, 8, 9]),
        (record(9, IdentityKind.FOG), [1, 5, 8]),
        (record(7, IdentityKind.OPERATOR), []),
        (record(1, banned=True), []),
        (record(1, retired=True), []),
        (record(1, virtual_ip=None), []),
    ],
)
def test_the_kinds_decide_who_is_a_peer(own: Identity, numbers: list[int]) -> None:
    """Two identities are peers only if their kinds permit it; banned or retired identities are never peers."""
    assert addresses(own) == numbers


def test_two_gateways_are_never_peers() -> None:
    """No gateway has a gateway as a peer, whatever the records are."""
    for own in CITY:
        if own.kind is IdentityKind.GATEWAY:
            assert IdentityKind.GATEWAY not in {peer.kind for peer in find_peers(CITY, own, {})}


def test_a_tunnel_exists_at_both_ends_or_at_none() -> None:
    """If identity A has identity B as a peer, B also has A as a peer."""
    by_uuid = {one.uuid: one for one in CITY}
    for own in CITY:
        for peer in find_peers(CITY, own, {}):
            assert own.uuid in {back.uuid for back in find_peers(CITY, by_uuid[peer.uuid], {})}


def test_equal_records_give_equal_bytes() -> None:
    """The rendered files do not depend on the order in which a node returns the records."""
    text = render_peers(find_peers(CITY, VALIDATOR, {}))
    for shift in range(len(CITY)):
        assert render_peers(find_peers(CITY[shift:] + CITY[:shift], VALIDATOR, {})) == text
    assert render_peers(find_peers(CITY[::-1], VALIDATOR, {})) == text


def test_a_configuration_has_the_form_of_wireguard() -> None:
    """In a configuration, a peer that listens has an endpoint.

    A peer that does not listen has no endpoint, because it connects to this host.
    """
    peers = find_peers([VALIDATOR, record(1), record(8)], VALIDATOR, {UUIDS[8]: "192.0.2.7:51820"})
    assert render_interface("a2V5", 51820, address=IPv4Address("10.64.0.1")) + render_peers(peers) == (
        "[Interface]\nPrivateKey = a2V5\nListenPort = 51820\nAddress = 10.64.0.1/32\n\n"
        f"# gateway {UUIDS[1]}\n[Peer]\nPublicKey = {peers[0].encoded_key}\nAllowedIPs = 10.64.0.2/32\n\n"
        f"# gateway {UUIDS[8]}\n[Peer]\nPublicKey = {peers[1].encoded_key}\nAllowedIPs = 10.64.0.9/32\n"
        "Endpoint = 192.0.2.7:51820\nPersistentKeepalive = 15\n"
    )


VALIDATORS, CLOUDS = "{ 10.64.0.1, 10.64.0.7, 10.64.0.10 }", "{ 10.64.0.6 }"


@pytest.mark.parametrize(
    ("kind", "opened"),
    [
        (IdentityKind.GATEWAY, [f"ip saddr {VALIDATORS} tcp dport 8471", f"ip saddr {CLOUDS} tcp dport 8472"]),
        (IdentityKind.VALIDATOR, ["tcp dport 8470", f"ip saddr {CLOUDS} tcp dport 8472"]),
        (IdentityKind.FOG, ["tcp dport 8470", f"ip saddr {CLOUDS} tcp dport 8472"]),
        (IdentityKind.CLOUD, [f"ip saddr {VALIDATORS} tcp dport 8470"]),
        (IdentityKind.OPERATOR, []),
    ],
)
def test_each_port_is_open_to_the_kinds_that_need_it(kind: IdentityKind, opened: list[str]) -> None:
    """For each kind of identity, the firewall rules open only the expected ports.

    The ports are those for commands, for requests, and for reading the log.
    """
    rules = render_rules("wg7", kind, Ports(), find_peers(CITY, record(20, kind), {}))
    lines = [line.strip() for line in rules.splitlines() if "dport" in line]
    assert lines == [f'iifname "wg7" {one} accept' for one in opened]
    assert rules.count('iifname "wg7" drop') == 2


def test_a_new_gateway_changes_no_rules() -> None:
    """A new gateway does not change the firewall rules.

    A different set of validators and clouds changes the rules.
    """
    for kind in (IdentityKind.VALIDATOR, IdentityKind.CLOUD):
        own = record(20, kind)
        rules = render_rules("wg7", kind, Ports(), find_peers(CITY, own, {}))
        assert render_rules("wg7", kind, Ports(), find_peers([*CITY, record(11)], own, {})) == rules
        assert render_rules("wg7", kind, Ports(), find_peers([VALIDATOR], own, {})) != rules
