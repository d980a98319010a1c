"""Proposals are exchanged as files, reviewed by owners before signing, and executed by anyone."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from blockota.approval.proposal import Proposal
from blockota.approval.signature import sign as sign_knowingly
from blockota.approval.signature import to_json
from blockota.keys import dev_account
from tests.stories.conftest import PRODUCT, Outcome, Workshop, publish_first
from tests.stories.test_bad_input import OUT_OF_REACH, REFUSED, USAGE, refused
from tests.stories.test_road import NEW, OLD
from tests.support import forks

CONFIG = "acme-thermo2-cfg"
WITHOUT_NETWORK = """
import os, sys
from blockota.cli.main import run
def refuse(event, arguments):
    if event in {"socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname"}:
        os.write(2, f"reached for the network: {event} {arguments}".encode())
        os._exit(97)
sys.addaudithook(refuse)
sys.exit(run(sys.argv[1:]))
"""
"""Python program that runs a command and ends as soon as the command uses the network."""


def ok(outcome: Outcome) -> Outcome:
    """Assert that a command succeeded, and return its outcome."""
    assert outcome.status == 0, outcome.err
    return outcome


def propose(workshop: Workshop, image: Path, version: str, *options: str) -> Path:
    """Propose a release of the test product, and return the path of the proposal file."""
    file = Path(f"{version}.json")
    words = ("--product", PRODUCT, "--version", version, "-o", str(file))
    ok(workshop.run("release", "publish", str(image), *words, *options))
    return file


def sign(workshop: Workshop, file: Path | str, owner: str, *options: str) -> Outcome:
    """Run ``proposal sign`` with ``--yes``."""
    return workshop.run("proposal", "sign", str(file), "--key", owner, "--yes", *options)


def decide(workshop: Workshop, file: Path | str, *owners: str) -> Outcome:
    """Sign a proposal as these owners, and execute it."""
    for owner in owners:
        ok(sign(workshop, file, owner))
    return workshop.run("proposal", "execute", str(file), "--key", "dev:0")


def listed(workshop: Workshop, *words: str) -> dict[str, dict[str, Any]]:
    """Return the proposals that ``proposal list`` shows, by file name."""
    rows: list[dict[str, Any]] = ok(workshop.run("proposal", "list", *words, "--json")).json["proposals"]
    return {row["file"]: row for row in rows}


def at_home(workshop: Workshop, *files: Path) -> Path:
    """Return the folder of a second machine, with copies of files and with settings of an unreachable chain."""
    folder = workshop.folder / "at-home"
    folder.mkdir()
    for file in files:
        shutil.copy(file, folder)
    settings = f'[networks.local]\nurl = "http://127.0.0.1:9"\ncontract = "{workshop.contract.address}"\n'
    (folder / "blockota.toml").write_text(settings)
    return folder


def without_network(folder: Path, *words: str) -> Outcome:
    """Run a command in another folder, in a process that may not open a connection."""
    done = forks.run(["-c", WITHOUT_NETWORK, *words], folder=folder)
    return Outcome(done.returncode, done.stdout, done.stderr)


def test_a_release_is_decided_by_an_owner_at_home_and_one_at_the_desk(workshop: Workshop) -> None:
    """Two owners sign a release, one off line and one on line.

    Their signatures are merged, and the proposal is simulated and executed.
    """
    workshop.after(publish_first)
    file = propose(workshop, NEW, "1.1.0", "--reason", "fewer wake-ups", "--proposer", "Ann")
    assert {name: row["state"] for name, row in listed(workshop).items()} == {
        "1.1.0.json": "next",
        "1.0.0.json": "executed",
    }
    ok(workshop.run("proposal", "export-view", str(file), "-o", "view.json"))
    home = at_home(workshop, file, Path("view.json"), NEW, OLD)
    words = ("--view", "view.json", "--image", NEW.name, "--previous", OLD.name, "-o", "ann.json")
    shown = ok(without_network(home, "proposal", "sign", file.name, "--key", "dev:1", "--yes", *words)).out
    assert "since 1.0.0: 584 → 620 bytes" in shown
    assert "1 of 1 pages of 1024 bytes, 397 bytes, from 0x0800003c to 0x0800026b" in shown
    shutil.copy(home / "ann.json", "from-the-stick.json")

    simulated = ok(workshop.run("proposal", "simulate", str(file)))
    assert "the execution was not tried: it has 0 signatures, 2 needed" in simulated.out
    ok(sign(workshop, file, "dev:2"))
    beside = next(map(str, Path().glob("1.1.0.*.signature.json")))
    ok(workshop.run("proposal", "merge", "from-the-stick.json", beside, "-o", "1.1.0.signatures.json"))
    assert "2 of 2" in listed(workshop)["1.1.0.json"]["signed"]
    simulated = ok(workshop.run("proposal", "simulate", str(file)))
    assert "the execution succeeds, with 2 signatures, 2 needed" in simulated.out
    executed = ok(workshop.run("proposal", "execute", str(file), "--key", "dev:6"))
    assert f"publish a release: {PRODUCT} 1.1.0" in executed.out
    assert listed(workshop)["1.1.0.json"]["state"] == "executed"
    newest = workshop.contract.latest(PRODUCT)
    assert newest
    assert str(newest.version) == "1.1.0"


def test_what_is_signed_is_shown_in_the_order_in_which_it_matters(workshop: Workshop) -> None:
    """``proposal sign`` shows action, changes, reason, expiry, addresses and hashes in this order."""
    workshop.after(publish_first)
    file = propose(workshop, NEW, "1.1.0", "--reason", "fewer wake-ups")
    shown = ok(sign(workshop, file, "dev:1")).out
    order = ["What is asked", "action", "product", "version", "active from", "reason", "expires", "nonce"]
    order += ["What changes", "addresses", "image", "changes", "today", "What is unusual", "nothing", "────"]
    order += ["SHA-256", "CID", "manifest", "calls", "Safe", "chain id", "owners", "chain view", "block hash"]
    order += ["domain hash", "message hash", "safeTxHash", "✓"]
    found = [re.search(f"^{re.escape(label)}", shown, re.MULTILINE) for label in order]
    places = [match.start() if match else -1 for match in found]
    assert -1 not in places, order[places.index(-1)]
    assert places == sorted(places)
    proposal = Proposal.from_json(file.read_bytes())
    for value in (proposal.domain_hash, proposal.message_hash, proposal.safe_tx_hash, NEW.read_bytes()[:0]):
        assert value.hex() in shown
    assert max(map(len, shown.splitlines())) <= 100
    for words in ("OEM acme, chip id 0x410, newest 1.0.0, no floor", "2 of these 3 must sign", "fewer wake-ups"):
        assert words in shown


def test_the_first_release_and_one_without_its_predecessor_say_so(workshop: Workshop) -> None:
    """If the image cannot be compared with a previous image, signing succeeds and the output states the reason."""
    file = propose(workshop, OLD, "1.0.0")
    assert "there is no earlier release to compare with" in ok(sign(workshop, file, "dev:1")).out
    workshop.run("proposal", "sign", str(file), "--key", "dev:2", "--yes")
    ok(workshop.run("proposal", "execute", str(file), "--key", "dev:0"))
    shutil.rmtree(".blockota/store")
    file = propose(workshop, NEW, "1.1.0")
    assert (
        "not known: the image of 1.0.0 was not found, and no file was given to compare with"
        in ok(sign(workshop, file, "dev:1")).out
    )
    refused(
        sign(workshop, file, "dev:2", "--previous", str(NEW)),
        REFUSED,
        "not the image that was published before",
        "1.0.0",
    )


def test_release_notes_are_read_before_signing(workshop: Workshop) -> None:
    """``proposal sign`` shows release notes and metadata behind a margin, or reports that they are missing."""
    Path("notes.txt").write_text("\n".join(["Fewer wake-ups.", "nonce         7", *map(str, range(30))]))
    file = propose(workshop, OLD, "1.0.0", "--notes", "notes.txt", "--metadata", "commit=abc")
    shown = ok(sign(workshop, file, "dev:1")).out
    for words in ("notes         │ Fewer wake-ups.", "and 12 more lines", "metadata      │ commit = abc"):
        assert words in shown
    assert not re.search("^nonce +7", shown, re.MULTILINE)
    shutil.rmtree(".blockota/store")
    assert "notes         not shown: " in ok(sign(workshop, file, "dev:2", "--image", str(OLD))).out


def test_signing_without_the_image_names_the_remedy(workshop: Workshop) -> None:
    """Signing without the image is refused, and the error names the option ``--image``."""
    file = propose(workshop, OLD, "1.0.0")
    shutil.rmtree(".blockota/store")
    refused(
        sign(workshop, file, "dev:1"),
        OUT_OF_REACH,
        f"the image of {PRODUCT} 1.0.0 cannot be checked",
        "--image FILE",
        "--store",
    )
    assert not list(Path().glob("*signature*"))
    ok(sign(workshop, file, "dev:1", "--image", str(OLD.with_suffix(".hex"))))


def test_one_of_two_proposals_at_a_nonce_is_rejected(workshop: Workshop) -> None:
    """A rejection has the same nonce as the rejected proposal.

    After the rejection is executed, the proposal is invalid.
    """
    file = propose(workshop, OLD, "1.0.0")
    refused(workshop.run("proposal", "reject", "-o", "no.json"), USAGE, "FILE", "--nonce")
    both = workshop.run("proposal", "reject", str(file), "--nonce", "1")
    refused(both, USAGE, "exactly one of FILE and --nonce is needed")
    rejected = ok(workshop.run("proposal", "reject", str(file), "--reason", "wrong image"))
    assert "Its execution rejects 1.0.0.json." in rejected.out
    Path("reject-1.0.0.json").rename("no.json")
    floor = ("product", "floor", PRODUCT, "0.1.0", "--above-newest", "-o", "floor.json")
    competing = ok(workshop.run(*floor, "--nonce", "1"))
    assert "nonce 1 is taken by 1.0.0.json, no.json too" in competing.err
    assert "again without --nonce" in competing.err
    Path("floor.json").unlink()
    rows = listed(workshop)
    assert rows["1.0.0.json"]["competesWith"] == ["no.json"]
    assert rows["no.json"]["competesWith"] == ["1.0.0.json"]
    assert "COMPETES with no.json" in workshop.run("proposal", "list").out
    assert "1, the Safe's next; competes with no.json" in ok(sign(workshop, file, "dev:1")).out
    # A signature under a name of one's own is not found by the execution.
    own_name = ok(sign(workshop, file, "dev:3", "-o", "carol.json"))
    assert "`blockota proposal execute 1.0.0.json --signature carol.json --key KEY`" in own_name.err
    ok(sign(workshop, file, "dev:2"))
    assert "reject whatever else takes nonce 1" in ok(decide(workshop, "no.json", "dev:1", "dev:3")).out
    refused(workshop.run("proposal", "simulate", str(file)), REFUSED, "was replaced", "nonce 1")
    # The state comes before the key: the password of a key is never asked for in vain.
    for verb in ("sign", "execute"):
        outcome = workshop.run("proposal", verb, str(file), "--key", "keystore:missing.json")
        refused(outcome, REFUSED, "the proposal was replaced", "another transaction at nonce 1")
    for verb in ("sign", "execute"):
        outcome = workshop.run("proposal", verb, "no.json", "--key", "keystore:missing.json")
        refused(outcome, REFUSED, "the proposal was executed already")
    assert listed(workshop)["1.0.0.json"]["state"] == "replaced"
    shown = ok(workshop.run("proposal", "show", str(file)))
    assert "1, used; the Safe's next nonce is 2" in shown.out
    assert "The proposal was replaced: the Safe executed another transaction at nonce 1." in shown.err
    assert workshop.contract.latest(PRODUCT) is None
    for words in (("--nonce", "1"), (str(file),)):
        outcome = workshop.run("proposal", "reject", *words, "-o", "x.json")
        refused(outcome, REFUSED, "nothing to reject: nonce 1 is used already", "blockota proposal list")


def test_a_second_proposal_waits_for_the_first(workshop: Workshop) -> None:
    """A new proposal gets the nonce after the pending proposals in its folder.

    The new proposal can be signed before the pending proposals are executed.
    """
    propose(workshop, OLD, "1.0.0")
    file = propose(workshop, NEW, "1.1.0")
    assert Proposal.from_json(file.read_bytes()).nonce == 2
    assert listed(workshop)["1.1.0.json"]["state"] == "waits for those before it"
    signed = ok(sign(workshop, file, "dev:1"))
    assert "RED FLAG" not in signed.out
    assert "2, after 1.0.0.json; the Safe's next nonce is 1" in signed.out
    assert signed.err.endswith(
        "1 of 2 signed. Send 1.1.0.json to the owners who have not signed, and put all signature files beside it on "
        "one machine; then `blockota proposal execute 1.1.0.json --key KEY`\n"
    )
    assert "Execute 1.0.0.json first" in ok(sign(workshop, file, "dev:2")).err
    too_early = workshop.run("proposal", "execute", str(file), "--key", "keystore:missing.json")
    refused(too_early, REFUSED, "other proposals come first", "Execute 1.0.0.json first")

    # Without the proposals before it, a later nonce is unusual.
    Path("1.0.0.json").rename("1.0.0.bak")
    assert "--nonce 1" in workshop.run("proposal", "list").err
    floor = ok(workshop.run("product", "floor", PRODUCT, "0.1.0", "--above-newest", "-o", "floor.json"))
    assert "transaction 3 of the Safe" in floor.out
    assert "It can be executed after 1.1.0.json." in floor.out
    assert "nonce 1 must be executed first, and no pending proposal here takes it" in floor.err
    assert "again with --nonce 1" in floor.err
    refused(sign(workshop, file, "dev:3"), REFUSED, "red flags (nonce)")
    assert "the Safe's next nonce is 1" in ok(workshop.run("proposal", "simulate", str(file))).out


def test_the_safe_changes_its_owners_and_threshold(workshop: Workshop) -> None:
    """The Safe's owners and threshold are changed by proposals that its current owners sign."""
    newcomer = workshop.cast.broker.address
    for number, (words, owners, shown) in enumerate(
        [
            (("add", newcomer, "--threshold", "3"), (1, 2), "add an owner to the Safe"),
            (("remove", workshop.cast.owner_a.address), (1, 2, 3), "remove an owner from the Safe"),
        ]
    ):
        file = f"safe-{number}.json"
        ok(workshop.run("safe", *words, "--reason", "people change", "-o", file))
        described = ok(workshop.run("proposal", "show", file)).out
        assert shown in described
        assert words[1] in described
        for owner_number in owners:
            agreed = sign_knowingly(Proposal.from_json(Path(file).read_bytes()), dev_account(owner_number))
            Path(f"{Path(file).stem}.{owner_number}.signature.json").write_bytes(to_json([agreed]))
        ok(decide(workshop, file))
    state = ok(workshop.run("safe", "owners", "--json")).json
    assert (newcomer in state["owners"], len(state["owners"]), state["threshold"]) == (True, 3, 3)
    ok(workshop.run("safe", "threshold", "2", "-o", "two.json"))
    flags = ok(workshop.run("proposal", "show", "two.json", "--json")).json["redFlags"]
    assert "change how many owners must sign" in ok(workshop.run("proposal", "show", "two.json")).out
    assert [flag["word"] for flag in flags] in ([], ["threshold"])
    assert "3 of these 3 must sign" in ok(workshop.run("safe", "owners")).out


