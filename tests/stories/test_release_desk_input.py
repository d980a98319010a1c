"""Malicious, damaged and mistaken input files of the proposal commands."""

from __future__ import annotations

import json
import os
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_account.messages import encode_defunct

from blockota.approval.proposal import Proposal
from blockota.approval.signature import sign as sign_proposal
from blockota.approval.signature import to_json
from blockota.bindings.block_ota import pair_call, revoke_call
from blockota.files import write_result
from blockota.formats.abi import interface
from blockota.keys import dev_account
from blockota.model.release import Product, Region, Version
from blockota.vendor import unattended
from tests.stories.conftest import PRODUCT, Outcome, Workshop
from tests.stories.test_bad_input import OUT_OF_REACH, REFUSED, USAGE, refused
from tests.stories.test_release_desk import ok, propose, sign
from tests.stories.test_road import OLD

GIB = 1 << 30
ESCAPES = "\x1b]0;owned\x07\x1b[2J", "\u202egnihtemos", "a\rb", "a\nnonce 7", "\u2066x\u2069", "\x9b31m"
DECEIVERS = "\x1b\x07\x9b\r\u202e\u2066\u2069\u200f"
"""Characters that must never reach a terminal."""


@pytest.fixture
def desk(workshop: Workshop) -> Workshop:
    """Return a test workshop with a proposal of 1.0.0, a chain view, and one owner's signature file."""
    file = propose(workshop, OLD, "1.0.0", "--reason", "first")
    ok(workshop.run("proposal", "export-view", str(file), "-o", "view.json"))
    ok(sign(workshop, file, "dev:1", "-o", "ann.json"))
    return workshop


def changed(name: str, **fields: Any) -> Path:
    """Write a copy of a JSON file with changed fields, and return its path."""
    path = Path("changed.json")
    path.write_text(json.dumps(json.loads(Path(name).read_text()) | fields))
    return path


def commands(
    *, proposal: str = "1.0.0.json", view: str = "view.json", signature: str = "ann.json", builder: str = "builder.json"
) -> list[list[str]]:
    """Return every command that reads one of these files."""
    key = ["--key", "dev:2", "--yes", "-o", "out.json"]
    return [
        ["proposal", "show", proposal, "--view", view, "--signature", signature],
        ["proposal", "sign", proposal, "--view", view, *key],
        ["proposal", "execute", proposal, "--signature", signature, "--key", "dev:0"],
        ["proposal", "simulate", proposal, "--signature", signature],
        ["proposal", "merge", signature, "-o", "out.json"],
        ["proposal", "export", proposal, "-o", "out.json"],
        ["proposal", "import", builder, "-o", "out.json"],
        ["proposal", "export-view", proposal, "-o", "out.json"],
        ["proposal", "list", "--view", view],
    ]


def that_read(name: str, **files: str) -> list[list[str]]:
    """Return the commands that read the file of this name."""
    return [words for words in commands(**files) if name in words]


def one_error(outcome: Outcome) -> dict[str, Any]:
    """Return a command's JSON error, after asserting that stderr has at most one error and no traceback."""
    assert len([line for line in outcome.err.splitlines() if line.startswith("Error: ")]) <= 1
    assert "Traceback" not in outcome.err
    error: dict[str, Any] = outcome.json["error"]
    assert error["exitStatus"] == outcome.status
    assert error["kind"] != "BlockOTAError", error
    return error


def test_an_intent_that_is_not_what_the_calldata_does_is_refused(desk: Workshop) -> None:
    """A proposal whose description contradicts its calldata is not shown, signed or executed."""
    for lie in (
        [{"action": "resume the contract"}],
        [json.loads(Path("1.0.0.json").read_text())["intent"][0] | {"version": "1.0.1"}],
        [],
        "harmless",
    ):
        path = changed("1.0.0.json", intent=lie)
        for words in that_read(str(path), proposal=str(path)):
            refused(desk.run(*words), REFUSED, "changed.json", "contradicts itself", "Do not sign the proposal")
    assert not Path("out.json").exists()


