"""Settings: the chains, contracts and store that a command uses.

Settings are read from ``blockota.toml``, and ``BLOCKOTA_*`` variables override the file. Settings of the bench can be
overridden only by command-line options. On the local chain, ``blockota.toml`` is optional, because the deployment file
``deployments/1337.json`` has the required values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeGuard
from uuid import UUID

from blockota.deployment import LOCAL_CHAIN_ID, LOCAL_CHAINS, Deployment
from blockota.errors import Action, UsageError, shortened
from blockota.files import read_input
from blockota.settings_table import SettingsTable, beside, parse_toml, read_paths, refuse_unknown

FILE_NAME = "blockota.toml"
DEFAULT_STORE = "file:.blockota/store"
LOCAL_URL = "http://127.0.0.1:8545"
DEFAULT_CONFIRMATIONS = 12
"""The default number of confirmations. A block is read when this number of blocks follow it. A local chain has 0."""
STATE_FOLDER = ".blockota"
"""The folder for BlockOTA's own files, beside the settings file."""
BENCH_FOLDER, BENCH_LOG_NAME, OLD_BENCH_LOG_NAME = "bench", "log", "bench-log.jsonl"
"""The names of three places: the folder of a bench in the state folder, the log's folder in it, and the log file of
earlier versions."""
JOURNALS_NAME, BOARD_IMAGES_NAME = "interrupted", "board-images"
"""The names of two folders of a bench: one for the journals of interrupted runs, and one for the records of images made
for single boards."""
_MAX_FILE_SIZE = 1 << 16
_MAX_DIGITS = 20
_GWEI_DECIMALS, _COIN_DECIMALS = 9, 18
_AMOUNT = re.compile(r"(\d{1,9})(?:\.(\d+))?", re.ASCII)
MAX_COST = 5 * 10**16
"""The default maximum cost of a transaction, in wei: 0.05 of the chain's coin."""
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:.+")
_TOKEN_WORD = re.compile(rf"(https?://\S+?)=({_REFERENCE.pattern})")
_SOURCES = {"gateways", "vendor_sources"}
REGISTRIES: Mapping[str, str] = {
    "producers": "Producers",
    "configurations": "BlockOTA",
    "identities": "IdentityRegistry",
    "devices": "DeviceRegistry",
    "ledger": "UpdateLedger",
    "orders": "UpdateOrders",
}
"""The settings with the addresses of further contracts, and the names of these contracts. First come the contracts of
the producer chain, including the city's BlockOTA for configurations. Then come the contracts of the gateway chain."""

GATEWAY_REGISTRIES = frozenset({"identities", "devices", "ledger", "orders"})
"""The settings of the contracts on the gateway chain."""


def publisher_of(setting: str) -> str:
    """Return who publishes the address of a contract: ``vendor``, ``consortium`` or ``city``."""
    if setting not in REGISTRIES:
        return "vendor"
    return "consortium" if setting == "producers" else "city"


class Role(StrEnum):
    """The chain that a command uses. The setting ``<role>_network`` names the chain's network."""

    PRODUCER = "producer"
    """The chain with the vendor's releases, and with the producers that the consortium admits."""
    GATEWAY = "gateway"
    """The chain with the city's identities, devices, orders and logs."""


_TABLES = {"networks", "tokens", "image_keys", "bench", "trust", "log", "gateway", "vpn", "operations", "validator"}
_KNOWN = {"network", "store", "cloud", *_TABLES, *(f"{role}_network" for role in Role), *_SOURCES}
_KNOWN_NETWORK = {
    *("url", "chain_id", "contract", "replication", "safe", "confirmations", "max_fee_gwei", "max_cost", "first_block"),
    *REGISTRIES,
    *_SOURCES,
}


