"""Settings: the precedence of file, environment variables and options, and the refusal of invalid values."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from blockota.deployment import Deployment
from blockota.errors import UsageError
from blockota.settings import DEFAULT_CONFIRMATIONS, LOCAL_URL, Role, Settings, load_settings
from tests.support.samples import CONTRACT, SAFE

JOURNAL = Path(".blockota") / "transactions"
OTHER = "0x" + "5a" * 20
FILE = f"""
network = "field"
store = "file:images"

[networks.field]
url = "https://node.example"
chain_id = 100
contract = "{CONTRACT}"
confirmations = 3
max_fee_gwei = 0.5

[networks.local]
url = "http://127.0.0.1:9999"
"""
LOCAL = Deployment(1337, CONTRACT, OTHER, SAFE, [SAFE], 1, 5)
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a function that writes ``blockota.toml`` into the working folder."""
    monkeypatch.chdir(tmp_path)

    def write_file(text: str) -> Path:
        path = tmp_path / "blockota.toml"
        path.write_text(text)
        return path

    return write_file


def load(
    path: Path | None = None, *, network: str | None = None, role: Role = Role.PRODUCER, **variables: str
) -> Settings:
    """Load the settings with the given environment variables."""
    environment = {f"BLOCKOTA_{name}": value for name, value in variables.items()}
    return load_settings(path, network=network, environment=environment, role=role)


def with_variables(variables: dict[str, str], *, path: Path | None = None, network: str | None = None) -> Settings:
    """Load the settings with environment variables that are named without ``BLOCKOTA_``."""
    environment = {f"BLOCKOTA_{name}": value for name, value in variables.items()}
    return load_settings(path, network=network, environment=environment)


def test_the_default_is_the_local_chain(write: Write) -> None:
    """Without a settings file and variables, the network is the local chain and no contract is configured."""
    del write
    assert load() == Settings("local", LOCAL_URL, 1337, None, None, 0, "file:.blockota/store", None, JOURNAL, 0)


def test_a_deployment_is_enough_on_the_local_chain(write: Write, tmp_path: Path) -> None:
    """On the local chain, the contract's address is read from ``deployments/1337.json``."""
    del write
    assert LOCAL.write(tmp_path) == tmp_path / "deployments" / "1337.json"
    assert (load().contract, load().replication) == (CONTRACT, OTHER)
    assert load().first_block == LOCAL.block_number
    assert load(CONTRACT=OTHER).first_block == 0
    assert load(CONTRACT=OTHER, FIRST_BLOCK="7").first_block == 7


def test_the_file_selects_network_and_store(write: Write, tmp_path: Path) -> None:
    """The settings file selects the network, and a relative store path is relative to the file."""
    path = write(FILE)
    store, journal = f"file:{tmp_path / 'images'}", tmp_path / JOURNAL
    expected = Settings("field", "https://node.example", 100, CONTRACT, None, 3, store, 500_000_000, journal, 0)
    expected = replace(expected, file=path)
    assert load(path) == expected
    assert load().contract == CONTRACT
    assert load(CONFIG=str(path)) == expected


def test_the_command_line_goes_before_the_variable_before_the_file(write: Write) -> None:
    """The network option overrides the environment variable, which overrides the settings file."""
    write(FILE)
    assert load().network == "field"
    assert load(NETWORK="local").network == "local"
    assert load(NETWORK="field", network="local").url == "http://127.0.0.1:9999"


def test_a_variable_goes_before_the_file(write: Write) -> None:
    """An environment variable overrides each setting of the settings file."""
    write(FILE)
    where = {"URL": "http://x", "CHAIN_ID": "5", "CONTRACT": OTHER, "REPLICATION": SAFE}
    found = with_variables(where | {"CONFIRMATIONS": "7", "STORE": "file:/srv/images", "MAX_FEE_GWEI": "30"})
    expected = Settings("field", "http://x", 5, OTHER, SAFE, 7, "file:/srv/images", 30 * 10**9, JOURNAL, 0)
    assert found == replace(expected, file=Path("blockota.toml"))


