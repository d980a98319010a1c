"""The vendor pauses the contract, revokes a bad release and resumes; benches reinstall the older release."""

from __future__ import annotations

from blockota.bindings.block_ota import floor_call, publish_call, resume_call, revoke_call
from blockota.model.draft import Draft, draft_release
from blockota.model.release import Version
from firmware_host.simulator import serve_tcp
from tests.stories.conftest import PRODUCT, Workshop
from tests.stories.technicians import LOG, NEW, OLD, board, publish_all, unique_id

BAD = Version(1, 1, 0)


def test_boards_with_a_revoked_release_go_back_without_a_further_option(workshop: Workshop) -> None:
    """On a board with a revoked release, the newest active release is installed although its version is lower."""
    workshop.after(publish_all)
    bad, good = board(1), board(2)
    with serve_tcp(bad) as bad_url, serve_tcp(good) as good_url:
        assert workshop.flash(bad_url).status == 0
        assert workshop.flash(good_url, "--version", "1.0.0", "--log", "other.jsonl").status == 0

        assert workshop.run("contract", "pause", "--key", "dev:2").status == 0
        outcome = workshop.flash(bad_url)
        assert (outcome.status, "the contract is paused" in outcome.err) == (3, True)

        workshop.decide(revoke_call(PRODUCT, BAD, reason="reboots at midnight"))
        logs = (str(LOG), "other.jsonl")
        listed = workshop.run("board", "list", "--product", PRODUCT, "--version", str(BAD), *logs, "--json").json
        assert [(one["board"], one["line"], one["proven"]) for one in listed["boards"]] == [(unique_id(1), 1, True)]
        assert len(workshop.run("board", "list", *logs, "--json").json["boards"]) == 2
        assert "1.1.0" not in workshop.run("board", "list", "--version", "1.0.0", *logs).out
        assert "No matching board" in workshop.run("board", "list", "--version", "9.0.0").out

        workshop.decide(resume_call())
        outcome = workshop.flash(bad_url)
    assert outcome.status == 0, outcome.err
    assert "1.0.0 replaces 1.1.0, which is revoked" in outcome.out
    assert bad.flash.startswith(OLD.read_bytes())


def test_only_the_newest_active_release_replaces_a_revoked_one(workshop: Workshop) -> None:
    """On a board with a revoked release, only the newest active release is flashed without consent.

    A release below the minimum version is always refused.
    """
    workshop.after(publish_all)
    bad = NEW.read_bytes()[:-1] + b"!"
    product = workshop.contract.paired_product(PRODUCT)
    workshop.decide(publish_call([draft_release(Draft(PRODUCT, Version(1, 2, 0), bad), product)]))
    workshop.decide(revoke_call(PRODUCT, Version(1, 2, 0), reason="reboots at midnight"))
    held = board(1, flash=bad)
    with serve_tcp(held) as url:
        outcome = workshop.flash(url, "--version", "1.0.0")
        assert (outcome.status, "Take the newest active release" in outcome.err) == (3, True), outcome.err
        assert "only the newest active release replaces" in outcome.err

        words = ("--product", PRODUCT, "--version", "1.3.0", "-o", "1.3.0.json")
        outcome = workshop.run("release", "publish", str(NEW), *words)
        assert (outcome.status, "Put the new version into the image" in outcome.err) == (3, True), outcome.err

        workshop.decide(floor_call(PRODUCT, Version(1, 2, 0)))
        outcome = workshop.flash(url)
        assert (outcome.status, "is below the floor" in outcome.err) == (3, True), outcome.err
    assert held.flash.startswith(bad)