def test_what_the_safe_would_not_do_is_refused_at_once(workshop: Workshop) -> None:
    """Impossible changes of the Safe's owners or threshold are refused when they are proposed.

    The cases are an existing owner, a non-owner, an impossible threshold, and a mistyped or reserved address.
    """
    owner, stranger = workshop.cast.owner_a.address, workshop.cast.mallory.address
    for words, status, sentence in [
        (("add", owner), REFUSED, "is an owner already"),
        (("remove", stranger), REFUSED, "is not an owner"),
        (("threshold", "2"), REFUSED, "the threshold is 2 already"),
        (("threshold", "4"), REFUSED, "a threshold of 4 cannot be met"),
        (("threshold", "0"), USAGE, "0"),
        (("add", "0x" + "00" * 20), USAGE, "is not an address"),
        (("add", owner[:-1] + ("1" if owner[-1] != "1" else "2")), USAGE, "checksum"),
        (("add", "0x" + "00" * 19 + "01"), REFUSED, ""),
    ]:
        outcome = workshop.run("safe", *words, "-o", "safe.json")
        assert (outcome.status, sentence in outcome.err) == (status, True), outcome.err
        assert not Path("safe.json").exists()


@pytest.fixture
def both(workshop: Workshop) -> Workshop:
    """Return a test workshop with one proposal that publishes releases of two products."""
    words = ("--oem", "acme", "--chip", "0x410", "--region", "0x0800f800:2K", "-o", "pair.json")
    ok(workshop.run("product", "pair", CONFIG, *words))
    ok(decide(workshop, "pair.json", "dev:1", "dev:2"))
    Path("settings.bin").write_bytes(b"interval=60\0")
    ok(
        workshop.run(
            *("release", "publish", str(OLD), "--product", PRODUCT, "--version", "1.0.0", "-o", "both.json"),
            *("--also-configuration", "settings.bin", CONFIG, "1.0.0"),
        )
    )
    return workshop