def test_every_field_that_is_changed_after_signing_undoes_the_signature(desk: Workshop) -> None:
    """A proposal with any field changed after signing is not executed."""
    ok(sign(desk, "1.0.0.json", "dev:2", "-o", "bob.json"))
    proposal = Proposal.from_json(Path("1.0.0.json").read_bytes())
    stranger = desk.cast.mallory.address
    for fields in (
        {"nonce": 2},
        {"chainId": 1},
        {"safe": stranger},
        {"to": stranger},
        {"value": "1"},
        {"operation": 1},
        {"safeTxGas": "1"},
        {"baseGas": "1"},
        {"gasPrice": "1"},
        {"gasToken": stranger},
        {"refundReceiver": stranger},
        {"reason": "second"},
        {"proposer": "Ann"},
        {"created": proposal.created + 1},
        {"expires": proposal.expires + 1},
        {"data": "0x" + proposal.data.hex() + "00"},
        {"format": "blockota-proposal-2"},
        {"extra": 1},
    ):
        path = changed("1.0.0.json", **fields)
        signatures = ("--signature", "ann.json", "--signature", "bob.json")
        refused(desk.run("proposal", "execute", str(path), "--key", "dev:0", *signatures), REFUSED)
    assert desk.contract.latest(PRODUCT) is None
    signatures = ("--signature", "ann.json", "--signature", "bob.json")
    ok(desk.run("proposal", "execute", "1.0.0.json", "--key", "dev:0", *signatures))


def test_a_text_changed_after_signing_is_refused_although_its_digest_fits(desk: Workshop) -> None:
    """If the reason was changed after signing, the proposal is refused.

    Signature files that name the new digest do not help.
    """
    ok(sign(desk, "1.0.0.json", "dev:2", "-o", "bob.json"))
    path = changed("1.0.0.json", reason="second", expires=4_000_000_000)
    relabelled = {"proposal": Proposal.from_json(path.read_bytes()).digest}
    words: list[str] = []
    for name in ("ann.json", "bob.json"):
        Path(name).write_text(json.dumps(json.loads(Path(name).read_text()) | relabelled))
        words += ["--signature", name]
    for more in ([], ["--unsigned-text"]):
        outcome = desk.run("proposal", "execute", str(path), "--key", "dev:0", *words, *more)
        refused(outcome, REFUSED, "does not cover the proposal's text", "Ask the proposer")
    status = ok(desk.run("proposal", "show", str(path), *words)).out
    assert "NOT VALID: the signature of" in status


def test_signatures_of_other_tools_need_consent(desk: Workshop) -> None:
    """If signatures do not cover the proposal's reason, the execution requires ``--unsigned-text``."""
    proposal = Proposal.from_json(Path("1.0.0.json").read_bytes())
    ann, bob = (dev_account(number).sign_message(encode_defunct(proposal.safe_tx_hash)) for number in (1, 2))
    joined = "".join(f"{one.r:064x}{one.s:064x}{one.v + 4:02x}" for one in (ann, bob))
    Path("safe.hex").write_text(f"0x{joined}\n")
    words = ("--signature", "safe.hex")
    shown = ok(desk.run("proposal", "show", "1.0.0.json", *words)).out
    assert shown.count("valid, by an owner, by eth_sign; the TEXT IS NOT SIGNED: another tool made the signature") == 2
    assert "it has 0 signatures, 2 needed" in ok(desk.run("proposal", "simulate", "1.0.0.json", *words)).out
    execute = ("proposal", "execute", "1.0.0.json", "--key", "dev:0", *words)
    refused(desk.run(*execute), REFUSED, "reason, proposer and expiry are not signed by", "--unsigned-text")
    assert (
        "with 2 signatures, 2 needed"
        in ok(desk.run("proposal", "simulate", *execute[2:3], *words, "--unsigned-text")).out
    )
    done = ok(desk.run(*execute, "--unsigned-text"))
    assert done.err.count("RED FLAG text") == 2
    assert desk.contract.latest(PRODUCT)


def test_texts_cannot_move_the_cursor_or_turn_around(desk: Workshop) -> None:
    """Escape sequences and direction marks in a proposal do not reach the terminal."""
    usual = Proposal.from_json(Path("1.0.0.json").read_bytes())
    for text in ESCAPES:
        for name in ("reason", "proposer"):
            outcome = desk.run("proposal", "export", str(changed("1.0.0.json", **{name: text})), "-o", "x.json")
            refused(outcome, REFUSED, "cannot be shown safely")
        revoking = replace(usual, data=revoke_call(PRODUCT, Version(1, 0, 0), reason=text))
        unnamed = Product(PRODUCT, "acme", 0x410, Region(0x08000000, 1 << 16), minimum_version=None, paired=True)
        name_bytes = text.encode()[:31].ljust(32, b"\0")
        pairing = interface("BlockOTA").encode_call("pairOem", name_bytes, name_bytes, 0x410, 0x08000000, 1 << 16)
        assert pairing[:4] == pair_call(unnamed)[:4]
        for strange in (revoking, replace(usual, data=pairing)):
            Path("strange.json").write_bytes(strange.to_json())
            outcomes = desk.run("proposal", "show", "strange.json"), desk.run("proposal", "list", "--view", "view.json")
            assert not set(DECEIVERS) & set("".join(outcome.out + outcome.err for outcome in outcomes))


