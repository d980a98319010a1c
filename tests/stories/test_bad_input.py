"""Mistakes and attacks end with one error sentence and an exit status, and change nothing."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import pytest

from blockota.approval.proposal import Proposal
from blockota.approval.signature import sign, to_json
from blockota.bindings.block_ota import revoke_call
from blockota.keys import dev_account
from blockota.model.release import Version, show_time
from firmware_host.simulator import PROFILES, SimulatedBoard, serve_tcp
from firmware_host.simulator.faults import Faults
from tests.conftest import IMAGES
from tests.stories.conftest import PRODUCT, Outcome, Workshop, publish_first
from tests.stories.test_road import NEW, OLD, tamper

USAGE, REFUSED, BOARD, OUT_OF_REACH = 2, 3, 4, 5


def refused(outcome: Outcome, status: int, *words: str) -> None:
    """Assert a command's exit status, and that its only error line contains these words."""
    assert outcome.status == status, outcome.err
    errors = [line for line in outcome.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert "Traceback" not in outcome.err + outcome.out
    for word in words:
        assert word in errors[0]


def publish(workshop: Workshop, image: str | Path, *, version: str = "1.0.0", product: str = PRODUCT) -> Outcome:
    """Run ``release publish``, and return its outcome."""
    words = ("--product", product, "--version", version, "-o", "proposal.json")
    return workshop.run("release", "publish", str(image), *words)


def propose(workshop: Workshop, *signers: int) -> Path:
    """Propose release 1.0.0, and sign the proposal with these development accounts, which need not be owners."""
    assert publish(workshop, OLD).status == 0
    path = Path("proposal.json")
    write_signatures(path, *signers)
    return path


def write_signatures(path: Path, *signers: int) -> None:
    """Sign a proposal with these development accounts, without the checks of ``proposal sign``."""
    for number in signers:
        signature = sign(Proposal.from_json(path.read_bytes()), dev_account(number))
        Path(f"{number}.signature.json").write_bytes(to_json([signature]))


def execute(workshop: Workshop, *signers: int) -> Outcome:
    """Try to execute the proposal with the signatures of these accounts."""
    files = [word for number in signers for word in ("--signature", f"{number}.signature.json")]
    return workshop.run("proposal", "execute", "proposal.json", "--key", "dev:0", *files)


@pytest.mark.parametrize(
    ("name", "content", "status", "words"),
    [
        ("missing.bin", None, USAGE, ("file missing.bin does not exist",)),
        ("empty.bin", b"", REFUSED, ("empty",)),
        ("large.bin", b"\1" * 65537, REFUSED, ("65537", "65536")),
        ("foreign.elf", b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x3e\x00" + bytes(44), REFUSED, ("ELF",)),
    ],
    ids=["missing", "empty", "large", "foreign"],
)
def test_an_unusable_image_is_refused(
    workshop: Workshop, name: str, content: bytes | None, status: int, words: tuple[str, ...]
) -> None:
    """An unusable image file is refused, and neither a proposal nor a store is written."""
    if content is not None:
        Path(name).write_bytes(content)
    refused(publish(workshop, name), status, *words)
    assert not Path("proposal.json").exists()
    assert not Path(".blockota/store").exists()


def test_an_image_outside_the_region_is_refused(workshop: Workshop) -> None:
    """An image outside the product's flash region is refused, and the error names the addresses of image and region."""
    words = ("--product", PRODUCT, "--version", "1.0.0", "--load-address", "0x08010000", "-o", "proposal.json")
    refused(workshop.run("release", "publish", str(OLD), *words), REFUSED, "0x08010000", "0x08000000")


@pytest.mark.parametrize("version", ["1.0", "v1.0.0", "1.0.0-rc1", "01.0.0", "0.0.0", "65536.0.0", "1.16777216.0", ""])
def test_a_wrong_version_is_a_usage_error(workshop: Workshop, version: str) -> None:
    """A malformed version is refused as wrong usage."""
    outcome = publish(workshop, OLD, version=version)
    assert outcome.status == USAGE
    assert "is not a version" in outcome.err


def test_a_release_that_the_contract_refuses_is_reported(workshop: Workshop) -> None:
    """A release with an old version, a published image or an unpaired product is refused."""
    workshop.publish("1.1.0", NEW)
    for version in ("1.1.0", "1.0.9"):
        refused(publish(workshop, OLD, version=version), REFUSED, version, "1.1.0")
    refused(publish(workshop, NEW, version="1.2.0"), REFUSED, "already published", "1.1.0")
    refused(publish(workshop, OLD, product="acme-thermo3"), REFUSED, "acme-thermo3", PRODUCT)


@pytest.mark.parametrize(
    ("signers", "words"),
    [((1,), ("1 of 2",)), ((), ("0 of 2",)), ((1, 6), ("not an owner", "0x976EA74026E726554dB657fA54763abd0C3a0aa9"))],
)
def test_signatures_that_are_not_enough_are_refused(
    workshop: Workshop, signers: tuple[int, ...], words: tuple[str, ...]
) -> None:
    """A proposal with too few signatures, or with a non-owner's signature, is refused.

    With valid signatures, the proposal is executed.
    """
    propose(workshop, 1, 2, *(signer for signer in signers if signer > 3))
    refused(execute(workshop, *signers), REFUSED, *words)
    assert execute(workshop, 1, 2).status == 0


def test_a_signature_given_twice_counts_once(workshop: Workshop) -> None:
    """Two files with the same owner's signature count as one signature."""
    propose(workshop, 1)
    shutil.copy("1.signature.json", "2.signature.json")
    refused(execute(workshop, 1, 2), REFUSED, "1 of 2")


def test_a_key_that_is_not_an_owners_does_not_sign(workshop: Workshop) -> None:
    """Signing with a non-owner's key is refused, even with ``--yes``."""
    propose(workshop)
    outcome = workshop.run("proposal", "sign", "proposal.json", "--key", "dev:6", "--yes")
    refused(outcome, REFUSED, "red flags (stranger)")
    assert "is not an owner of the Safe" in outcome.out
    assert not list(Path().glob("*.signature.json"))


def test_nothing_is_signed_without_confirmation(workshop: Workshop) -> None:
    """Without a terminal and without ``--yes``, nothing is signed."""
    propose(workshop)
    refused(workshop.run("proposal", "sign", "proposal.json", "--key", "dev:1"), USAGE, "--yes")
    assert not list(Path().glob("*.signature.json"))


def test_an_expired_proposal_is_refused(workshop: Workshop) -> None:
    """An expired proposal is neither signed nor executed, even with enough signatures."""
    path = propose(workshop)
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {"expires": int(time.time()) - 1}))
    refused(workshop.run("proposal", "sign", "proposal.json", "--key", "dev:3", "--yes"), REFUSED, "has expired")
    write_signatures(path, 1, 2)
    refused(execute(workshop, 1, 2), REFUSED, "expired")