def test_several_releases_are_one_decision(both: Workshop) -> None:
    """One proposal publishes several releases, and each image is hashed before signing."""
    shutil.rmtree(".blockota/store")
    given = ("--image", "settings.bin", "--image", str(OLD))
    shown = ok(sign(both, "both.json", "dev:1", *given)).out
    assert shown.count("publish a release") == 2
    assert "hashed here from settings.bin: its 12 bytes" in shown
    ok(sign(both, "both.json", "dev:2", *given))
    assert f"{PRODUCT} 1.0.0 and 1 more" in ok(both.run("proposal", "execute", "both.json", "--key", "dev:0")).out
    assert all(both.contract.latest(product) for product in (PRODUCT, CONFIG))


def test_one_wrong_image_among_several_is_refused(both: Workshop) -> None:
    """An image file that belongs to none of the proposal's releases is refused."""
    outcome = sign(both, "both.json", "dev:1", "--image", "settings.bin", "--image", str(NEW))
    refused(outcome, REFUSED, NEW.name, "not the one in the proposal", "584 bytes", "12 bytes")
    shutil.rmtree(".blockota/store")
    refused(sign(both, "both.json", "dev:1", "--image", "settings.bin"), OUT_OF_REACH, PRODUCT, "--image FILE")
    assert not list(Path().glob("both.*signature*"))


