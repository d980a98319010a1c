"""The programs of docs/library.md, and the examples in the docstrings of the library, run without changes."""

from __future__ import annotations

import doctest
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import blockota
from blockota import library
from firmware_host.simulator import serve_tcp
from tests.conftest import IMAGES, ROOT
from tests.stories.conftest import PRODUCT, Workshop
from tests.stories.technicians import board
from tests.support.networks import rpc
from tests.support.page_programs import programs

SECRET = "only of this test"  # noqa: S105
PAGE = ROOT / "docs" / "library.md"


def run_page(workshop: Workshop) -> None:
    """Run all programs of the page in the workshop. A board is at the port that the programs get as an argument."""
    with serve_tcp(board(1)) as port, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["flash_one.py", port])
        for program in programs(PAGE):
            workshop.capture.readouterr()
            exec(compile(program.source, str(PAGE), "exec"), {"__name__": "__main__"})  # noqa: S102 - a page of ours
            printed = workshop.capture.readouterr().out
            assert program.prints(printed), f"{program.source}\n{printed}"


def copy_images() -> None:
    """Copy the images that the page and the docstrings name into the current folder."""
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        Path(f"app-{version}.bin").write_bytes((IMAGES / f"bluepill-{version}.bin").read_bytes())


def after_page(workshop: Workshop) -> None:
    """Run all programs of the page in the workshop, in a folder with the images."""
    copy_images()
    run_page(workshop)


def examples() -> Iterator[doctest.DocTest]:
    """Yield the examples in the docstrings of the library's public names, and of the public methods of its classes."""
    finder = doctest.DocTestFinder(recurse=False)
    yield from finder.find(library, "blockota.library")
    for name in library.__all__:
        found = getattr(library, name)
        yield from finder.find(found, name)
        if inspect.isclass(found):
            for method, value in vars(found).items():
                if not method.startswith("_"):
                    yield from finder.find(value, f"{name}.{method}")


def test_the_page_and_the_docstrings_show_what_the_library_does(workshop: Workshop) -> None:
    """The page has ten programs, and they print what the page shows. Then the examples in the docstrings run."""
    assert len(programs(PAGE)) == 10
    workshop.after(after_page)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, verbose=False)
    failures: list[str] = []
    with library.Network.from_settings() as network:
        names = {name: getattr(library, name) for name in library.__all__}
        for example in examples():
            example.globs |= names | {"network": network}
            runner.run(example, out=failures.append)
    assert not failures, "".join(failures)
    assert runner.summarize(verbose=False).attempted > len(library.__all__)


def test_every_public_name_has_an_example() -> None:
    """Each public method of `Network`, and each public name except errors and results, has an example."""
    without = {name for name in library.__all__ if name.endswith("Error")} | {"BoardResult", "Receipt"}
    documented = {name: getattr(library, name) for name in set(library.__all__) - without}
    documented |= {name: value for name, value in vars(documented.pop("Network")).items() if not name.startswith("_")}
    assert not [name for name, value in documented.items() if ">>>" not in (inspect.getdoc(value) or "")]