def test_a_proposal_is_not_executed_twice(workshop: Workshop) -> None:
    """A second execution of a proposal is refused, because its nonce was used."""
    propose(workshop, 1, 2)
    assert execute(workshop, 1, 2).status == 0
    refused(execute(workshop, 1, 2), REFUSED, "was executed already", "nonce 1")


def test_an_image_that_is_not_the_proposals_is_not_signed(workshop: Workshop) -> None:
    """Signing is refused if the given image is not the proposal's image."""
    propose(workshop)
    words = ("--key", "dev:1", "--yes", "--image", str(NEW))
    refused(workshop.run("proposal", "sign", "proposal.json", *words), REFUSED, "not the one in the proposal")


def test_a_proposal_is_not_overwritten(workshop: Workshop) -> None:
    """A new proposal does not overwrite an existing proposal file."""
    before = propose(workshop).read_bytes()
    refused(publish(workshop, NEW, version="1.1.0"), USAGE, "proposal.json", "already")
    assert Path("proposal.json").read_bytes() == before


@pytest.mark.parametrize(
    ("settings", "status", "words"),
    [
        ('url = "{url}"\ncontract = "{contract}"\nchain_id = 1', REFUSED, ("1337", "chain id")),
        ('url = "http://127.0.0.1:9"', OUT_OF_REACH, ("http://127.0.0.1:9", "Check the connection")),
        ('url = "{url}"\ncontract = "0x' + "11" * 20 + '"', REFUSED, ("no BlockOTA contract", "0x1111")),
    ],
    ids=["another chain", "unreachable", "no contract"],
)
def test_settings_that_do_not_fit_the_chain_are_reported(
    workshop: Workshop, settings: str, status: int, words: tuple[str, ...]
) -> None:
    """A wrong chain id, an unreachable node and an address without the contract are reported with their values."""
    found = settings.format(url=workshop.chain.url, contract=workshop.contract.address)
    Path("blockota.toml").write_text(f"[networks.local]\n{found}\n")
    refused(workshop.run("release", "list"), status, *words)


