"""Tunnels of real WireGuard are configured from the identity registry.

The tests check which tunnel ends reach each other, and through which ports.
"""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial

from blockota.model.identity import ban_reason
from tests.conftest import ROOT
from tests.peers.wireguard.conftest import METRICS, End, TunnelCity, status_of
from tests.support.scraping import samples_of
from tests.support.waiting import eventually

_SERVE = "import http.server as s; s.HTTPServer(('{address}', {port}), s.SimpleHTTPRequestHandler).serve_forever()"
PORTS = REQUESTS, COMMANDS, LOGS, OTHER = 8470, 8471, 8472, 8480


def test_validators_and_gateways_reach_each_other_and_gateways_do_not(tunnels: TunnelCity) -> None:
    """Gateways and validators reach each other. No gateway reaches another gateway."""
    for validator in tunnels.validators:
        for gateway in tunnels.gateways:
            gateway.comes_to_reach(validator)
            validator.comes_to_reach(gateway)
    first, second = tunnels.gateways
    assert not first.reaches(second)
    assert not second.reaches(first)
    assert not tunnels.validators[0].reaches(tunnels.validators[1])


def answers(client: End, server: End, port: int) -> bool:
    """Whether a client gets an answer to an HTTP request through the tunnel."""
    command = client.host.command("curl", "-s", "-m", "2", "-o", "/dev/null", f"http://{server.address}:{port}/")
    return subprocess.run(command, check=False).returncode == 0


def test_each_port_is_open_to_the_kinds_that_need_it(tunnels: TunnelCity) -> None:
    """A validator accepts requests, a gateway accepts validators' commands, and the room reads both kinds of logs."""
    validator, gateway, room = tunnels.validators[0], tunnels.gateways[0], tunnels.room
    for one, other in ((gateway, validator), (gateway, room), (room, validator)):
        one.comes_to_reach(other)
    servers = []
    try:
        for end in (validator, gateway, room):
            for port in PORTS:
                script = _SERVE.format(address=end.address, port=port)
                servers.append(
                    subprocess.Popen(
                        end.host.command("python3", "-c", script), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                    )
                )
                eventually(partial(answers, end, end, port), what=f"a server at port {port}")
        for client, other, opened in (
            (gateway, validator, [REQUESTS]),
            (room, validator, [REQUESTS, LOGS]),
            (validator, gateway, [COMMANDS]),
            (room, gateway, [LOGS]),
            (validator, room, [REQUESTS]),
            (gateway, room, []),
        ):
            found = [port for port in PORTS if answers(client, other, port)]
            assert found == opened, f"{client.kind} to {other.kind}"
    finally:
        for server in servers:
            server.kill()
            server.wait()


def test_the_virtual_ip_of_another_gets_no_answer(tunnels: TunnelCity) -> None:
    """If a gateway sends a packet from another gateway's virtual IP, the validator drops the packet."""
    validator, (first, second) = tunnels.validators[0], tunnels.gateways
    first.comes_to_reach(validator)
    first.host.run("ip", "address", "add", f"{second.address}/32", "dev", first.interface)
    command = first.host.command("ping", "-n", "-c", "2", "-W", "1", "-I", second.address, validator.address)
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
    first.host.run("ip", "address", "del", f"{second.address}/32", "dev", first.interface)
    assert first.reaches(validator)


def is_silent(end: End, other: End) -> bool:
    """Whether one tunnel end cannot reach another."""
    return not end.reaches(other)