def test_the_variable_of_the_safe_counts_beside_a_configured_contract(write: Write, tmp_path: Path) -> None:
    """With a configured contract, the Safe of the deployment file is ignored; BLOCKOTA_SAFE always sets the Safe."""
    LOCAL.write(tmp_path)
    write(f'[networks.both]\nurl = "http://x"\nchain_id = 5\ncontract = "{CONTRACT}"\nsafe = "{SAFE}"')
    assert (load().safe, load(SAFE=OTHER).safe) == (SAFE, OTHER)
    assert load(SAFE=OTHER, CONTRACT=CONTRACT).safe == OTHER
    assert (load(CONTRACT=CONTRACT).safe, load(CONTRACT="").safe) == (None, SAFE)
    assert (load(network="both").safe, load(network="both", SAFE=OTHER).safe) == (SAFE, OTHER)


def test_an_empty_variable_counts_as_unset(write: Write) -> None:
    """An empty environment variable has no effect on the settings."""
    write(FILE)
    empty = dict.fromkeys(
        ("CONFIG", "NETWORK", "URL", "CHAIN_ID", "CONTRACT", "CONFIRMATIONS", "STORE", "MAX_FEE_GWEI"), ""
    )
    assert with_variables(empty) == load()


def test_confirmations_are_asked_for_everywhere_but_locally(write: Write) -> None:
    """The default number of confirmations is 12, and 0 on the local chain."""
    write('[networks.main]\nurl = "https://x"\nchain_id = 1')
    assert load(network="main").confirmations == DEFAULT_CONFIRMATIONS
    assert load().confirmations == 0


@pytest.mark.parametrize(
    ("gwei", "wei"),
    [("0", 0), ("30", 30 * 10**9), ("0.1", 10**8), ("0.000000001", 1), ("1e-05", 10_000), ("2.50", 2_500_000_000)],
)
def test_a_fee_is_taken_to_the_digit(write: Write, gwei: str, wei: int) -> None:
    """The maximum fee is converted from gwei to wei without rounding."""
    assert load(write(f"[networks.local]\nmax_fee_gwei = {gwei}")).max_fee == wei
    assert load(write("")).max_fee is None


@pytest.mark.parametrize(
    ("coins", "wei"), [("0", 0), ("2", 2 * 10**18), ("0.000000000000000001", 1), ("1e-05", 10**13)]
)
def test_a_cost_is_read_exactly(write: Write, coins: str, wei: int) -> None:
    """The maximum cost of a transaction is converted from the chain's coin to wei without rounding."""
    assert load(write(f"[networks.local]\nmax_cost = '{coins}'".replace("'1e-05'", "1e-05"))).max_cost == wei
    assert load(write("")).max_cost == 5 * 10**16
    assert with_variables({"MAX_COST": "0.1"}).max_cost == 10**17


def test_a_deployment_belongs_to_its_chain(write: Write, tmp_path: Path) -> None:
    """A deployment file of another chain id is ignored."""
    write('[networks.main]\nurl = "https://x"\nchain_id = 1')
    LOCAL.write(tmp_path)
    assert load(network="main").contract is None


def test_a_store_in_a_home_is_found_from_everywhere(write: Write) -> None:
    """A leading tilde in the store's path expands to the home folder."""
    assert load(write('store = "file:~/images"')).store == f"file:{Path.home() / 'images'}"
    assert load(write('store = "https://gateway.example"')).store == "https://gateway.example"
    assert load(write('store = "file:"')).store == "file:"


def test_sources_are_for_all_networks_or_for_one(write: Write) -> None:
    """A network's list of sources overrides the general list, and an environment variable overrides both lists."""
    write('gateways = ["https://a"]\nvendor_sources = ["https://b"]\n[networks.local]\ngateways = ["https://c"]')
    assert (load().gateways, load().vendor_sources) == (("https://c",), ("https://b",))
    found = load(GATEWAYS="https://d https://e", VENDOR_SOURCES="")
    assert (found.gateways, found.vendor_sources) == (("https://d", "https://e"), ())