@dataclass(frozen=True)
class Settings:
    """The settings of one command.

    Attributes:
        network: the network's name in the file.
        url: the network's JSON-RPC endpoint.
        chain_id: the chain id that the node must have.
        contract: address of the BlockOTA contract; None if none is configured.
        replication: address of the FirmwareReplication contract; None if none is configured.
        confirmations: the number of blocks that must follow a block before it is read.
        store: the URL of the content store.
        max_fee: the maximum fee for a unit of gas, in wei; None uses the usual price of the last blocks as a limit.
        transactions: folder of the journal of sent transactions.
        first_block: the first block that is searched for the contract's events.
        vendor_sources: the URLs of the vendor's repositories, asked for images that are not in the store.
        safe: the expected address of the vendor's Safe, compared with the Safe of a chain view; None if not configured.
        gateways: the URLs of gateways, asked for images that neither the vendor nor its brokers serve.
        tokens: the place of each source's bearer token, ``env:NAME`` or ``file:PATH``, by the source's URL.
        max_cost: the maximum cost of a transaction, in wei.
        file: the settings file that was read; None if no file was read.
        registries: addresses of the configured contracts among `REGISTRIES`, by setting.
        image_keys: the file with the public key that signs the images of a product, by the product's name.

    Examples:
        >>> network.settings.network, network.settings.chain_id
        ('local', 1337)
    """

    network: str
    url: str
    chain_id: int
    contract: str | None
    replication: str | None
    confirmations: int
    store: str
    max_fee: int | None
    transactions: Path
    first_block: int
    vendor_sources: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    safe: str | None = None
    tokens: Mapping[str, str] = field(default_factory=dict)
    max_cost: int = MAX_COST
    file: Path | None = None
    registries: Mapping[str, str] = field(default_factory=dict)
    image_keys: Mapping[str, Path] = field(default_factory=dict)

    @property
    def bench(self) -> Path:
        """The folder of the bench, which is in the same parent folder as the transaction journal."""
        return self.transactions.with_name(BENCH_FOLDER)


@dataclass(frozen=True)
class BenchSettings:
    """The settings of a bench, from ``[bench]``; None or empty where the file sets nothing.

    The commands check the names of wirings, line modes and start methods with the parsers of the command-line options.

    Attributes:
        product: the product to flash.
        port: the ports of the boards. In the settings file, the value is a text or a list of texts.
        wiring: the name of the wiring.
        invert_reset: whether the reset line of the wiring is inverted.
        invert_boot0: whether the BOOT0 line of the wiring is inverted.
        baud: bits per second, or ``auto``.
        mode: the words of the line's mode, separated by commas.
        start: the name of the method that starts the program.
        operator: the operator's name in the bench log.
        board_product: the product of a board's second image, which is made for this board alone.
        board_image: the command that makes the second image of a board.
        log: the folder of the bench log.
        identity: the UUID of the enrolled technician who keeps the bench log.
        device_alias: the first part of the alias under which a board is registered. A slash and the board's unique id
            follow it.
    """

    product: str | None = None
    port: tuple[str, ...] = ()
    wiring: str | None = None
    invert_reset: bool | None = None
    invert_boot0: bool | None = None
    baud: str | None = None
    mode: str | None = None
    start: str | None = None
    operator: str | None = None
    board_product: str | None = None
    board_image: str | None = None
    log: str | None = None
    identity: UUID | None = None
    device_alias: str | None = None


_FLAGS = {"invert_reset", "invert_boot0"}


def default_confirmations(chain_id: int) -> int:
    """Return the number of confirmations for a chain whose settings do not contain this number."""
    return 0 if chain_id in LOCAL_CHAINS else DEFAULT_CONFIRMATIONS