def test_long_texts_do_not_push_the_rest_away(desk: Workshop) -> None:
    """A reason of 100,000 characters, or with many spaces, is shortened when it is shown."""
    usual = Proposal.from_json(Path("1.0.0.json").read_bytes())
    for reason in ("x" * 100_000, "ok" + " " * 200 + "nonce 7"):
        revoking = replace(usual, data=revoke_call(PRODUCT, Version(1, 0, 0), reason=reason))
        Path("strange.json").write_bytes(revoking.to_json())
        shown = ok(desk.run("proposal", "show", "strange.json")).out
        assert max(map(len, shown.splitlines())) < 500
        assert "100000 characters in all" in shown or "[200 spaces]" in shown


def test_names_of_files_are_shown_plainly(desk: Workshop) -> None:
    """Escape sequences in a file name do not reach the terminal."""
    name = "\x1b[2Jx.json"
    Path(name).write_bytes(Path("1.0.0.json").read_bytes())
    for words in (("list",), ("show", name), ("sign", name, "--key", "dev:1", "--yes"), ("merge", name, "-o", "y")):
        outcome = desk.run("proposal", *words)
        assert "\x1b[2J" not in outcome.out + outcome.err


def test_files_of_a_gibibyte_are_refused_unread(desk: Workshop) -> None:
    """A file of 1 GiB given as proposal, signature, view or image is refused before it is read."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    Path("huge.json").touch()
    os.truncate("huge.json", GIB)
    for role in ("proposal", "view", "signature", "builder"):
        for words in that_read("huge.json", **{role: "huge.json"}):
            refused(desk.run(*words), USAGE, "huge.json is too large")
    for option in ("--image", "--previous"):
        outcome = sign(desk, "1.0.0.json", "dev:2", option, "huge.json", "-o", "out.json")
        refused(outcome, REFUSED, "too large")
    with Path("huge.json").open("r+b") as file:
        file.write(b'{\n  "format": "blockota-proposal-1"')
    listed = ok(desk.run("proposal", "list"))
    assert "Skipped: huge.json" in listed.err
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GIB // 4 // 1024  # ru_maxrss is in KiB
    assert not Path("out.json").exists()


def test_what_is_not_a_file_is_refused(desk: Workshop) -> None:
    """A folder, a FIFO and a missing file are refused by every command that reads a file."""
    Path("folder.json").mkdir()
    os.mkfifo("fifo.json")
    for name in ("folder.json", "fifo.json", "missing.json"):
        for role in ("proposal", "view", "signature", "builder"):
            for words in that_read(name, **{role: name}):
                error = one_error(desk.run(*words, "--json"))
                assert name in error["what"]
        for option in ("--image", "--previous"):
            outcome = sign(desk, "1.0.0.json", "dev:2", option, name, "-o", "out.json", "--json")
            assert name in one_error(outcome)["what"]
    assert [row["file"] for row in desk.run("proposal", "list", "--json").json["proposals"]] == ["1.0.0.json"]
    assert not Path("out.json").exists()


NO_PROPOSALS = [
    (b"", "it is empty"),
    (b"\xff\xfe", "not valid JSON"),
    (b"[]", "not a JSON object"),
    (b"[" * 100_000, "not valid JSON"),
    (b'{"format": "x"}', "another kind"),
    (b'{"format": "blockota-proposal-1", "format": "blockota-proposal-1"}', "repeated"),
    (b'{"a": {"b": 1, "b": 2}}', "repeated"),
    (b'{"format": "blockota-proposal-1", "chainId": 1e999}', "1e999"),
    (b'{"format": "blockota-proposal-1", "chainId": ' + b"9" * 5000 + b"}", ""),
    (b'{"format": "blockota-proposal-1"}', "is missing"),
]


def test_what_is_not_a_proposal_is_refused(desk: Workshop) -> None:
    """The error for an input file with invalid contents names the file."""
    for content, words in NO_PROPOSALS:
        Path("bad.json").write_bytes(content)
        for role in ("proposal", "view", "signature", "builder"):
            for command in that_read("bad.json", **{role: "bad.json"}):
                error = one_error(desk.run(*command, "--json"))
                assert "bad.json" in error["what"]
                if role == "proposal":
                    assert words in str(error)


def test_a_file_of_another_kind_is_named_with_both_formats(desk: Workshop) -> None:
    """If a signature is given in place of its proposal, the error names the kind of the file."""
    ok(sign(desk, "1.0.0.json", "dev:1"))
    [signature] = Path().glob("1.0.0.*.signature.json")
    outcome = sign(desk, str(signature), "dev:2")
    refused(outcome, REFUSED, "'blockota-signatures-2', not 'blockota-proposal-1'. Give the proposal file")


def test_a_proposal_gets_a_name_that_its_folder_finds(workshop: Workshop) -> None:
    """A file name without .json is refused, because the list and the next nonce would not include the proposal."""
    Path("proposals").mkdir()
    words = ("product", "floor", PRODUCT, "1.0.0", "--above-newest", "-o")
    refused(workshop.run(*words, "floor"), USAGE, "end in .json", "Name it floor.json")
    refused(workshop.run(*words, "proposals"), USAGE, "end in .json")
    Path("folder.json").mkdir()
    refused(workshop.run(*words, "folder.json"), USAGE, "it is a folder", "Name a file in it (-o FILE)")


def test_a_proposal_that_another_person_made_at_the_same_time_is_reported(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If two people write proposals with the same nonce at the same time, the second person gets a warning."""
    words = ("product", "floor", PRODUCT)
    ok(workshop.run(*words, "1.0.0", "--above-newest", "-o", "other.json"))
    other = Path("other.json").rename("other.bak")

    def write_after_another(path: Path, content: bytes) -> None:
        other.rename("other.json")
        write_result(path, content)

    monkeypatch.setattr(unattended, "write_result", write_after_another)
    mine = ok(workshop.run(*words, "2.0.0", "--above-newest", "-o", "mine.json"))
    assert "Warning: nonce 1 is taken by other.json too" in mine.err