def test_tokens_are_read_and_not_shown(write: Write, tmp_path: Path) -> None:
    """The settings contain the file or the environment variable of each access token, but not the token."""
    write('[tokens]\n"https://a" = "env:TOKEN_A"\n"https://b:8443/x" = "file:b.token"')
    assert load().tokens == {"https://a": "env:TOKEN_A", "https://b:8443/x": "file:b.token"}
    beside = load_settings(tmp_path / "blockota.toml", network=None, environment={}).tokens
    assert beside["https://b:8443/x"] == f"file:{tmp_path / 'b.token'}"
    words = "https://c/a=b=env:TOKEN_C http://localhost:80=file:/run/c=d"
    assert load(TOKENS=words).tokens == {"https://c/a=b": "env:TOKEN_C", "http://localhost:80": "file:/run/c=d"}
    assert load(TOKENS="").tokens == {}


@pytest.mark.parametrize("text", ['tokens = "S3"', "[tokens]\n'https://a' = 'S3'", "tokens = ['S3']", "tokens.S3 = 5"])
def test_a_token_in_the_settings_is_refused_unread(write: Write, text: str) -> None:
    """An access token written into the settings is refused, and the error does not contain the token."""
    write(text)
    with pytest.raises(UsageError, match="the settings never contain a token itself") as caught:
        load()
    assert "S3" not in str(caught.value)
    write("")
    for words in ("S3", "https://a=S3", "https://a=env:A S3", "https://a=env:S-3"):
        with pytest.raises(UsageError, match=r"BLOCKOTA_TOKENS .* the required form is URL=env:NAME") as caught:
            load(TOKENS=words)
        assert "S3" not in str(caught.value)