def load_settings(
    config: Path | None,
    *,
    network: str | None,
    environment: Mapping[str, str],
    role: Role = Role.PRODUCER,
    node: tuple[str, int] | None = None,
) -> Settings:
    """Read the settings.

    Args:
        config: the settings file; None means ``blockota.toml`` in the current folder, if it exists.
        network: a network's name; None means the network that the file selects.
        environment: the environment with ``BLOCKOTA_*`` variables.
        role: the chain whose network is selected. If the file does not set ``<role>_network``, the setting ``network``
            selects the network.
        node: URL and chain id of a node to use instead of the configured node. All other settings are those of the
            network with this chain id, or the defaults if the file does not configure this network.

    Raises:
        UsageError: the file cannot be read, or a setting is not valid.
    """
    # Each setting is taken from the first place that has it: variable, network's section, deployment file, default.
    named = config or environment.get("BLOCKOTA_CONFIG")
    path = Path(named or FILE_NAME)
    has_file = bool(named) or path.exists()
    file = _read(path) if has_file else {}
    key = f"{role}_network"
    name = network or environment.get(f"BLOCKOTA_{key.upper()}") or _text(file, key, default="")
    name = name or environment.get("BLOCKOTA_NETWORK") or _text(file, "network", default="local")
    section = _section(file, name)
    if node:
        name, section = _of_chain(file, node[1], first=name)
        environment = {**environment, "BLOCKOTA_URL": node[0], "BLOCKOTA_CHAIN_ID": str(node[1])}

    def number(key: str, default: object) -> int:
        variable = f"BLOCKOTA_{key.upper()}"
        value = environment.get(variable) or section.get(key, default)
        digits = str(value) if type(value) in (int, str) else ""
        if digits.isascii() and digits.isdecimal() and len(digits) <= _MAX_DIGITS:
            return int(digits)
        raise UsageError(f"the setting {key} (or {variable}) cannot be used", why=f"{value!r} is not a whole number")

    chain_id = number("chain_id", LOCAL_CHAIN_ID)

    # A configured contract may differ from the deployed one. The deployment's first block and Safe then do not apply.
    is_named = bool(environment.get("BLOCKOTA_CONTRACT") or "contract" in section)
    has_safe = bool(environment.get("BLOCKOTA_SAFE") or "safe" in section)
    deployment_file = Deployment.path(path.parent, chain_id)
    deployment = Deployment.read(deployment_file) if deployment_file.exists() else None
    first_block = deployment.block_number if deployment and not is_named else 0
    cost = _amount("max_cost", environment, section, unit="coins", decimals=_COIN_DECIMALS)
    max_cost = MAX_COST if cost is None else cost

    def address(key: str) -> str | None:
        variable = f"BLOCKOTA_{key.upper()}"
        value = environment.get(variable) or section.get(key) or (deployment.address(key) if deployment else None)
        return None if value is None else require_address(f"{key} (or {variable})", value)

    safe = address("safe") if has_safe or not is_named else None
    return Settings(
        network=name,
        url=environment.get("BLOCKOTA_URL") or _text(section, "url", default=LOCAL_URL),
        chain_id=chain_id,
        contract=address("contract"),
        replication=address("replication"),
        confirmations=number("confirmations", default_confirmations(chain_id)),
        store=environment.get("BLOCKOTA_STORE") or beside(_text(file, "store", default=DEFAULT_STORE), path.parent),
        max_fee=_amount("max_fee_gwei", environment, section, unit="gwei", decimals=_GWEI_DECIMALS),
        max_cost=max_cost,
        transactions=path.parent / STATE_FOLDER / "transactions",
        first_block=number("first_block", first_block),
        safe=safe,
        vendor_sources=_urls(environment, "vendor_sources", found=file | section),
        gateways=_urls(environment, "gateways", found=file | section),
        tokens=_tokens(environment, file.get("tokens", {}), folder=path.parent),
        file=path if has_file else None,
        registries={key: found for key in REGISTRIES if (found := address(key))},
        image_keys=read_paths(file, "image_keys", folder=path.parent),
    )


def load_bench(config: Path | None, *, environment: Mapping[str, str]) -> BenchSettings:
    """Read the settings of the bench.

    Args:
        config: the settings file; None means ``blockota.toml`` in the current folder, if it exists.
        environment: the environment, whose ``BLOCKOTA_CONFIG`` can name the file.

    Raises:
        UsageError: the file cannot be read, or a setting is unknown or has the wrong type.
    """
    table = load_table(config, "bench", known={one.name for one in fields(BenchSettings)}, environment=environment)
    return BenchSettings(**{key: _bench_value(table, key) for key in table.values})


def settings_folder(config: Path | None, *, environment: Mapping[str, str]) -> Path:
    """Return the folder of the settings file, which also contains the state folder."""
    return Path(config or environment.get("BLOCKOTA_CONFIG") or FILE_NAME).parent


