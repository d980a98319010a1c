"""The receipts of a bench: a board is flashed, and its receipt is checked off line and anchored."""

from __future__ import annotations

from pathlib import Path

from blockota.ledger.log import TileLog
from blockota.model.receipt import EntryKind, LogEntry
from blockota.vendor.example import write_keys
from firmware_host.simulator import serve_tcp
from tests.stories.conftest import PRODUCT, Outcome, Workshop, publish_first
from tests.stories.technicians import LOG, OLD, STATE, board, unique_id
from tests.stories.test_bad_input import REFUSED, USAGE, refused
from tests.stories.test_devices import ACME_KEY, DEVICE, GATEWAY, done, found_city
from tests.stories.test_orders import KINDS, found_example

TECHNICIAN = KINDS["technician"]
ORIGIN = f"city.example/technician/{TECHNICIAN.uuid.hex}"
ENROLLED = f"""
[bench]
identity = "{TECHNICIAN.uuid}"

[log]
origin = "{ORIGIN}"
key = "file:keys/technician.log.pem"
"""


def verified(workshop: Workshop, key: str, *words: str) -> Outcome:
    """Write the receipt with the index 0, and check it with the key of its log."""
    Path("trust.toml").write_text(f'[trust]\nlogs = ["{key}"]\n')
    made = workshop.run("log", "receipt", "0", "-o", "RECEIPT.json", *words)
    assert made.status == 0, made.err
    return workshop.run("log", "verify", "RECEIPT.json", "--trust", "trust.toml")


def test_the_receipt_of_a_board_is_checked_off_line(workshop: Workshop) -> None:
    """A bench without an identity signs with its own key.

    The bench's public key suffices to check its receipts and its log.
    """
    workshop.after(publish_first)
    with serve_tcp(board(1)) as url:
        flashed = workshop.flash(url, "--operator", "Ida", "--json").json["results"][0]
    assert flashed["log"]["receipt"] == 0
    key = workshop.run("bench", "key", "--json").json["key"]

    found = verified(workshop, key, "--log", str(LOG))
    assert found.status == 0, found.err
    assert f"not registered, unique id {unique_id(1)}" in found.out
    assert f"the board ran {PRODUCT} 1.0.0, install at level C" in found.out
    assert "Ida" not in Path("RECEIPT.json").read_text()  # nor the bytes of the record, whose entry is another one
    checked = workshop.run("log", "fsck", str(LOG), "--trust", "trust.toml", "--json")
    assert (checked.status, checked.json["size"]) == (0, 2)
    assert "1 board, 1 good, 0 bad" in workshop.run("bench", "summary").out

    (STATE / "log-key.pem").unlink()
    with serve_tcp(board(2)) as url:
        refused(workshop.flash(url), REFUSED, f"the bench log {LOG} belongs to another bench or key", "(--log FOLDER)")
    refused(workshop.run("bench", "log", "--log", str(STATE)), USAGE, "the folder has no log")


def test_the_log_of_a_technician_is_anchored(workshop: Workshop) -> None:
    """The bench of an enrolled technician uses the log in the settings.

    This log names the technician's identity, and can be anchored.
    """
    workshop.after(found_example)
    write_keys(Path("keys"))
    settings = Path("blockota.toml")
    before = settings.read_text() if settings.exists() else ""
    settings.write_text(before + ENROLLED.replace(TECHNICIAN.uuid.hex, "0" * 32))
    with serve_tcp(target := board(1)) as url:
        refused(workshop.flash(url), USAGE, f"has the identity {TECHNICIAN.uuid}", TECHNICIAN.uuid.hex)
        assert OLD.read_bytes() not in target.flash
        settings.write_text(before + ENROLLED)
        assert workshop.flash(url).status == 0

    anchored = workshop.run("log", "anchor", "--all", "--key", f"dev:{TECHNICIAN.account}", "--json")
    assert (anchored.status, anchored.json["size"]) == (0, 2), anchored.err
    found = verified(workshop, workshop.run("log", "key", "--json").json["key"], "--chain")
    assert f"keeper     {TECHNICIAN.uuid}" in found.out
    chain = workshop.run("log", "verify", "RECEIPT.json", "--trust", "trust.toml", "--chain")
    assert f"by the technician {TECHNICIAN.uuid}, whose log has this key" in chain.out
    assert workshop.run("bench", "log", "--json").json["file"] == str(Path(".blockota", "log"))
    assert workshop.run("log", "fsck").status == 0


def test_the_receipt_of_a_registered_board_has_its_device_number(workshop: Workshop) -> None:
    """A board whose alias ends with its unique id is found in the registry.

    In the receipt of any other board, the device number is 0.
    """
    workshop.after(found_city)
    alias = DEVICE.rpartition("/")[0]
    done(workshop, "device", "register", f"{alias}/{unique_id(1)}", "--site", GATEWAY, *ACME_KEY)
    publish_first(workshop)
    settings = Path("blockota.toml")
    before = f'{settings.read_text()}\n[bench]\ndevice_alias = "{alias}"\n'
    settings.write_text(before)
    for number in (1, 2):
        with serve_tcp(board(number)) as url:
            assert workshop.flash(url).status == 0
    receipts = [LogEntry.decode(raw) for raw in TileLog(LOG).entries()][::2]
    assert [(one.device, one.kind) for one in receipts] == [(257, EntryKind.INSTALL), (0, EntryKind.INSTALL)]

    settings.write_text(before.replace("[bench]", f'devices = "{workshop.contract.address}"\n[bench]'))
    with serve_tcp(target := board(3)) as url:
        refused(workshop.flash(url), REFUSED, "no DeviceRegistry contract at")
    assert set(target.flash) == {0xFF}