def test_a_proposal_goes_through_the_transaction_builder(workshop: Workshop) -> None:
    """Exporting a proposal to the Transaction Builder and importing it keeps the transaction's hash."""
    file = propose(workshop, OLD, "1.0.0")
    ok(workshop.run("proposal", "export", str(file), "-o", "builder.json"))
    imported = ok(
        workshop.run("proposal", "import", "builder.json", "--nonce", "1", "-o", "imported.json", "--json")
    ).json
    assert imported["safeTxHash"] == listed(workshop)[file.name]["safeTxHash"]
    assert listed(workshop)["imported.json"]["competesWith"] == []
    ok(decide(workshop, "imported.json", "dev:2", "dev:3"))
    assert workshop.contract.latest(PRODUCT)


def test_what_comes_from_the_builder_is_judged_when_it_is_signed(workshop: Workshop) -> None:
    """An imported call to a foreign contract raises red flags, and a transaction of another Safe is refused."""
    file = propose(workshop, OLD, "1.0.0")
    ok(workshop.run("proposal", "export", str(file), "-o", "builder.json"))
    fields = json.loads(Path("builder.json").read_text())
    del fields["meta"]["checksum"]
    multi_send = {"to": "0x38869bf66a61cF6bDB996A6aE40D5853Fd43B526", "value": "1", "data": "0x8d80ff0a" + "00" * 64}
    Path("multi.json").write_text(json.dumps(fields | {"transactions": [fields["transactions"][0] | multi_send]}))
    ok(workshop.run("proposal", "import", "multi.json", "-o", "multi-proposal.json"))
    refused(sign(workshop, "multi-proposal.json", "dev:1"), REFUSED, "red flags (value, selector, target)")
    shown = ok(workshop.run("proposal", "show", "multi-proposal.json")).out
    assert "UNKNOWN: 0x8d80ff0a with 68 bytes" in shown
    assert "sends         1 wei" in shown
    Path("two.json").write_text(json.dumps(fields | {"transactions": fields["transactions"] * 2}))
    refused(workshop.run("proposal", "import", "two.json", "-o", "x.json"), REFUSED, "2 transactions", "delegatecall")
    foreign = fields | {"meta": fields["meta"] | {"createdFromSafeAddress": workshop.cast.mallory.address}}
    Path("foreign.json").write_text(json.dumps(foreign))
    refused(workshop.run("proposal", "import", "foreign.json", "-o", "x.json"), REFUSED, "another chain or Safe")
    assert not Path("x.json").exists()


def test_the_desk_is_empty_or_crowded(workshop: Workshop) -> None:
    """``proposal list`` reports an empty folder, and lists a hundred proposals in nonce order."""
    assert "No proposals in" in ok(workshop.run("proposal", "list")).out
    assert ok(workshop.run("proposal", "list", "--json")).json == {"proposals": [], "leftAside": []}
    refused(workshop.run("proposal", "list", "nowhere"), USAGE, "nowhere is not a folder")
    first = Proposal.from_json(propose(workshop, OLD, "1.0.0").read_bytes())
    fields = json.loads(first.to_json())
    for nonce in range(2, 102):
        Path(f"later-{nonce}.json").write_text(json.dumps(fields | {"nonce": nonce}))
    rows = list(listed(workshop).values())
    assert [row["nonce"] for row in rows] == list(range(1, 102))