def test_a_proposal_of_another_place_is_refused(desk: Workshop) -> None:
    """A proposal for another chain or Safe, and a chain view of another contract, are refused."""
    stranger = desk.cast.mallory.address
    for fields, words in (({"chainId": 1}, "another chain"), ({"safe": stranger}, "another Safe")):
        path = str(changed("1.0.0.json", **fields))
        for command in (["sign", path, "--key", "dev:1", "--yes"], ["execute", path, "--key", "dev:0"]):
            refused(desk.run("proposal", *command), REFUSED, words)
        refused(desk.run("proposal", "simulate", path), REFUSED, words)
        shown = ok(desk.run("proposal", "show", path))
        assert words in shown.err
        states = {row["file"]: row["state"] for row in desk.run("proposal", "list", "--json").json["proposals"]}
        assert states["changed.json"] == "for another chain or Safe"
    foreign = changed("view.json", chainId=1)
    refused(desk.run("proposal", "show", "1.0.0.json", "--view", str(foreign)), REFUSED, "of another contract")


def test_bad_signatures_beside_a_proposal_do_not_keep_it_from_execution(desk: Workshop) -> None:
    """Invalid signature files beside a proposal are skipped with a note, and refused if the user names them."""
    ok(sign(desk, "1.0.0.json", "dev:1"))
    ok(sign(desk, "1.0.0.json", "dev:2"))
    proposal = Proposal.from_json(Path("1.0.0.json").read_bytes())
    strange = to_json([sign_proposal(proposal, desk.cast.mallory)])
    forged = strange.replace(desk.cast.mallory.address.encode(), desk.cast.owner_c.address.encode())
    bad = {"garbage": b"\x00", "forged": forged, "strange": strange}
    for name, content in bad.items():
        Path(f"1.0.0.{name}.signature.json").write_bytes(content)
        refused(
            desk.run(
                "proposal", "execute", "1.0.0.json", "--key", "dev:0", "--signature", f"1.0.0.{name}.signature.json"
            ),
            REFUSED,
        )
    os.mkfifo("1.0.0.pipe.signature.json")
    executed = ok(desk.run("proposal", "execute", "1.0.0.json", "--key", "dev:0"))
    assert executed.err.count("Skipped ") == 4


