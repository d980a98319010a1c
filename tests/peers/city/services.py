"""The services of the city: the cloud, the validators, and the gateways with their brokers and sensors."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, derive_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from blockota.gateway.founding import NewGateway, found_gateway
from blockota.identity.founding import NewService, found_receiver
from blockota.keys import dev_account
from blockota.messaging.mosquitto import BrokerFiles
from blockota.model.device import registration_of
from blockota.model.release import product_key
from scripts.peers import find_program
from tests.peers.city.members import DOMAIN, Member
from tests.peers.city.world import World, end_all, read_object
from tests.support import forks
from tests.support.city import MODEL, REGISTRANT
from tests.support.namespaces import NamespaceHost, run
from tests.support.waiting import eventually

REQUESTS, COMMANDS, LOGS = 8470, 8471, 8472
"""The ports at which validators and the cloud take requests, and gateways take commands."""
QUANTITY = "temperature"
"""The quantity that the sensors send."""
COMMAND = "fan"
"""The command of the actuator."""
_BROKER_ADDRESS, _THING_ADDRESS = "192.168.0.1", "192.168.0.2"
"""The ends of the cable between a gateway and its device."""


@dataclass
class Services:
    """The services that run, and the devices of the gateways.

    Attributes:
        world: the city.
        devices: the numbers of the devices, by the number of the gateway; each site has one device.
        hosts: the hosts of the devices, by the number of the gateway.
        running: the process and the exit stack of each running service, by the number of the member.
        things: the processes of the sensors and of the actuator, by the number of the gateway.
    """

    world: World
    devices: dict[int, int] = field(default_factory=dict)
    hosts: dict[int, NamespaceHost] = field(default_factory=dict)
    running: dict[int, tuple[forks.Process, ExitStack]] = field(default_factory=dict)
    things: dict[int, forks.Process] = field(default_factory=dict)

    def register_devices(self) -> None:
        """Admit a registrant, give device numbers to each gateway, and register one device for each gateway."""
        city, account = self.world.ledger.city(), dev_account(REGISTRANT)
        key = derive_private_key(int.from_bytes(account.key), SECP256K1()).public_key()
        compressed = key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        city.decide("devices", "admitRegistrant", product_key("acme"), compressed, account.address)
        city.devices.register_spec(account, MODEL, data="")
        # A registration needs the numbers of its site only, so it is sent while the Safe decides about the next site.
        with ThreadPoolExecutor() as pool:
            made = {}
            for gateway in self.world.sites:
                city.decide("devices", "giveBlocks", gateway.uuid.bytes, 1)
                serial = f"SN-{gateway.number}"
                registration = registration_of(
                    [f"acme/{MODEL}/{serial}"], nonce=serial.encode(), data="", site=gateway.uuid, key=None
                )
                made[gateway.number] = pool.submit(city.devices.register, account, registration, payer=gateway.account)
        self.devices = {number: one.result().number for number, one in made.items()}

    def set_up(self) -> None:
        """Write the settings of all services, except those of the tunnels."""
        cloud = self.world.cloud
        values = {"requests": f"{cloud.address}:{REQUESTS}", "database": self.world.storage.write_place(cloud)}
        found_receiver(_config(cloud), _service(cloud), values, hosts=[str(cloud.address)], now=datetime.now(UTC))
        for validator in self.world.validators:
            self._set_up_validator(validator)
        for gateway, validator in zip(self.world.gateways, self.world.validators, strict=True):
            self._set_up_gateway(gateway, validator)
        self._set_up_gateway(self.world.captured, self.world.validators[0])
        _add(self.world.captured, "gateway.access.commands", {MODEL: [COMMAND]})

    def start(self, member: Member) -> None:
        """Start the service of a member, and wait until it is ready."""
        self.launch(member)
        read_object(self.running[member.number][0])

    def prepare_sites(self) -> None:
        """Start a broker at each site, and add a host for the device, connected only by a cable to the gateway."""
        for gateway in self.world.sites:
            self._start_broker(gateway)
            self.hosts[gateway.number] = self.world.network.add_behind(gateway.host, (_BROKER_ADDRESS, _THING_ADDRESS))

    def start_all(self) -> None:
        """Start all services, and wait until they are ready."""
        for member in self.world.members:
            if member is not self.world.stolen:
                self.launch(member)
        for process, _ in self.running.values():
            read_object(process)

    def launch(self, member: Member) -> None:
        """Start the service of a member."""
        stack = self.world.stack.enter_context(ExitStack())
        process = stack.enter_context(member.run(str(member.kind), "run", "--json", "--events", "events.jsonl"))
        self.running[member.number] = process, stack

    def kill(self, member: Member) -> None:
        """Kill the service of a member by SIGKILL."""
        process, stack = self.running.pop(member.number)
        process.kill()
        stack.close()

    def start_things(self) -> None:
        """Start the actuator and the sensors."""
        for gateway in (self.world.captured, *self.world.gateways):
            number, files = self.devices[gateway.number], BrokerFiles(gateway.folder / "gateway" / "mqtt")
            place = {"host": _BROKER_ADDRESS, "authority": str(files.authority)}
            place["password"] = files.issue([number])[str(number)]
            (gateway.folder / "thing.json").write_text(json.dumps(place))
            module = "tests.peers.city.actuator" if gateway is self.world.captured else "tests.peers.city.sensor"
            inside = ["tests.peers.city.inside", self.hosts[gateway.number].namespace]
            words = [*inside, module, str(number), "thing.json"]
            process = forks.started(["-m", *words], folder=gateway.folder, preloaded=["paho.mqtt.client"])
            self.things[gateway.number] = self.world.stack.enter_context(process)
        for thing in self.things.values():
            assert thing.stdout.readline() == "ready\n", thing.errors

    def received(self) -> dict[str, set[float]]:
        """Return the values in the cloud's database, by the number of the sensor."""
        found = self.world.storage.values(QUANTITY)
        return {number: found[number] for number in self.sensors}

    def stop_sensors(self) -> dict[str, int]:
        """Stop the sensors, and return by sensor number how many of its values were confirmed."""
        outputs = end_all(list(self.sensors.values()))
        return {number: int(out) for number, out in zip(self.sensors, outputs, strict=True)}

    @property
    def sensors(self) -> dict[str, forks.Process]:
        """The processes of the sensors, by the number of the device."""
        return {str(self.devices[one.number]): self.things[one.number] for one in self.world.gateways}

    def _set_up_validator(self, validator: Member) -> None:
        cloud = self.world.cloud
        found_receiver(
            _config(validator),
            _service(validator),
            {"requests": f"{validator.address}:{REQUESTS}", "listen": f"{validator.address}:{LOGS}"},
            hosts=[str(validator.address)],
            now=datetime.now(UTC),
        )
        table = {"identity": str(cloud.uuid), "url": f"https://{cloud.address}:{REQUESTS}"}
        table["authority"] = str(cloud.folder / "cloud" / "authority.pem")
        _add(validator, "validator.cloud", table)

    def _set_up_gateway(self, gateway: Member, validator: Member) -> None:
        new = NewGateway(
            gateway.uuid,
            DOMAIN,
            identity_key=gateway.folder / "identity.pem",
            log_key=gateway.folder / "log.pem",
            listen=f"{gateway.address}:{LOGS}",
            mqtt=_BROKER_ADDRESS,
        )
        found_gateway(_config(gateway), new)
        authority = str(validator.folder / "validator" / "authority.pem")
        _add(gateway, "gateway.access", {"authority": authority, "listen": f"{gateway.address}:{COMMANDS}"})
        _add(gateway, "gateway.access.validators", {str(validator.uuid): f"https://{validator.address}:{REQUESTS}"})

    def _start_broker(self, gateway: Member) -> None:
        files = gateway.folder / "gateway" / "mqtt" / "mosquitto.conf"
        command = gateway.host.command(find_program("mosquitto"), "-c", str(files))
        with (gateway.folder / "mosquitto.txt").open("wb") as log:
            broker = subprocess.Popen(command, stdout=log, stderr=log)
        self.world.stack.callback(broker.wait)
        self.world.stack.callback(broker.terminate)
        listening = gateway.host.command("ss", "-Htln", "sport = :8883")
        eventually(lambda: run(*listening).strip() or broker.poll() is not None, what="the broker")
        assert broker.poll() is None, (gateway.folder / "mosquitto.txt").read_text()


def _config(member: Member) -> Path:
    return member.folder / "blockota.toml"


def _service(member: Member) -> NewService:
    return NewService(
        str(member.kind),
        member.uuid,
        DOMAIN,
        identity_key=member.folder / "identity.pem",
        log_key=member.folder / "log.pem",
    )


def _add(member: Member, table: str, values: Mapping[str, object]) -> None:
    text = "\n".join(["", f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""])
    with _config(member).open("a") as config:
        config.write(text)