WRONG_FILES = {
    "no TOML": ("network = ", "is not TOML"),
    "no UTF-8": ("\udcff", "it is not text in UTF-8. Save it with the encoding UTF-8"),
    "a number without end": ("a = " + "9" * 5000, r"it is not TOML: a number has too many digits\. Correct"),
    "a hexadecimal number without end": ("networks = [0x" + "f" * 5000 + "]", "a number has too many digits"),
    "nested without end": ("a = " + "[" * 30_000, "is not TOML"),
    "an unknown key": (
        'netwrok = "x"',
        "unknown setting 'netwrok': the known settings are bench, .*gateway_network, .* Write network",
    ),
    "an unknown key of a network": (
        "[networks.x]\nchain = 5",
        r"\[networks.x\] has an unknown setting 'chain': the known settings are chain_id",
    ),
    "a network that is not there": ('network = "y"\n[networks.x]', "unknown network 'y': the settings have local, x"),
    "a mistyped registry": (
        "[networks.local]\nidentites = '0x0'",
        "unknown setting 'identites': .* Write identities",
    ),
    "a registry that is not an address": (
        "[networks.local]\nledger = '0x0'",
        "setting ledger .*'0x0' is not an address",
    ),
    "a gateway network that is not there": ('producer_network = "y"', "unknown network 'y': the settings have local"),
    "a mistyped key": ("[networks.local]\nchainid = 5", "unknown setting 'chainid': .* Write chain_id"),
    "networks as a number": ("networks = 5", "it is not a table"),
    "a network as a number": ("[networks]\nlocal = 5", "it is not a table"),
    "a network as a text": ('[networks]\nlocal = "abc"', "it is not a table"),
    "networks as a list": ("networks = [1]", "is not a table"),
    "the network's name as a list": ("network = ['x']", "setting network cannot be used"),
    "the store as a number": ("store = 5", "setting store cannot be used: it is not text"),
    "a store with a null byte": ('store = "file:a\\u0000b"', "setting store cannot be used: it is not text"),
    "a url as a number": ("[networks.local]\nurl = 5", "setting url cannot be used: it is not text"),
    "a contract as a number": ("[networks.local]\ncontract = 5", "setting contract .*5 is not an address"),
    "a short address": ("[networks.local]\ncontract = '0x12'", "'0x12' is not an address"),
    "a chain id with a fraction": ("[networks.local]\nchain_id = 1.9", "setting chain_id .*1.9 is not a whole number"),
    "a chain id as a truth": ("[networks.local]\nchain_id = true", "True is not a whole number"),
    "a chain id as a list": ("[networks.local]\nchain_id = [1]", "is not a whole number"),
    "confirmations without end": ("[networks.local]\nconfirmations = inf", "inf is not a whole number"),
    "a fee below zero": ("[networks.local]\nmax_fee_gwei = -1", "-1 is not an amount in gwei, such as 30"),
    "a fee without end": ("[networks.local]\nmax_fee_gwei = inf", "inf is not an amount"),
    "a fee that is none": ("[networks.local]\nmax_fee_gwei = nan", "nan is not an amount"),
    "a fee as a truth": ("[networks.local]\nmax_fee_gwei = true", "True is not an amount"),
    "a fee in another unit": ("[networks.local]\nmax_fee_gwei = '30 gwei'", "'30 gwei' is not an amount"),
    "a fee beyond measure": ("[networks.local]\nmax_fee_gwei = 1e10", "not an amount"),
    "a fee below the wei": ("[networks.local]\nmax_fee_gwei = 1e-10", "at most 9 decimals"),
    "a gateway without a list": ('gateways = "https://x"', "setting gateways .*the value is not a list of URLs"),
    "a vendor's source as a number": ("[networks.local]\nvendor_sources = [5]", "setting vendor_sources .*not a list"),
    "confirmations below zero": ("[networks.local]\nconfirmations = -1", "-1 is not a whole number"),
}


def test_a_byte_order_mark_is_skipped(write: Write, tmp_path: Path) -> None:
    """A settings file that an editor on Windows saved is read."""
    write("")
    (tmp_path / "blockota.toml").write_text('store = "file:there"', encoding="utf-8-sig")
    assert load().store == "file:there"


TWO_CHAINS = f"""
network = "field"
gateway_network = "city"

[networks.field]
url = "https://node.example"
chain_id = 100
producers = "{OTHER}"

[networks.city]
url = "https://city.example"
chain_id = 200
identities = "{CONTRACT}"
"""


def test_each_role_has_its_network(write: Write) -> None:
    """The settings file may name a network for each role; a role without a network uses ``network``.

    The option --network selects the network of both roles.
    """
    write(TWO_CHAINS)
    producer, gateway = load(), load(role=Role.GATEWAY)
    assert (producer.network, gateway.network) == ("field", "city")
    assert (producer.registries, gateway.registries) == ({"producers": OTHER}, {"identities": CONTRACT})
    assert [load(network="city", role=role).network for role in Role] == ["city", "city"]
    write(TWO_CHAINS.replace("gateway_network", "producer_network"))
    assert [load(role=role).network for role in Role] == ["city", "field"]


def test_a_variable_names_a_roles_network(write: Write) -> None:
    """BLOCKOTA_GATEWAY_NETWORK overrides the gateway network of the settings file.

    BLOCKOTA_NETWORK is ignored for a role whose network the settings file names.
    """
    write(TWO_CHAINS)
    assert load(role=Role.GATEWAY, GATEWAY_NETWORK="field").network == "field"
    assert [load(role=role, NETWORK="local").network for role in Role] == ["local", "city"]