def test_a_folder_that_cannot_be_written_is_reported(desk: Workshop) -> None:
    """An output path that cannot be written is reported, and existing files are unchanged."""
    before = {path: path.stat().st_mtime_ns for path in Path().iterdir() if path.is_file()}
    for output in ("/proc/x.json", "nowhere/x.json", "1.0.0.json/x.json"):
        for words in (
            ["sign", "1.0.0.json", "--key", "dev:2", "--yes"],
            ["merge", "ann.json"],
            ["export", "1.0.0.json"],
            ["export-view", "1.0.0.json"],
            ["reject", "--nonce", "1"],
        ):
            refused(desk.run("proposal", *words, "-o", output), USAGE, output)
    for words in (["merge", "ann.json"], ["export", "1.0.0.json"], ["export-view"], ["reject", "--nonce", "1"]):
        refused(desk.run("proposal", *words, "-o", "1.0.0.json"), USAGE, "1.0.0.json already exists")
    assert {path: path.stat().st_mtime_ns for path in Path().iterdir() if path.is_file()} == before


def test_json_is_one_object_of_every_command(desk: Workshop) -> None:
    """With ``--json``, a proposal or Safe command prints exactly one JSON object, even if it fails."""
    words: list[list[str]] = [
        *commands(),
        ["proposal", "reject", "--nonce", "1", "-o", "no.json"],
        ["proposal", "import", "missing.json", "-o", "x.json"],
        ["safe", "owners"],
        ["safe", "add", desk.cast.broker.address, "-o", "add.json"],
        ["safe", "remove", desk.cast.owner_c.address, "-o", "remove.json"],
        ["safe", "threshold", "3", "-o", "three.json"],
    ]
    for command in words:
        Path("out.json").unlink(missing_ok=True)
        outcome = desk.run(*command, "--json")
        assert isinstance(outcome.json, dict), command
        assert ("error" in outcome.json) == (outcome.status != 0), command


def test_a_proposal_is_shown_without_a_chain(desk: Workshop) -> None:
    """Without a chain, a proposal can be shown, but signing and executing fail."""
    Path("blockota.toml").write_text('[networks.local]\nurl = "http://127.0.0.1:9"\n')
    shown = ok(desk.run("proposal", "show", "1.0.0.json"))
    assert "Red flags were not checked: the node at" in shown.err
    assert desk.run("proposal", "show", "1.0.0.json", "--json").json["redFlags"] is None
    refused(sign(desk, "1.0.0.json", "dev:2"), OUT_OF_REACH, "http://127.0.0.1:9")
    refused(desk.run("proposal", "execute", "1.0.0.json", "--key", "dev:0"), OUT_OF_REACH, "http://127.0.0.1:9")


def test_a_development_key_does_not_sign_for_a_real_chain(desk: Workshop) -> None:
    """A development key may not sign a proposal for a public chain, whatever the settings are."""
    Path("blockota.toml").unlink()
    Path("deployments/1337.json").unlink()
    proposal, view = changed("1.0.0.json", chainId=1).read_text(), changed("view.json", chainId=1).read_text()
    Path("p.json").write_text(proposal)
    Path("v.json").write_text(view)
    refused(sign(desk, "p.json", "dev:1", "--view", "v.json", "--image", str(OLD)), REFUSED, "keys are public")


def test_an_image_for_another_address_is_refused(workshop: Workshop) -> None:
    """A HEX file with the bytes of the image at another address is refused when signing."""
    file = propose(workshop, OLD, "1.0.0")
    moved = "\n".join(
        [":020000040801F1", *OLD.with_suffix(".hex").read_text().splitlines()[1:]]
    )  # the same data records with another upper address
    Path("moved.hex").write_text(moved + "\n")
    outcome = sign(workshop, file, "dev:1", "--image", "moved.hex")
    refused(outcome, REFUSED, "another load address than the image", "0x08010000", "0x08000000")


def test_an_image_for_a_proposal_that_publishes_none_is_refused(workshop: Workshop) -> None:
    """An image given for a proposal that publishes no image is refused."""
    ok(workshop.run("proposal", "reject", "--nonce", "1", "-o", "no.json"))
    refused(sign(workshop, "no.json", "dev:1", "--image", str(OLD)), REFUSED, "no image at all")