def test_a_ban_ends_the_tunnels_at_all_validators_and_no_others(tunnels: TunnelCity) -> None:
    """A banned gateway loses all its tunnels, and the other gateway loses no packet. Then the ban is lifted."""
    banned, other = tunnels.gateways
    for validator in tunnels.validators:
        banned.comes_to_reach(validator)
        other.comes_to_reach(validator)
    watched = [
        subprocess.Popen(
            other.host.command("ping", "-n", "-i", "0.02", "-W", "2", "-c", "200", validator.address),
            stdout=subprocess.PIPE,
            text=True,
        )
        for validator in tunnels.validators
    ]
    tunnels.city.decide("identities", "ban", banned.uuid.bytes, ban_reason("stolen"))
    for validator in tunnels.validators:
        eventually(partial(is_silent, banned, validator), what="the end of the tunnel")
    for ping in watched:
        output, _ = ping.communicate(timeout=120)
        assert " 0% packet loss" in output, output
    for validator in tunnels.validators:
        keys = {row["uuid"] for row in status_of(validator)}
        assert keys == {str(other.uuid), str(tunnels.room.uuid)}
    assert {row["uuid"] for row in status_of(banned)} == set()
    tunnels.city.decide("identities", "unban", banned.uuid.bytes)
    for validator in tunnels.validators:
        banned.comes_to_reach(validator)


def test_the_status_joins_wireguard_and_the_registry(tunnels: TunnelCity) -> None:
    """The status of each tunnel shows its identity, its address, its newest handshake and its bytes."""
    validator, gateway = tunnels.validators[0], tunnels.gateways[0]
    gateway.comes_to_reach(validator)
    row = next(row for row in status_of(validator) if row["uuid"] == str(gateway.uuid))
    assert (row["kind"], row["virtualIp"], row["banned"]) == ("gateway", gateway.address, False)
    assert isinstance(row["lastHandshake"], int)
    assert isinstance(row["received"], int)
    assert row["received"] > 0


def test_the_metrics_count_the_tunnels(tunnels: TunnelCity) -> None:
    """The metrics of a host count its peers, but do not name them."""
    validator, gateway = tunnels.validators[0], tunnels.gateways[0]
    gateway.comes_to_reach(validator)
    text = validator.host.run("curl", "-sS", f"http://127.0.0.1:{METRICS}/metrics")
    found = samples_of(text)
    assert found["blockota_tunnels_peers"] == len(status_of(validator))
    assert found["blockota_tunnels_live_peers"] >= 1
    assert (found["blockota_tunnels_troubles"], found["blockota_tunnels_received_bytes"] > 0) == (0, True)
    assert gateway.address not in text
    assert str(gateway.uuid) not in text


def test_the_printed_file_is_one_of_wireguard(tunnels: TunnelCity) -> None:
    """`wg-quick` and `wg` accept the output of ``vpn sync --print`` for other systems."""
    gateway = tunnels.gateways[0]
    printed = subprocess.run(gateway.blockota("vpn", "sync", "--print"), capture_output=True, text=True, check=True)
    path = gateway.folder / "printed.conf"
    path.write_text(printed.stdout)
    path.chmod(0o600)
    stripped = gateway.host.run("wg-quick", "strip", str(path))
    (gateway.folder / "stripped.conf").write_text(stripped)
    gateway.host.run("wg", "syncconf", gateway.interface, str(gateway.folder / "stripped.conf"))
    gateway.comes_to_reach(tunnels.validators[0])

    settings = gateway.folder / "blockota.toml"
    text = settings.read_text()
    settings.write_text(text.replace("[vpn]\n", '[vpn]\nmax_age = "1s"\n'))
    eventually(lambda: tunnels.city.chain.head().time + 1 < int(time.time()), what="an old block")
    refused = subprocess.run(gateway.blockota("vpn", "sync", "--print"), capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout, "the node is behind" in refused.stderr) == (5, "", True)
    settings.write_text(text)


def test_the_tunnels_close_when_the_program_stops(tunnels: TunnelCity) -> None:
    """After SIGTERM, the interface has no peers. The next start opens the tunnels again."""
    gateway, validator = tunnels.gateways[0], tunnels.validators[0]
    gateway.comes_to_reach(validator)
    gateway.stop()
    assert status_of(gateway) == []
    assert not gateway.reaches(validator)
    gateway.start()
    gateway.comes_to_reach(validator)


def reach_by_force(end: End, other: End, way: End) -> None:
    """Make a gateway route its packets for another gateway through a validator, as its operator could configure it."""
    rows = [line.split() for line in end.host.run("wg", "show", end.interface, "allowed-ips").splitlines()]
    key = next(row[0] for row in rows if f"{way.address}/32" in row)
    allowed = f"{way.address}/32,{other.address}/32"
    end.host.run("wg", "set", end.interface, "peer", key, "allowed-ips", allowed)
    end.host.run("ip", "route", "replace", f"{other.address}/32", "dev", end.interface)


