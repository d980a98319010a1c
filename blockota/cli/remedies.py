"""Maps the remedies of errors to the commands and options that carry them out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockota.errors import Action, BlockOTAError

if TYPE_CHECKING:  # the package would delay every command
    from firmware_host.bench.doctor import Finding
    from firmware_host.bootloader.entry import BoardLine

OPTIONS: dict[Action, str] = {
    Action.CHOOSE_STORE: "--store URL",
    Action.NAME_SOURCE: "--source URL",
    Action.TAKE_IMAGE_ELSEWHERE: "--store URL, --source URL or --image FILE",
    Action.FETCH_IMAGE: "`blockota release fetch`",
    Action.COMPUTE_CONTENT_ADDRESS: "`blockota cid FILE`",
    Action.OVERWRITE: "--force",
    Action.CHOOSE_OUTPUT: "-o FILE",
    Action.LIST_PRODUCTS: "`blockota product list`",
    Action.PAIR_PRODUCT: "`blockota product pair`",
    Action.OMIT_MANIFEST: "without --manifest",
    Action.LIST_RELEASES: "`blockota release list`",
    Action.RESUME_CONTRACT: "`blockota contract resume -o FILE`",
    Action.PUBLISH_AS_CONFIGURATION: "--configuration",
    Action.PUBLISH_BELOW_NEWEST: "--above-newest",
    Action.PUBLISH_AT_ONCE: "without --active-from",
    Action.GIVE_LOAD_ADDRESS: "--load-address {address}",
    Action.GIVE_OR_ACCEPT_LOAD_ADDRESS: "--load-address {address}; --accept-load-address accepts the present one",
    Action.ACCEPT_LOAD_ADDRESS: "--accept-load-address accepts the present ones",
    Action.CHOOSE_CONTAINER: "--container NAME",
    Action.SIGN_IMAGE: "`imgtool sign -k KEY`, or `blockota key sign-image` for a key in a token",
    Action.FILL_GAPS: "--fill",
    Action.LIST_CHIPS: "`blockota board chips`",
    Action.PROTECT_BOARD: "`blockota board protect`",
    Action.PUBLISH_TOGETHER: "one `blockota release publish` for all of them",
    Action.GIVE_REASON: "--reason TEXT",
    Action.CHOOSE_NETWORK: "--network NAME",
    Action.CHOOSE_NONCE: "--nonce N, or without it for the next free one",
    Action.SIGN_LATER: "without --sign, then `blockota proposal sign FILE`",
    Action.SIGN_PROPOSAL: "`blockota proposal sign FILE`; --signature FILE names a file elsewhere",
    Action.SHOW_PROPOSAL: "`blockota proposal show FILE`",
    Action.REJECT_PROPOSAL: "`blockota proposal reject FILE`",
    Action.LIST_PROPOSALS: "`blockota proposal list`",
    Action.ACCEPT_UNSIGNED_TEXT: "--unsigned-text",
    Action.EXPORT_VIEW: "`blockota proposal export-view`",
    Action.MAKE_PACK: "`blockota proposal pack FILE`",
    Action.LIST_OWNERS: "`blockota safe owners`",
    Action.START_LOCAL_CHAIN: "`blockota dev up`",
    Action.NAME_SETTINGS: "--config FILE",
    Action.DEPLOY: "`ape run deploy`",
    Action.MAKE_TUNNEL_KEY: "`blockota vpn key FILE`",
    Action.OPEN_TUNNELS: "`blockota vpn sync`",
    Action.CHOOSE_PORT: "--port NUMBER",
    Action.LIST_TRANSACTIONS: "`blockota transaction list`",
    Action.RESUME_TRANSACTION: "`blockota transaction resume {hash}`",
    Action.RAISE_FEE: "`blockota transaction resume {hash} --key URI`",
    Action.FORGET_TRANSACTION: "`blockota transaction forget {hash}`",
    Action.RESUME_OR_FORGET_TRANSACTION: (
        "`blockota transaction resume {hash}`, or `blockota transaction forget {hash} --yes`"
    ),
    Action.LIST_APE_ACCOUNTS: "`ape accounts list --all`",
    Action.MAKE_KEY: "`blockota key new FILE`",
    Action.USE_KEY: "--key URI",
    Action.LIST_AGREEMENTS: "`blockota replica list --all`",
    Action.LIST_PRODUCERS: "`blockota producer list`",
    Action.LIST_IDENTITIES: "`blockota identity list`",
    Action.LIST_DEVICES: "`blockota device list`",
    Action.LIST_REGISTRANTS: "`blockota device registrant list`",
    Action.LIST_SPECS: "`blockota device spec list`",
    Action.LIST_SITES: "`blockota device site list`",
    Action.IMPORT_SPEC: "`blockota device import FILE --spec '{spec}' -o FILE`",
    Action.ADMIT_REGISTRANT: "`blockota device registrant admit NAME --public-key {key} -o FILE`",
    Action.LIST_ORDERS: "`blockota order list --all`",
    Action.SHOW_LOG: "`blockota ledger show UUID`",
    Action.DECIDE_ON_LOG: "--resume or --retire",
    Action.NAME_VENDOR_SOURCE: "--vendor-source URL, or vendor_sources in blockota.toml",
    Action.FORGIVE_SOURCE: "--forgive",
    Action.NAME_STATE_FILE: "--state FILE",
    Action.MAKE_TOKEN: "`blockota repository token NAME`",
    Action.LISTEN_ELSEWHERE: "--listen HOST:PORT",
    Action.NAME_PRODUCT: "--product NAME; `blockota product list` shows them",
    Action.ALLOW_DOWNGRADE: "--allow-downgrade",
    Action.RESUME_OR_ALLOW_DOWNGRADE: "--resume, or --allow-downgrade",
    Action.REPLACE_PRODUCT: "--replace-product {product}",
    Action.REPLACE_UNKNOWN: "--replace-unknown",
    Action.UNPROTECT_READOUT: "`blockota board unprotect --readout`",
    Action.UNPROTECT_WRITE: "`blockota board unprotect --write`",
    Action.CONFIRM_FLASH_SIZE: "--erase-chip",
    Action.ERASE_EVERYTHING: "`blockota board erase --all`",
    Action.RESUME_FLASH: "`blockota flash --resume --port {line}`",
    Action.RESUME_FLASH_WITHOUT_STUB: "`blockota flash --resume --port {line}`, then with --no-stub",
    Action.FLASH_PRODUCT: "`blockota flash --product {product}`",
    Action.FLASH_OTHER_RELEASE: "--product {product} --version {version}, or without --image",
    Action.OMIT_IMAGE: "without --image",
    Action.FLASH_WITHOUT_STUB: "--no-stub",
    Action.LOWER_BAUD: "--baud RATE",
    Action.CHOOSE_WIRING: "--wiring NAME",
    Action.USE_LINE: "--port {line}",
    Action.RESET_BY_HAND: "--wiring by-hand",
    Action.INVERT_BOOT0: "--invert-boot0",
    Action.DIAGNOSE_LINE: "`blockota board doctor`",
    Action.IDENTIFY_BOARD: "`blockota board identify`",
    Action.NAME_LOG: "--log FOLDER",
    Action.NAME_PORT: "--port URL, or port in [bench] of blockota.toml",
    Action.LIST_PORTS: "`blockota board ports` lists them",
    Action.OMIT_ECHO: "--mode plain, or --mode LIST without echo",
    Action.SWITCH_RS485_ELSEWHERE: "--mode plain, or --mode LIST without rs485",
    Action.CHOOSE_START: "--start go",
    Action.EXPORT_CONFIRMED_LINES: "--confirmed-part",
    Action.NAME_BOARD_PRODUCT: "--board-product NAME",
    Action.NAME_IMAGE_COMMAND: "--board-image COMMAND",
    Action.NEW_BOARD_IMAGE: "--new-board-image",
    Action.MAKE_LOG_KEY: "`blockota log key --new`",
    Action.NAME_TRUST: "[trust] in blockota.toml, or --trust FILE",
    Action.INIT_GATEWAY: "`blockota gateway init`",
    Action.INIT_CLOUD: "`blockota cloud init`",
    Action.RUN_CLOUD: "`blockota cloud run`",
    Action.RUN_GATEWAY: "`blockota gateway run`",
    Action.SHOW_GATEWAY_DEVICE: "`blockota gateway device {device}`",
    Action.INIT_VALIDATOR: "`blockota validator init`",
    Action.RUN_VALIDATOR: "`blockota validator run`",
    Action.INSTALL_EXTRAS: "`pip install 'blockota[{extras}]'`",
    Action.INSTALL_APE: "`pip install eth-ape`",
}


def remedy_of(error: BlockOTAError | Finding) -> str:
    """Return a remedy with the option that carries it out, such as ``name another store (--store URL)``."""
    if error.action is None:
        return error.remedy
    given = error.values.get("given")
    values = {name: _words(value, given) for name, value in error.values.items()}
    option = OPTIONS[error.action].format_map(values)
    return f"{error.remedy} ({option})" if error.remedy else option


def sentence_of(error: BlockOTAError) -> str:
    """Return an error as the command line prints it: what happened, why, and what to do next."""
    return error.with_remedy(remedy_of(error))


def line_options(line: BoardLine, given: BoardLine | None = None) -> str:
    """Return the options that name a board's wiring, speed and mode, such as ``--wiring dtr-rts --baud 115200``.

    The option --mode is included if `line` or `given` has a mode other than the default.
    """
    from firmware_host.bootloader.entry import BoardLine, StartMethod

    wiring, usual = line.wiring, BoardLine(line.url).mode
    options = [f"--wiring {wiring.name}"]
    options += ["--invert-reset"] * wiring.invert_reset + ["--invert-boot0"] * wiring.invert_boot0
    options += [f"--baud {line.baud or 'auto'}"]
    options += [f"--mode {line.mode.words}"] * (line.mode != usual or (given or line).mode != usual)
    options += [f"--start {line.start.value}"] * (line.start is not StartMethod.AUTO)
    return " ".join(options)


def _words(value: object, given: object = None) -> object:
    """Return a value in the form of the command line; a board's line becomes its port and its non-default options."""
    if isinstance(value, str | int):
        return value

    from firmware_host.bootloader.entry import BoardLine

    if not isinstance(value, BoardLine):
        return value
    given = given if isinstance(given, BoardLine) else None
    return value.url if value == BoardLine(value.url) and not given else f"{value.url} {line_options(value, given)}"
