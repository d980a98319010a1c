"""The tunnels of a host follow the identity registry of a real chain."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from blockota.bindings.identities import IdentitiesContract, enrolment_argument, key_arguments
from blockota.chain.follow import Follower
from blockota.errors import ChainError, RefusedError, UsageError
from blockota.identity.tunnel_keys import create_key, read_private_key
from blockota.identity.tunnel_settings import TunnelSettings, load_tunnels
from blockota.identity.tunnel_sync import TunnelSync, join_states, lock_settings, read_tunnels
from blockota.identity.wireguard import PeerState
from blockota.model.identity import Identity, IdentityKind, ban_reason
from tests.support.city import City
from tests.support.identities import UUIDS, enrolment_of, keys_of

OWN = 20
GATEWAYS = (21, 22, 23)


class RecordedInterface:
    """A fake WireGuard interface that records all calls in order."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.text = ""
        self.addresses: list[str] = []
        self.is_there = self.has_table = False
        self.unknown_hosts: set[str] = set()

    def exists(self) -> bool:
        """Whether the interface was opened."""
        return self.is_there

    def has_rules(self) -> bool:
        """Whether rules are loaded."""
        return self.has_table

    def resolves(self, endpoint: str) -> bool:
        """Return False if `unknown_hosts` contains the endpoint's host."""
        return endpoint.partition(":")[0] not in self.unknown_hosts

    def open(self, address: IPv4Address) -> None:
        """Record an opened interface."""
        self.is_there = True
        self.done.append(f"open {address}")

    def load_rules(self, rules: str) -> None:
        """Record loaded rules."""
        self.has_table = True
        self.done.append(f"rules {'8470' in rules}")

    def set_configuration(self, text: str, addresses: Sequence[IPv4Address]) -> None:
        """Record a configuration."""
        self.text, self.addresses = text, [str(one) for one in addresses]
        self.done.append(f"set {len(addresses)}")

    def add_peers(self, text: str, addresses: Sequence[IPv4Address]) -> None:
        """Record added peers."""
        self.text += text
        self.done.append(f"add {len(addresses)}")

    def remove_peers(self, keys: Sequence[str]) -> None:
        """Record removed peers."""
        for key in keys:
            assert key in self.text, "the peer is not there"
            self.text = self.text.replace(key, "")
        self.done.append(f"remove {len(keys)}")


class WithoutRecords(IdentitiesContract):
    """A registry whose node answers event queries but no reads of records."""

    def identities(self, *, block: int | None = None) -> Iterator[Identity]:
        """Fail."""
        raise ChainError("no records", why=f"the node does not answer in block {block}")


class Host:
    """The tunnels of a validator on the chain of a city."""

    def __init__(self, city: City) -> None:
        self.city, self.contract = city, city.identities
        self.settings = TunnelSettings(UUIDS[OWN], Path("vpn.key"), max_age=600)
        self.interface, self.said = RecordedInterface(), list[str]()
        self.sync = TunnelSync(self.settings, "a2V5", self.interface, self.said.append)
        self.follower = Follower(city.chain)

    def update(self, *, later: int = 0) -> None:
        """Read the registry at `later` seconds after the newest block."""
        self.sync.update(self.contract, self.follower, now=city_time(self.city) + later)


def city_time(city: City) -> int:
    """Return the time of the newest block."""
    return city.chain.head().time


@pytest.fixture(scope="module")
def enrolled(city: City) -> City:
    """Return a city with a validator, and gateways that have virtual IPs and tunnel keys."""
    city.decide("identities", "enrol", enrolment_argument(enrolment_of(OWN, IdentityKind.VALIDATOR)))
    for number in GATEWAYS:
        city.decide("identities", "enrol", enrolment_argument(enrolment_of(number)))
    return city


@pytest.fixture
def host(enrolled: City) -> Host:
    """Return the validator's host, which has no tunnels yet."""
    return Host(enrolled)


def of_gateways(city: City) -> int:
    """Return the number of gateways in the registry that have tunnels."""
    return len(read_tunnels(city.identities, TunnelSettings(UUIDS[OWN], Path())).peers)


def test_the_interface_starts_closed_and_gets_the_peers(host: Host) -> None:
    """The interface is opened only after the registry was read for the first time.

    A registry read without events changes nothing.
    """
    assert host.interface.done == []
    host.update()
    count = of_gateways(host.city)
    assert host.interface.done == ["open 10.64.0.21", "rules True", f"set {count}"]
    assert {"10.64.0.22", "10.64.0.23"} <= {*host.interface.addresses}
    host.city.chain.mine()
    host.update()
    assert len(host.interface.done) == 3


