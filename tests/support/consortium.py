"""A vendor's folder on a network of several nodes, whose keys are in environment variables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from blockota.bindings.safe import deploy_safe
from blockota.chain import Chain
from blockota.keys import dev_account
from blockota.vendor.publish import deploy
from tests.conftest import IMAGES, Cast
from tests.stories.conftest import PRODUCT, Outcome, Workshop

KEYS = {"PAYER": 0, "OWNER_1": 1, "OWNER_2": 2}
"""Environment variables with keys of the test mnemonic, whose accounts the genesis block funds."""
REGION = ("--oem", "acme", "--chip", "0x410", "--region", "0x08000000:64K")


@dataclass(frozen=True)
class Consortium:
    """A vendor on a network of several nodes, reached through the first of them."""

    workshop: Workshop

    def run(self, *words: str) -> Outcome:
        """Run one command in the vendor's folder."""
        return self.workshop.run(*words)

    def ok(self, *words: str) -> Outcome:
        """Run a command that must succeed."""
        outcome = self.run(*words)
        assert outcome.status == 0, outcome.err
        return outcome

    def sign(self, file: str) -> None:
        """Sign as two owners of the Safe."""
        for owner in ("OWNER_1", "OWNER_2"):
            self.ok("proposal", "sign", file, "--key", f"env:{owner}", "--yes")

    def execute(self, file: str) -> Outcome:
        """Execute a signed proposal."""
        return self.run("proposal", "execute", file, "--key", "env:PAYER")

    def propose(self, version: str) -> str:
        """Propose and sign a release, and return the file."""
        file, image = f"{version}.json", IMAGES / f"bluepill-{version}.bin"
        self.ok("release", "publish", str(image), "--product", PRODUCT, "--version", version, "-o", file)
        self.sign(file)
        return file

    def releases(self) -> list[str]:
        """The versions on record."""
        listed = self.ok("release", "list", "--product", PRODUCT, "--json").json["releases"]
        return sorted(release["version"] for release in listed)


def furnish(folder: Path, chain: Chain, *, cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deploy a Safe and both contracts, and write the settings; answers need one confirmation."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name, number in KEYS.items():
        monkeypatch.setenv(name, "0x" + dev_account(number).key.hex().removeprefix("0x"))
    owners = [cast.owner_a.address, cast.owner_b.address, cast.owner_c.address]
    deploy(chain, cast.payer, safe=deploy_safe(chain, cast.payer, owners=owners, threshold=2)).write(folder)
    section = f'url = "{chain.url}"\nchain_id = {chain.chain_id}\nconfirmations = 1\n'
    (folder / "blockota.toml").write_text(f'network = "consortium"\n\n[networks.consortium]\n{section}')


def pair(vendor: Consortium) -> None:
    """Pair the product."""
    vendor.ok("product", "pair", PRODUCT, *REGION, "-o", "pair.json")
    vendor.sign("pair.json")
    outcome = vendor.execute("pair.json")
    assert outcome.status == 0, outcome.err