def test_no_gateway_reaches_another_through_a_validator(tunnels: TunnelCity) -> None:
    """A validator does not forward packets between tunnels.

    If another program removes the firewall rules, the validator restores the rules.
    """
    validator, (first, second) = tunnels.validators[0], tunnels.gateways
    for gateway, other in ((first, second), (second, first)):
        gateway.comes_to_reach(validator)
        reach_by_force(gateway, other, validator)
    validator.host.run("sysctl", "-w", "net.ipv4.ip_forward=1")
    assert not first.reaches(second)
    validator.host.run("nft", "flush", "ruleset")
    eventually(lambda: "dport 8470" in validator.host.run("nft", "list", "ruleset"), what="the rules")
    assert not first.reaches(second)
    assert first.reaches(validator)
    validator.host.run("sysctl", "-w", "net.ipv4.ip_forward=0")
    for gateway in (first, second):
        gateway.stop()
        gateway.start()


def test_a_start_without_chain_is_closed(tunnels: TunnelCity) -> None:
    """A killed process leaves its peers in the interface.

    The next process removes these peers before it reads the registry.
    """
    validator, gateway = tunnels.validators[0], tunnels.gateways[0]
    gateway.comes_to_reach(validator)
    assert validator.process
    validator.process.kill()
    validator.process.communicate()
    assert validator.host.run("wg", "show", validator.interface, "peers")
    settings = validator.folder / "blockota.toml"
    text = settings.read_text()
    settings.write_text(text.replace("http://", "http://127.0.0.1:9/"))
    command = validator.blockota("vpn", "sync", "--watch")
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, "does not answer" in done.stderr) == (5, True), done.stderr
    assert not validator.host.run("wg", "show", validator.interface, "peers")
    settings.write_text(text)
    validator.start()
    gateway.comes_to_reach(validator)


def test_a_lost_interface_and_a_second_process(tunnels: TunnelCity) -> None:
    """An interface that was removed is created again. A second process for the same tunnels is refused."""
    validator, gateway = tunnels.validators[0], tunnels.gateways[0]
    validator.host.run("ip", "link", "del", validator.interface)
    gateway.comes_to_reach(validator)
    command = validator.blockota("vpn", "sync", "--watch")
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert "another process follows the registry" in done.stderr
    assert gateway.reaches(validator)


def test_a_network_card_does_not_become_a_tunnel(tunnels: TunnelCity) -> None:
    """If the settings name the host's network card as the tunnel, `vpn sync` fails and leaves the card unchanged."""
    gateway = tunnels.gateways[0]
    settings = gateway.folder / "card.toml"
    settings.write_text((gateway.folder / "blockota.toml").read_text().replace(gateway.interface, "eth0"))
    for more in ((), ("--watch",)):
        command = gateway.host.command(
            sys.executable, "-m", "blockota", "vpn", "sync", "--config", str(settings), *more
        )
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode, done.stdout
        assert "Traceback" not in done.stderr
    assert gateway.address not in gateway.host.run("ip", "-4", "address", "show", "dev", "eth0")
    assert "eth0" not in gateway.host.run("nft", "list", "ruleset")


def test_an_unknown_host_name_costs_one_tunnel(tunnels: TunnelCity) -> None:
    """WireGuard refuses a configuration with a host name that it cannot resolve. The other tunnels open."""
    gateway, (first, second) = tunnels.gateways[1], tunnels.validators
    gateway.stop()
    settings = gateway.folder / "blockota.toml"
    text = settings.read_text()
    settings.write_text(text.replace(f'"{first.host.address}:', '"no-such-host.invalid:'))
    gateway.start()
    gateway.comes_to_reach(second)
    assert not gateway.reaches(first)
    gateway.stop()
    settings.write_text(text)
    gateway.start()
    gateway.comes_to_reach(first)
