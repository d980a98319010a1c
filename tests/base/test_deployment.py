"""Deployment files, and the settings files made from them, are read back as written."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from blockota.deployment import Deployment, settings_text
from blockota.errors import UsageError
from blockota.settings import Role, load_settings
from tests.support.samples import CONTRACT, SAFE

OTHER = "0x" + "5a" * 20
VENDOR = Deployment(1337, CONTRACT, OTHER, SAFE, [SAFE], 1, 5)
CITY = Deployment(1338, "", "", OTHER, [SAFE], 1, 9, registries={"identities": CONTRACT}, safes={"city": OTHER})


def test_a_deployment_is_read_back(tmp_path: Path) -> None:
    """A deployment file is read back as written; a file of an older version is read without registries."""
    for deployment in (VENDOR, CITY):
        assert Deployment.read(deployment.write(tmp_path)) == deployment
    fields = json.loads(Deployment.path(tmp_path, 1337).read_text())
    del fields["registries"], fields["safes"]
    Deployment.path(tmp_path, 1337).write_text(json.dumps(fields))
    assert Deployment.read(Deployment.path(tmp_path, 1337)) == VENDOR


@pytest.mark.parametrize(
    "changes", [{"registries": {"identities": 5}}, {"safes": {"city": None}}, {"registries": 5}], ids=str
)
def test_a_wrong_field_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    """A deployment file with a registry or Safe that is not an address is refused."""
    path = VENDOR.write(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UsageError, match="not a deployment of BlockOTA"):
        Deployment.read(path)


def test_the_settings_of_two_chains_are_read_back(tmp_path: Path) -> None:
    """The settings file of two deployments names the producer and the gateway network."""
    networks = {"field": ("https://node.example", VENDOR), "city chain": ("https://city.example/key", CITY)}
    path = tmp_path / "blockota.toml"
    path.write_text(settings_text(networks, comment="a test"))
    producer, gateway = (load_settings(path, network=None, environment={}, role=role) for role in Role)
    assert (producer.network, producer.contract, producer.replication, producer.safe) == (
        "field",
        CONTRACT,
        OTHER,
        SAFE,
    )
    assert (producer.first_block, producer.registries) == (5, {})
    assert (gateway.network, gateway.url, gateway.contract) == ("city chain", "https://city.example/key", None)
    assert (gateway.safe, gateway.first_block, gateway.registries) == (OTHER, 9, CITY.registries)


def test_the_citys_own_contract_has_a_network(tmp_path: Path) -> None:
    """The settings file contains a network for configurations, with the city's own BlockOTA contract and Safe."""
    registries, safes = {"producers": OTHER, "configurations": OTHER}, {"configurations": OTHER}
    path = tmp_path / "blockota.toml"
    deployed = replace(VENDOR, registries=registries, safes=safes)
    path.write_text(settings_text({"local": ("http://127.0.0.1:8545", deployed)}, comment="a test"))
    city = load_settings(path, network="local-configurations", environment={})
    assert (city.chain_id, city.contract, city.replication, city.safe) == (1337, OTHER, None, OTHER)
    assert load_settings(path, network=None, environment={}).registries == registries


def test_the_settings_of_a_vendor_name_one_network() -> None:
    """The settings file of a vendor's deployment contains one network and no empty address."""
    text = settings_text({"local": ("http://127.0.0.1:8545", replace(VENDOR, replication=""))}, comment="a test")
    assert tomllib.loads(text) == {
        "network": "local",
        "store": "file:.blockota/store",
        "networks": {
            "local": {
                "url": "http://127.0.0.1:8545",
                "chain_id": 1337,
                "contract": CONTRACT,
                "safe": SAFE,
                "first_block": 5,
            }
        },
    }