def test_a_flipped_byte_in_a_file_is_found(workshop: Workshop, board_url: str) -> None:
    """``release verify`` and ``flash`` refuse an image file with a flipped byte."""
    workshop.after(publish_first)
    data = bytearray(OLD.read_bytes())
    data[300] ^= 0xFF
    Path("tampered.bin").write_bytes(data)
    verify = ("release", "verify", "tampered.bin", "--product", PRODUCT)
    refused(workshop.run(*verify), REFUSED, "not a release")
    refused(workshop.run(*verify, "--version", "1.0.0"), REFUSED, "check 4", "SHA-256")
    refused(workshop.flash(board_url, "--image", "tampered.bin"), REFUSED, "check 4", "SHA-256")


def test_a_corrupt_block_in_the_store_is_found(workshop: Workshop) -> None:
    """``release fetch`` writes no file if a block in the store is corrupt."""
    workshop.after(publish_first)
    tamper(Path(".blockota/store"), OLD)
    outcome = workshop.run("release", "fetch", "--product", PRODUCT, "-o", "got.bin")
    refused(outcome, REFUSED, "check 4", "corrupt")
    assert sorted(path.name for path in Path().glob("*got*")) == []


def test_a_revoked_release_is_refused(workshop: Workshop, board_url: str) -> None:
    """A revoked release is not flashed, neither by its version nor as the newest release."""
    workshop.after(publish_first)
    workshop.decide(revoke_call(PRODUCT, Version(1, 0, 0), reason="boots into a wall"))
    refused(workshop.flash(board_url, "--version", "1.0.0"), REFUSED, "check 3", "revoked")
    refused(workshop.flash(board_url), REFUSED, "check 3", "no active release")


def test_a_port_without_a_device_is_refused(workshop: Workshop) -> None:
    """``flash`` reports the name of a port that cannot be opened."""
    workshop.after(publish_first)
    refused(workshop.flash("/dev/ttyNOTHERE"), BOARD, "/dev/ttyNOTHERE")
    refused(workshop.flash("socket://127.0.0.1:9"), BOARD, "socket://127.0.0.1:9")


def test_a_board_of_another_chip_is_refused(workshop: Workshop) -> None:
    """A board with another product id is refused and not changed."""
    workshop.after(publish_first)
    board = SimulatedBoard(PROFILES["stm32f103rc"], flash=b"\x55" * 1024)
    before = bytes(board.flash)
    with serve_tcp(board) as url:
        refused(workshop.flash(url), REFUSED, "check 7", "0x414", "0x410")
    assert bytes(board.flash) == before


def test_unknown_contents_are_replaced_only_with_consent(workshop: Workshop) -> None:
    """A board with unknown contents is overwritten only with ``--replace-unknown``."""
    workshop.after(publish_first)
    with serve_tcp(SimulatedBoard(flash=b"\x55" * 2048)) as url:
        refused(workshop.flash(url), REFUSED, "check 6", "--replace-unknown")
        assert workshop.flash(url, "--replace-unknown").status == 0


def test_a_board_that_falls_silent_while_writing_is_completed_later(workshop: Workshop) -> None:
    """A board that stops answering during writing does not start.

    The next run of `flash` completes the board.
    """
    workshop.publish("1.2.0", IMAGES / "bluepill-1.2.0.bin")
    board = SimulatedBoard(faults=Faults(silent_after=5000))
    with serve_tcp(board) as url:
        outcome = workshop.flash(url)
        refused(outcome, BOARD, "erased", "wrote", "will not start")
        assert re.search(r"wrote \d+ of \d+ pages|wrote \d+ of \d+", outcome.err)
        assert set(board.flash[:8]) == {0xFF}
        board_again = SimulatedBoard(flash=bytes(board.flash))
    with serve_tcp(board_again) as url:
        assert workshop.flash(url).status == 0


def test_a_protected_board_is_refused(workshop: Workshop) -> None:
    """A board with readout protection fails check 8."""
    workshop.after(publish_first)
    board = SimulatedBoard()
    board.protect(readout=True)
    with serve_tcp(board) as url:
        refused(workshop.flash(url), REFUSED, "check 8", "readout")