def test_a_ban_is_carried_out_before_everything_else(host: Host) -> None:
    """A banned gateway is removed from the peers; after the ban is lifted, the gateway is added again.

    A ban does not change the other peers.
    """
    host.update()
    host.city.decide("identities", "ban", UUIDS[21].bytes, ban_reason("stolen"))
    host.update()
    assert host.interface.done[3:] == ["remove 1"]
    assert any(str(UUIDS[21]) in one and "banned" in one for one in host.said)
    host.city.decide("identities", "unban", UUIDS[21].bytes)
    host.update()
    assert host.interface.done[4:] == ["add 1"]
    assert str(UUIDS[21]) in host.interface.text


def test_a_ban_needs_no_records(host: Host) -> None:
    """The event of a ban removes a peer, even if the records cannot be read.

    After a later event, the records are read again.
    """
    host.update()
    records = host.contract
    host.contract = WithoutRecords(records.chain, records.address)
    host.city.decide("identities", "ban", UUIDS[22].bytes, ban_reason("stolen"))
    host.update()
    assert host.interface.done[3:] == ["remove 1"]
    host.city.decide("identities", "unban", UUIDS[22].bytes)
    with pytest.raises(ChainError, match="no records"):
        host.update()
    host.contract = records
    host.update()
    assert host.interface.done[4:] == ["add 1"]


def test_a_rotated_key_replaces_the_peer(host: Host) -> None:
    """After a rotation of a gateway's tunnel key, the new key replaces the former key in the peers."""
    host.update()
    before = base64.b64encode(keys_of(23).tunnel_key or b"").decode()
    assert before in host.interface.text
    host.city.decide("identities", "rotate", UUIDS[23].bytes, *key_arguments(keys_of(41)))
    host.update()
    assert host.interface.done[3:] == ["remove 1", "add 1"]
    assert before not in host.interface.text
    assert base64.b64encode(keys_of(41).tunnel_key or b"").decode() in host.interface.text


def test_the_ban_of_this_host_closes_all_its_tunnels(host: Host) -> None:
    """A banned validator has no peers."""
    host.update()
    host.city.decide("identities", "ban", UUIDS[OWN].bytes, ban_reason("stolen"))
    host.update()
    assert host.interface.done[-1] == "set 0"
    host.city.decide("identities", "unban", UUIDS[OWN].bytes)


def test_a_chain_out_of_reach_closes_the_tunnels_after_a_while(host: Host) -> None:
    """If the chain is unreadable, the peers remain for `max_age` (600 s), and are then removed.

    The peers return when the chain can be read again.
    """
    host.update()
    now = city_time(host.city)
    host.sync.expire(now=now + 600)
    assert host.interface.done[-1] != "set 0"
    with pytest.raises(ChainError, match="behind"):
        host.update(later=601)
    host.sync.expire(now=now + 601)
    assert host.interface.done[-1] == "set 0"
    host.city.chain.mine()
    host.update()
    assert host.interface.done[-1] == f"add {of_gateways(host.city)}"


def test_the_peers_of_a_killed_process_are_removed_first(host: Host) -> None:
    """At its start, the program removes all peers from an existing interface.

    After the first registry read, the program adds the peers again.
    """
    host.sync.start_closed()
    assert host.interface.done == []
    host.interface.is_there = True
    host.sync.start_closed()
    assert host.interface.done == ["set 0"]
    host.update()
    assert host.interface.done[-1] == f"set {of_gateways(host.city)}"


def test_rules_that_another_program_removed_are_loaded_again(host: Host) -> None:
    """Firewall rules that another program deleted, for example by restarting nftables.service, are loaded again.

    Reloading the rules needs no chain.
    """
    host.update()
    host.sync.repair(now=100)
    host.interface.has_table = False
    host.sync.repair(now=104)
    assert len(host.interface.done) == 3
    host.sync.repair(now=105)
    assert host.interface.done[3:] == ["rules True"]
    host.sync.repair(now=200)
    assert len(host.interface.done) == 4


def test_an_interface_that_was_removed_is_made_again(host: Host) -> None:
    """An interface that disappeared, for example because wireguard-go was killed, is detected.

    The next registry read opens the interface again.
    """
    host.update()
    host.interface.is_there = False
    host.sync.repair(now=100)
    assert host.sync.peers == ()
    host.sync.close()
    host.update()
    assert host.interface.done[3:] == ["open 10.64.0.21", "rules True", f"set {of_gateways(host.city)}"]


def test_an_endpoint_that_cannot_be_resolved_does_not_harm_the_others(host: Host) -> None:
    """If the host name of a peer cannot be resolved, the peer is added without an endpoint.

    When the host name resolves later, the peer gets its endpoint.
    An endpoint that cannot be resolved does not affect the other peers.
    """
    host.settings = replace(host.settings, endpoints={UUIDS[22]: "lost.example:51820", UUIDS[23]: "other.example:7"})
    host.sync = TunnelSync(host.settings, "a2V5", host.interface, host.said.append)
    host.interface.unknown_hosts = {"lost.example"}
    host.update()
    assert host.interface.done[2:] == [f"set {of_gateways(host.city)}"]
    assert "lost.example" not in host.interface.text
    assert "Endpoint = other.example:7" in host.interface.text
    host.update(later=29)
    host.interface.unknown_hosts = set()
    host.update(later=30)
    assert host.interface.done[3:] == ["add 1"]
    assert "Endpoint = lost.example:51820" in host.interface.text
    host.update(later=90)
    assert len(host.interface.done) == 4
    assert len([one for one in host.said if "cannot be resolved" in one]) == 1