def test_a_registry_comes_from_the_first_place_that_names_it(write: Write, tmp_path: Path) -> None:
    """A registry's address is read from its variable, then the network's section, then the deployment file."""
    write("[networks.local]\n" + f'devices = "{OTHER}"')
    replace(LOCAL, registries={"devices": CONTRACT, "orders": CONTRACT}).write(tmp_path)
    assert load().registries == {"devices": OTHER, "orders": CONTRACT}
    assert load(DEVICES=SAFE, LEDGER=OTHER).registries == {
        "devices": SAFE,
        "ledger": OTHER,
        "orders": CONTRACT,
    }


@pytest.mark.parametrize(("text", "sentence"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_an_invalid_file_is_reported(write: Write, tmp_path: Path, text: str, sentence: str) -> None:
    """An invalid settings file is refused with an error that names the setting or the value."""
    write("")
    (tmp_path / "blockota.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=sentence):
        load()


@pytest.mark.parametrize(
    ("name", "value"),
    [("CHAIN_ID", "x"), ("CHAIN_ID", "1.5"), ("CHAIN_ID", "9" * 5000), ("CONFIRMATIONS", "-1"), ("CONTRACT", "0x12")]
    + [("MAX_FEE_GWEI", word) for word in ("-1", "1e3", "1,5", "nan", "0x5", " ", "٣")],
)
def test_an_invalid_variable_is_reported(write: Write, name: str, value: str) -> None:
    """An invalid environment variable is refused with an error that names the variable."""
    write(FILE)
    with pytest.raises(UsageError, match=f"BLOCKOTA_{name}"):
        with_variables({name: value})


def test_a_named_file_is_required(write: Write, tmp_path: Path) -> None:
    """A missing default settings file is accepted; a missing settings file that the user named is an error."""
    del write
    missing = tmp_path / "other.toml"
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        load(missing)
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        load(CONFIG=str(missing))
    with pytest.raises(UsageError, match="is not a regular file"):
        load(tmp_path)


def test_a_deployment_is_read_back(tmp_path: Path) -> None:
    """A written deployment file is read back unchanged."""
    assert Deployment.read(LOCAL.write(tmp_path)) == LOCAL


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "5", "null", "[" * 60_000, json.dumps({"chain_id": 1}), json.dumps({"contract": 5, "extra": 1})],
    ids=range(8),
)
def test_an_invalid_deployment_is_reported(tmp_path: Path, text: str) -> None:
    """An invalid deployment file is refused with the advice to deploy again."""
    path = tmp_path / "1337.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"is not a deployment of BlockOTA\. Remove it and deploy again"):
        Deployment.read(path)


@pytest.mark.parametrize("changes", [{"contract": 5}, {"owners": 5}, {"owners": [5]}, {"threshold": "2"}])
def test_a_deployment_with_a_wrong_field_is_reported(tmp_path: Path, changes: dict[str, object]) -> None:
    """A deployment file with a field of a wrong type is refused when it is read."""
    path = LOCAL.write(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UsageError, match="is not a deployment of BlockOTA"):
        Deployment.read(path)


def test_a_deployment_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    """Writing a deployment fails with an error if a file is in place of the deployments folder."""
    (tmp_path / "deployments").touch()
    with pytest.raises(UsageError, match="deployments cannot be made"):
        LOCAL.write(tmp_path)


def test_a_node_chosen_elsewhere_gets_the_settings_for_its_chain(write: Write) -> None:
    """If a node is given by URL and chain id, the settings of the network with the same chain id apply.

    If the chain id is not configured, the settings of the networks are ignored.
    """
    write(FILE.replace('"field"', '"local"', 1))
    LOCAL.write(Path())
    found = [
        load_settings(None, network=None, environment={}, node=("http://127.0.0.1:7", number))
        for number in (100, 1337, 5)
    ]
    assert [(s.url, s.chain_id) for s in found] == [("http://127.0.0.1:7", number) for number in (100, 1337, 5)]
    assert [(s.network, s.contract) for s in found] == [("field", CONTRACT), ("local", CONTRACT), ("chain 5", None)]
    assert {s.store for s in found} == {"file:images"}