def test_programs_get_errors_of_one_tree(workshop: Workshop) -> None:
    """A flipped bit fails check 4, and an unknown version fails check 3. A key without a password is a usage error."""
    workshop.after(after_page)
    image = Path("app-1.0.0.bin").read_bytes()
    with blockota.Network.from_settings() as network:
        with pytest.raises(blockota.VerificationError) as changed:
            network.verify(bytes([image[0] ^ 1]) + image[1:], PRODUCT, "1.0.0")
        with pytest.raises(blockota.VerificationError) as missing:
            network.fetch(PRODUCT, "9.0.0")
        with pytest.raises(blockota.RefusedError, match="is not a release of acme-thermo2"):
            network.verify(b"nothing", PRODUCT)
        with pytest.raises(blockota.RefusedError, match="is not a release of any product"):
            network.verify(b"nothing")
        with pytest.raises(blockota.RefusedError, match=r"is not 1\.1\.0 of any product"):
            network.verify(image, version="1.1.0")
        with pytest.raises(blockota.VerificationError, match="check 3"):  # a revoked release
            network.verify("app-1.1.0.bin")
        for version in ("0.0", ""):
            with pytest.raises(blockota.UsageError, match="is not a version"):
                network.fetch(PRODUCT, version)
        untyped = blockota.Draft(PRODUCT, "1.2.0")  # type: ignore[arg-type]
        first = network.propose_release("app-1.2.0.bin", untyped)
        assert first.intent[0]["version"] == "1.2.0"
        assert network.sign(first, "dev:1", images="app-1.2.0.bin", accept=["grown"]).signer  # one path, not a list
        number = blockota.Draft(PRODUCT, blockota.Version(1, 2, 0), metadata={"build": 42})  # type: ignore[dict-item]
        with pytest.raises(blockota.RefusedError, match="the metadata build is not text"):
            network.propose_release("app-1.2.0.bin", number)
        second = network.propose_revocation(PRODUCT, "1.0.0", reason="comes second")
        assert (second.nonce, network.red_flags(second)) == (first.nonce + 1, [])
        proposal = network.propose_revocation(PRODUCT, "1.0.0", reason="a test", nonce=90)
        with pytest.raises(blockota.RefusedError, match=r"not signed automatically: .*\(red flag nonce\)"):
            network.sign(proposal, "dev:1")
        assert network.sign(proposal, "dev:1", accept=["nonce"]).signer == workshop.cast.owner_a.address
        with pytest.raises(blockota.RefusedError, match="red flag nonce"):  # a part of a word accepts nothing
            network.sign(proposal, "dev:1", accept="nonces")
        assert network.sign(proposal, "dev:1", accept="nonce").signer == workshop.cast.owner_a.address
        executed, _ = blockota.load_proposal("1.1.0.json")
        with pytest.raises(blockota.RefusedError, match="was executed already"):  # as by the command
            network.sign(executed, "dev:1", accept=["nonce"])
        Path("owner.json").write_text(json.dumps(workshop.cast.owner_c.encrypt(SECRET, kdf="pbkdf2", iterations=2)))
        signed = network.sign(proposal, "keystore:owner.json", password=SECRET, accept=["nonce"])
        assert signed.signer == workshop.cast.owner_c.address
        assert network.sign(proposal, workshop.cast.owner_b, accept=["nonce"]).signer == workshop.cast.owner_b.address
        with pytest.raises(blockota.RefusedError, match="too few signatures"):
            network.execute(proposal, [], "dev:0")
        with pytest.raises(blockota.RefusedError, match="acme-thermo9 does not exist"):
            network.releases("acme-thermo9")
        with pytest.raises(blockota.UsageError, match="no password given"):
            network.sign(proposal, "keystore:owner.json")
        with pytest.raises(blockota.UsageError, match="'acme' is not an address"):
            blockota.Network.at(network.settings.url, chain_id=1337, contract="acme")
    assert (changed.value.number, missing.value.number) == (4, 3)


def test_two_proposals_never_share_a_file(workshop: Workshop) -> None:
    """Saving a proposal again writes nothing, and another proposal under the same name is refused."""
    workshop.after(after_page)
    with blockota.Network.from_settings() as network:
        first, second = (network.propose_revocation(PRODUCT, "1.0.0", reason=why) for why in ("one", "two"))
        signature = network.sign(second, "dev:1")
        assert blockota.save_proposal("r.json", first) == [Path("r.json")]
        assert blockota.save_proposal("r.json", first) == []
        with pytest.raises(blockota.UsageError, match="already exists"):
            blockota.save_proposal("r.json", second, signature)
    assert sorted(Path().glob("r.*")) == [Path("r.json")]


def test_events_follow_the_chain(workshop: Workshop) -> None:
    """With `wait`, `Network.events` yields each event of new blocks once.

    After a reorganisation, `Network.events` yields the events of the new blocks.
    """
    workshop.after(after_page)
    with blockota.Network.from_settings() as network:
        before = list(network.events())
        followed = network.events(wait=True, pause=0.0)
        assert [next(followed) for _ in before] == before
        revoke("reboots")
        event = next(followed)
        rpc(workshop.chain, "anvil_rollback", 1)
        revoke("loses its clock")
        again = next(followed)
    assert (event.name, event.product, str(event.version)) == ("ReleaseRevoked", PRODUCT, "1.0.0")
    assert (event.arguments["reason"], again.arguments["reason"]) == ("reboots", "loses its clock")


def revoke(reason: str) -> None:
    """Revoke release 1.0.0 as two owners."""
    with blockota.Network.from_settings() as network:
        proposal = network.propose_revocation(PRODUCT, "1.0.0", reason=reason)
        network.execute(proposal, [network.sign(proposal, key) for key in ("dev:1", "dev:2")], "dev:0")