def test_one_process_follows_the_registry(tmp_path: Path) -> None:
    """A second process for the same tunnels is refused.

    At its end, the second process would remove the peers of the first process.
    """
    own = TunnelSettings(UUIDS[OWN], tmp_path / "vpn.key")
    with lock_settings(own), pytest.raises(RefusedError, match="in use"), lock_settings(own):
        pass
    with pytest.raises(UsageError, match="cannot be written"), lock_settings(replace(own, key_file=Path("/absent/a"))):
        pass


def test_an_identity_without_tunnel_is_refused(host: Host) -> None:
    """The tunnels of an identity that is not enrolled, or has no virtual IP, are refused."""
    for uuid in (uuid4(), UUIDS[30]):
        with pytest.raises(RefusedError, match="has no tunnels"):
            read_tunnels(host.contract, TunnelSettings(uuid, Path()))


def test_the_states_of_tunnels_are_joined_with_the_registry(host: Host) -> None:
    """The list of tunnel states names the identity of each tunnel.

    A tunnel key without an identity is marked as not enrolled.
    """
    host.city.decide("identities", "ban", UUIDS[22].bytes, ban_reason("stolen"))
    key = base64.b64encode(keys_of(22).tunnel_key or b"").decode()
    rows = join_states(host.contract.identities(), [PeerState(key, "", 7, 1, 2), PeerState("AAAA", "", None, 0, 0)])
    assert [row.identity.uuid if row.identity else None for row in rows] == [None, UUIDS[22]]
    assert rows[0].status == "not enrolled"
    assert rows[1].status.startswith("banned since ")
    host.city.decide("identities", "unban", UUIDS[22].bytes)


def test_a_key_is_made_once_and_kept_secret(tmp_path: Path) -> None:
    """An existing key file is not overwritten, and a key file that other users can read is refused."""
    path = tmp_path / "vpn.key"
    public = create_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(base64.b64decode(public)) == len(base64.b64decode(read_private_key(path))) == 32
    with pytest.raises(UsageError, match="not overwritten"):
        create_key(path)
    path.chmod(0o644)
    with pytest.raises(RefusedError, match="not secret"):
        read_private_key(path)
    for wrong in ("", "AAAA", "no key", public + "="):
        path.chmod(0o600)
        path.write_text(wrong)
        with pytest.raises(UsageError, match="no tunnel key"):
            read_private_key(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_private_key(tmp_path / "absent")


def settings(tmp_path: Path, text: str) -> TunnelSettings:
    """Read settings from a file."""
    (tmp_path / "blockota.toml").write_text(text)
    return load_tunnels(tmp_path / "blockota.toml", environment=os.environ)


GOOD = f'[vpn]\nidentity = "{UUIDS[0]}"\nkey = "vpn.key"\n'


def test_settings_are_read(tmp_path: Path) -> None:
    """The table [vpn] requires an identity and a key. The other settings have default values."""
    assert settings(tmp_path, GOOD) == TunnelSettings(UUIDS[0], tmp_path / "vpn.key")
    more = f'interface = "wg1"\nlisten_port = 7\nmax_age = "10m"\n[vpn.endpoints]\n{UUIDS[1]} = "[2001:db8::1]:51820"\n'
    read = settings(tmp_path, GOOD + more)
    assert (read.interface, read.listen_port, read.max_age) == ("wg1", 7, 600)
    assert read.endpoints == {UUID(str(UUIDS[1])): "[2001:db8::1]:51820"}


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "[vpn]\n",
        '[vpn]\nidentity = "7"\nkey = "a"\n',
        GOOD + 'interface = "a; reboot"\n',
        GOOD + "listen_port = 0\n",
        GOOD + 'max_age = "ever"\n',
        GOOD + "peers = 7\n",
        GOOD + f'[vpn.endpoints]\n{UUIDS[1]} = "host"\n',
        GOOD + f'[vpn.endpoints]\n{UUIDS[1]} = "host:70000"\n',
        GOOD + f'[vpn.endpoints]\n{UUIDS[1]} = "host:1\\nPostUp = x"\n',
        GOOD + '[vpn.endpoints]\nnobody = "host:1"\n',
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, wrong: str) -> None:
    """Invalid settings of the tunnels raise `UsageError`."""
    with pytest.raises(UsageError):
        settings(tmp_path, wrong)