def test_a_development_key_is_refused_on_a_real_chain(workshop: Workshop) -> None:
    """A development key is refused if the settings name a chain that is not local."""
    propose(workshop)
    assert workshop.run("proposal", "export-view", "-o", "view.json").status == 0
    settings = (
        f'[networks.local]\nurl = "{workshop.chain.url}"\nchain_id = 1\ncontract = "{workshop.contract.address}"\n'
    )
    Path("blockota.toml").write_text(settings)
    for name in ("proposal.json", "view.json"):
        fields = json.loads(Path(name).read_text())
        Path(name).write_text(json.dumps(fields | {"chainId": 1}))
    outcome = workshop.run("proposal", "sign", "proposal.json", "--key", "dev:1", "--yes", "--view", "view.json")
    refused(outcome, REFUSED, "keys are public")


def test_a_signature_file_of_another_proposal_is_ignored(workshop: Workshop) -> None:
    """A signature file of another proposal is ignored if it lies beside the proposal.

    If the user names the file, the command is refused.
    """
    propose(workshop)
    assert workshop.run("proposal", "sign", "proposal.json", "--key", "dev:1", "--yes").status == 0
    Path("proposal.json").unlink()
    assert publish(workshop, NEW, version="1.1.0").status == 0
    shown = workshop.run("proposal", "show", "proposal.json", "--json")
    assert shown.json["signers"] == {}
    assert "Skipped" in shown.err
    stale = str(next(Path().glob("*.signature.json")))
    words = ("--key", "dev:0", "--signature", stale)
    refused(workshop.run("proposal", "execute", "proposal.json", *words), REFUSED, "another proposal")


def test_a_forged_signature_is_shown_as_invalid(workshop: Workshop) -> None:
    """``proposal show`` marks a signature as invalid if the file names an owner who did not make the signature."""
    propose(workshop, 1)
    fields = json.loads(Path("1.signature.json").read_text())
    forged = fields | {"signatures": [fields["signatures"][0] | {"signer": workshop.cast.owner_c.address}]}
    Path("forged.json").write_text(json.dumps(forged))
    shown = workshop.run("proposal", "show", "proposal.json", "--signature", "forged.json").out
    assert f"{workshop.cast.owner_c.address} NOT VALID" in shown


def test_a_reason_that_could_mislead_is_refused(workshop: Workshop) -> None:
    """A reason with long runs of spaces, excessive length or bidirectional marks is refused."""
    for reason in ("ok" + " " * 64 + "nonce  7", "x" * 201, "\u202egnihtemos"):
        words = ("--product", PRODUCT, "--version", "1.0.0", "-o", "p.json", "--reason", reason)
        refused(workshop.run("release", "publish", str(OLD), *words), REFUSED, "cannot be shown safely")
    assert not Path("p.json").exists()


def test_a_private_key_on_the_command_line_is_not_printed(workshop: Workshop) -> None:
    """A private key given in place of a key URI is not printed."""
    propose(workshop)
    key = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
    for uri in (f"env:{key}", f"dev:{key}", key, f"ape:{key}/x"):
        outcome = workshop.run("proposal", "sign", "proposal.json", "--key", uri, "--yes")
        assert outcome.status == USAGE
        assert key not in outcome.err + outcome.out


def test_a_release_is_revoked_by_proposal(workshop: Workshop) -> None:
    """A revocation is proposed, signed and executed like a release."""
    workshop.after(publish_first)
    words = ("--product", PRODUCT, "--version", "1.0.0", "--reason", "reboots", "-o", "revoke.json")
    assert workshop.run("release", "revoke", *words).status == 0
    for owner in ("dev:1", "dev:2"):
        assert workshop.run("proposal", "sign", "revoke.json", "--key", owner, "--yes").status == 0
    assert workshop.run("proposal", "execute", "revoke.json", "--key", "dev:0").status == 0
    shown = workshop.run("release", "show", PRODUCT, "1.0.0", "--json").json
    assert (shown["status"], shown["revocation"]["reason"]) == ("revoked", "reboots")
    why = f"on {show_time(shown['revocation']['time'])} with the reason 'reboots'"
    assert f"revoked {why}" in workshop.run("release", "show", "--product", PRODUCT, "--version", "1.0.0").out
    fetched = workshop.run("release", "fetch", "--product", PRODUCT, "--version", "1.0.0", "-o", "app.bin")
    refused(fetched, REFUSED, "check 3", f"the vendor withdrew it {why}")
    for given in ((PRODUCT, "--product", PRODUCT), (PRODUCT, "1.0.0", "--version", "1.0.0"), ()):
        assert workshop.run("release", "show", *given).status == USAGE