def load_table(config: Path | None, name: str, *, known: set[str], environment: Mapping[str, str]) -> SettingsTable:
    """Read one table of the settings file, such as ``[trust]``.

    Returns an empty table if the file does not contain the table.

    Args:
        config: the settings file; None means ``blockota.toml`` in the current folder, if it exists.
        name: the name of the table.
        known: the settings that the table can have.
        environment: the environment, whose ``BLOCKOTA_CONFIG`` can name the file.

    Raises:
        UsageError: the file cannot be read, or the table has an unknown setting.
    """
    named = config or environment.get("BLOCKOTA_CONFIG")
    path = Path(named or FILE_NAME)
    file = _read(path) if named or path.exists() else {}
    table = SettingsTable(name, _table(f"[{name}]", file.get(name, {})), path.parent)
    table.known(*known)
    return table


def load_service(
    config: Path | None, name: str, *, known: set[str], environment: Mapping[str, str], action: Action
) -> SettingsTable:
    """Read the table of a service, such as ``[gateway]``.

    Args:
        config: the settings file; None means ``blockota.toml`` in the current folder, if it exists.
        name: the name of the service and of its table.
        known: the settings that the table can have.
        environment: the environment, whose ``BLOCKOTA_CONFIG`` can name the file.
        action: the command that sets up the service.

    Raises:
        UsageError: the file cannot be read, has no such table, or the table has an unknown setting.
    """
    table = load_table(config, name, known=known, environment=environment)
    if not table.values:
        raise UsageError(
            f"the settings have no {name}",
            why=f"the settings file has no table [{name}]",
            remedy=f"set up a {name} in the folder of the settings file",
            action=action,
        )
    return table


def require_address(setting: str, value: object) -> str:
    """Return a setting's value, which must be an address.

    Raises:
        UsageError: the value is not an address.
    """
    if isinstance(value, str) and _ADDRESS.fullmatch(value):
        return value
    why = f"{value!r} is not an address: an address is 0x and 40 hexadecimal digits"
    raise UsageError(f"the setting {setting} cannot be used", why=why)


def _bench_value(table: SettingsTable, key: str) -> Any:
    value = table.values[key]

    if key == "port":
        ports = value if isinstance(value, list) else [value]
        if ports and all(_is_text(one) and one for one in ports):
            return tuple(ports)
        shape = 'the name of a port, such as "/dev/ttyUSB0", or a list of names'
    elif key == "baud":
        if type(value) is int or value == "auto":
            return str(value)
        shape = 'a number of bits per second, or "auto"'
    elif key in _FLAGS:
        return table.flag(key)
    else:
        return table.uuid(key) if key == "identity" else table.text(key)
    raise table.unusable(key, f"{value!r:.80} is not {shape}")


def _read(path: Path) -> dict[str, Any]:
    try:
        file = parse_toml(read_input(path, limit=_MAX_FILE_SIZE))
    except UnicodeDecodeError as error:
        remedy = "save it with the encoding UTF-8"
        raise UsageError(f"{path} cannot be read", why="it is not text in UTF-8", remedy=remedy) from error
    except ValueError as error:
        remedy = "correct the file, or copy the vendor's settings file again"
        raise UsageError(f"{path} cannot be read", why=f"it is not TOML: {error}", remedy=remedy) from error

    refuse_unknown(path.name, file, known=_KNOWN)
    for name, section in _table("[networks]", file.get("networks", {})).items():
        refuse_unknown(f"[networks.{name}]", _table(f"[networks.{name}]", section), known=_KNOWN_NETWORK)
    return file


def _table(where: str, found: object) -> dict[str, Any]:
    if not isinstance(found, dict):
        # The value may be a URL with a secret, so the error does not contain it.
        raise UsageError(f"{where} cannot be used", why="it is not a table")
    return found


