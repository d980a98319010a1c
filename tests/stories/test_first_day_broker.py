"""A broker's first day: a newcomer types the commands, makes ordinary mistakes, and reads the answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

from tests.stories.brokers import publish, serving_as_typed, vendor_of
from tests.stories.conftest import PRODUCT, Outcome, Workshop
from tests.stories.test_bad_input import OUT_OF_REACH, REFUSED, USAGE, refused
from tests.stories.test_repository import decide

RELEASE = ("--product", PRODUCT, "--version", "1.0.0")
KEY = ("--key", "dev:4")
URL = "http://127.0.0.1:1"


def settings_from(workshop: Workshop, *, vendor_source: str) -> str:
    """Return the settings file that a vendor sends to its brokers."""
    deployed = json.loads((workshop.folder / "deployments" / "1337.json").read_text())
    return (
        f'store = "file:.blockota/store"\nvendor_sources = ["{vendor_source}"]\n\n[networks.local]\n'
        f'url = "{workshop.chain.url}"\nchain_id = 1337\ncontract = "{deployed["contract"]}"\n'
        f'replication = "{deployed["replication"]}"\n'
    )


def test_a_newcomer_serves_a_copy_by_four_commands(workshop: Workshop) -> None:
    """Four commands lead from the vendor's settings file to a served copy.

    The error for each mistake names the remedy.
    """
    workshop.after(publish)
    folder = workshop.folder / "broker"
    folder.mkdir()
    typed: list[tuple[str, ...]] = []

    def type_in(*words: str) -> Outcome:
        outcome = workshop.run(*words)
        if outcome.status == 0:
            typed.append(words)
        return outcome

    with vendor_of(workshop) as vendor, chdir(folder):
        # Before the settings file is here.
        assert "no blockota.toml in this folder names another node" in type_in("replica", "list").err
        Path("blockota.toml").write_text(settings_from(workshop, vendor_source=vendor))

        # The offer.
        refused(type_in("replica", "propose", *RELEASE), USAGE, "--key")
        refused(
            type_in("replica", "propose", "--product", "acme-thermo", "--version", "1.0.0", *KEY),
            REFUSED,
            "acme-thermo",
        )
        refused(type_in("replica", "propose", "--product", PRODUCT, "--version", "1.0", *KEY), USAGE, "1.4.0")
        refused(type_in("replica", "propose", *RELEASE, *KEY, "--expires-in", "90"), USAGE, "'90' is 90s: write 10m")
        refused(type_in("replica", "propose", *RELEASE, "--key", "keystore:broker.json"), USAGE, "broker.json")
        offered = type_in("replica", "propose", *RELEASE, *KEY)
        assert "agreement 1 is proposed" in offered.out
        assert "Ask the vendor for `blockota replica accept 1 -o FILE`" in offered.err
        refused(type_in("replica", "propose", *RELEASE, *KEY), REFUSED, "agreement 1")

        # Before the vendor has decided.
        early = workshop.run("broker", "sync", *KEY)
        assert (early.status, "the vendor has not decided yet" in early.err) == (0, True)
        assert "`blockota replica accept 1 -o FILE`" in early.err
        refused(type_in("replica", "announce", "1", URL, *KEY), REFUSED, "proposed")
        with chdir(workshop.folder):
            decide(workshop, "accept", 1)

        # The copy.
        refused(type_in("broker", "sync"), USAGE, "--key URI")
        refused(type_in("broker", "sync", *KEY, "--announce", "broker.example"), USAGE, "http")
        away = workshop.run("broker", "sync", *KEY, "--vendor-source", URL)
        refused(away, OUT_OF_REACH, "could not fetch acme-thermo2 1.0.0")
        assert URL in away.err, away.err
        stranger = workshop.run("broker", "sync", "--key", "dev:6", "--state", "other.sqlite")
        assert "has no open agreement with this vendor" in stranger.err

        announce_a_served_copy(workshop, type_in, typed)
    assert len(typed) <= 5, typed


def announce_a_served_copy(workshop: Workshop, type_in: Callable[..., Outcome], typed: list[tuple[str, ...]]) -> None:
    """Serve the copy, announce its URL while the repository runs, and check the replica."""
    refused(type_in("repository", "serve", "--as", "broker"), USAGE, "--broker ADDRESS")
    address = workshop.cast.broker.address
    serve = ("repository", "serve", "--as", "broker", "--broker", address, "--listen", "127.0.0.1:0")
    typed.append(serve)
    assert type_in("broker", "sync", *KEY).status == 0
    with serving_as_typed(Path.cwd(), *serve) as line:
        url = line.split()[-1]
        assert "serving 1 release (2 files)" in line
        announced = type_in("broker", "sync", *KEY, "--announce", url)
        assert f"agreement 1 at {url}" in announced.out
        assert f"--broker {address} --listen HOST:PORT`; then `blockota replica check`" in announced.err
        assert workshop.run("replica", "check").status == 0
    refused(workshop.run("replica", "check"), OUT_OF_REACH, "1 of 1 replicas does not serve", "URL/health")