def _section(file: dict[str, Any], name: str) -> dict[str, Any]:
    networks = file.get("networks", {})
    if name in networks:
        section: dict[str, Any] = networks[name]
        if name != "local" and (missing := {"url", "chain_id"} - section.keys()):
            raise UsageError(
                f"[networks.{name}] has no {' and no '.join(sorted(missing))}",
                why="only the local network has defaults",
                remedy="add it to blockota.toml",
            )
        return section

    if name == "local":
        return {}
    raise UsageError(
        f"unknown network {name!r}",
        why=f"the settings have {shortened(dict.fromkeys(['local', *networks]))}",
        remedy=f"add [networks.{name}] to blockota.toml",
    )


def _of_chain(file: dict[str, Any], chain_id: int, *, first: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the settings of the network with a chain id; among several networks, prefer `first`.

    If no network has the chain id, the returned settings are empty.
    """
    networks = {"local": {}, **file.get("networks", {})}
    for name in dict.fromkeys([first, *networks]):
        default = LOCAL_CHAIN_ID if name == "local" else None
        if networks[name].get("chain_id", default) == chain_id:
            return name, networks[name]
    return f"chain {chain_id}", {}


def _text(section: Mapping[str, Any], key: str, *, default: str) -> str:
    value = section.get(key, default)
    if not _is_text(value):
        raise UsageError(f"the setting {key} cannot be used", why="it is not text")
    return value


def _is_text(value: object) -> TypeGuard[str]:
    """Whether a value is a text that the system accepts as a path or an argument."""
    return isinstance(value, str) and "\0" not in value


def _urls(environment: Mapping[str, str], key: str, *, found: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the URLs of sources. `Source` checks each URL when it is used."""
    variable = environment.get(f"BLOCKOTA_{key.upper()}")
    value = found.get(key, []) if variable is None else variable.split()
    if isinstance(value, list) and all(isinstance(url, str) for url in value):
        return tuple(value)
    raise UsageError(
        f"the setting {key} (or BLOCKOTA_{key.upper()}) cannot be used",
        why='the value is not a list of URLs, such as ["https://firmware.example"]',
    )


def _tokens(environment: Mapping[str, str], table: object, *, folder: Path) -> dict[str, str]:
    """Read where tokens are kept.

    Errors do not contain values, because a value in the wrong form may be a token itself.
    """
    variable = environment.get("BLOCKOTA_TOKENS")
    if variable is not None:
        found = [_TOKEN_WORD.fullmatch(word) for word in variable.split()]
        if not all(found):
            raise _not_a_reference("BLOCKOTA_TOKENS", "URL=env:NAME or URL=file:PATH")
        return {match[1]: match[2] for match in found if match}

    if not isinstance(table, dict):
        raise _not_a_reference("tokens", 'a table [tokens] with lines "URL" = "env:NAME" or "URL" = "file:PATH"')
    for number, value in enumerate(table.values(), 1):
        if not _is_text(value) or not _REFERENCE.fullmatch(value):
            raise _not_a_reference(f"[tokens], line {number},", '"URL" = "env:NAME" or "URL" = "file:PATH"')
    return {url: beside(value, folder) for url, value in table.items()}


def _not_a_reference(where: str, shape: str) -> UsageError:
    return UsageError(
        f"the setting {where} cannot be used",
        why=f"the required form is {shape}, because the settings never contain a token itself",
        remedy="keep the token in an environment variable or a file, and set the name of that variable or file",
    )


def _amount(
    key: str, environment: Mapping[str, str], section: Mapping[str, Any], *, unit: str, decimals: int
) -> int | None:
    """Read an amount in a unit of 10**`decimals` wei, and return it in wei; None if the amount is not set."""
    variable = f"BLOCKOTA_{key.upper()}"
    value = environment.get(variable) or section.get(key)
    if value is None:
        return None
    text = str(value) if type(value) in (int, str) else ""
    if type(value) is float:
        # A float such as 1e-05 is formatted without an exponent, so that every digit of the file counts.
        text = f"{Decimal(repr(value)):f}"
    match = _AMOUNT.fullmatch(text)
    if match and len(match[2] or "") <= decimals:
        return int(match[1] + (match[2] or "").ljust(decimals, "0"))
    raise UsageError(
        f"the setting {key} (or {variable}) cannot be used",
        why=f"{value!r} is not an amount in {unit}, such as 30 or 0.5, with at most {decimals} decimals",
    )
