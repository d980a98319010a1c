"""A vendor's CI proposes and signs releases with a key from its environment, by command or by ``ape run``."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from blockota.approval.signature import from_json
from tests.conftest import IMAGES, ROOT
from tests.stories.conftest import PRODUCT, Outcome, Workshop, publish_first
from tests.stories.test_bad_input import REFUSED, USAGE
from tests.stories.test_road import NEW, OLD
from tests.support import forks
from tests.support.programs import noise, program

LARGE = IMAGES / "bluepill-1.2.0.bin"


def ape(workshop: Workshop, *words: str, environment: dict[str, str] | None = None) -> Outcome:
    """Run an ``ape`` script from the repository in a process, as a CI does, on the workshop's chain."""
    command = [forks.APE, *arguments(workshop, *words)]
    done = forks.run(command, folder=ROOT, environment=variables(workshop) | (environment or {}))
    return Outcome(done.returncode, done.stdout, done.stderr)


def arguments(workshop: Workshop, *words: str) -> list[str]:
    """Return the arguments of ``ape`` for a script."""
    network = ("--network", f"ethereum:local:{workshop.chain.url}")
    return ["run", *words, *network, "--contract", workshop.contract.address]


def variables(workshop: Workshop) -> dict[str, str]:
    """Return the environment variables of a CI."""
    return {"BLOCKOTA_STORE": f"file:{workshop.folder / '.blockota' / 'store'}"}


def ape_here(workshop: Workshop, *words: str, environment: dict[str, str] | None = None) -> Outcome:
    """Run an ``ape`` script in this process. A new process would need two seconds to load Ape."""
    return ape_with(workshop, *arguments(workshop, *words), environment=variables(workshop) | (environment or {}))


def ape_with(workshop: Workshop, *command: str, environment: dict[str, str]) -> Outcome:
    """Run ``ape`` in this process, in the folder of the repository, with these arguments and variables."""
    workshop.capture.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        for name, value in environment.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            import_module("ape._cli").cli(list(command), prog_name="ape")  # only this file's worker loads Ape
    printed = workshop.capture.readouterr()
    return Outcome(int(ended.value.code or 0), printed.out, printed.err)


def command_here(workshop: Workshop, *words: str, environment: dict[str, str] | None = None) -> Outcome:
    """Run the command that does what a script does."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (environment or {}).items():
            patch.setenv(name, value)
        return workshop.run("release", *words)


by_script_and_command = pytest.mark.parametrize("run", [ape_here, command_here], ids=["script", "command"])


def publish(
    workshop: Workshop, image: Path, version: str, *options: str, key: str = "", run: Callable[..., Outcome] = ape_here
) -> Outcome:
    """Propose a release with ``ape run publish``."""
    words = ("publish", str(image), "--product", PRODUCT, "--version", version)
    file = ("-o", str(workshop.folder / f"{version}.json"))
    return run(workshop, *words, *file, *options, environment={"OWNER_KEY": key})


def revoke(workshop: Workshop, *options: str, key: str = "", run: Callable[..., Outcome] = ape_here) -> Outcome:
    """Propose to revoke release 1.0.0 with ``ape run revoke``."""
    words = ("revoke", "--product", PRODUCT, "--version", "1.0.0", "-o", str(workshop.folder / "revoke.json"))
    return run(workshop, *words, *options, environment={"OWNER_KEY": key})


def refused(outcome: Outcome, status: int, sentence: str) -> None:
    """Assert a script's exit status and error sentence."""
    assert outcome.status == status, outcome.err
    assert sentence in outcome.err
    assert "Traceback" not in outcome.err + outcome.out


def test_a_ci_publishes_and_revokes(workshop: Workshop) -> None:
    """A CI proposes and signs a release and a revocation, and another owner signs and executes both."""
    key = workshop.cast.owner_a.key.hex()
    Path("notes.md").write_text("Keeps time.")
    words = ("--notes", str(Path("notes.md").absolute()), "--metadata", "commit=4f2a", "--sign", "env:OWNER_KEY")
    made = publish(workshop, OLD, "1.0.0", *words, "--reason", "built by CI", key=key, run=ape)
    assert made.status == 0, made.err
    assert [line.split(":")[0] for line in made.out.splitlines() if line.startswith("Wrote")] == [
        f"Wrote {workshop.folder / '1.0.0.json'}",
        f"Wrote {next(workshop.folder.glob('1.0.0.0x*.signature.json'))}",
    ]
    for word in (key, key.removeprefix("0x")):
        assert word not in made.out + made.err
    execute(workshop, "1.0.0.json")
    shown = workshop.run("release", "show", "--product", PRODUCT, "--json").json
    assert (shown["manifest"]["notes"], shown["manifest"]["metadata"]) == ("Keeps time.", {"commit": "4f2a"})
    gone = revoke(workshop, "--reason", "reboots", "--sign", "env:OWNER_KEY", key=key, run=ape)
    assert gone.status == 0, gone.err
    execute(workshop, "revoke.json")
    listed = workshop.run("release", "list", "--json").json["releases"]
    assert [release["status"] for release in listed] == ["revoked"]


def execute(workshop: Workshop, file: str) -> None:
    """Sign a proposal as a second owner, and execute it with the signatures beside its file."""
    assert workshop.run("proposal", "sign", file, "--key", "dev:2", "--yes").status == 0
    outcome = workshop.run("proposal", "execute", file, "--key", "dev:0")
    assert outcome.status == 0, outcome.err


def test_without_a_key_only_the_proposal_is_written(workshop: Workshop) -> None:
    """Without a key, a script writes an unsigned proposal, which owners sign later."""
    assert publish(workshop, OLD, "1.0.0", "--active-from", "+7d").status == 0
    assert not list(workshop.folder.glob("*signature*"))
    assert workshop.run("proposal", "sign", "1.0.0.json", "--key", "dev:3", "--yes").status == 0
    (signature,) = from_json(next(workshop.folder.glob("1.0.0.0x*.signature.json")).read_bytes())
    assert signature.signer == workshop.cast.owner_c.address


@by_script_and_command
def test_a_proposal_with_a_red_flag_is_not_signed_by_a_ci(workshop: Workshop, run: Callable[..., Outcome]) -> None:
    """Without an owner's key, nothing is written.

    The same is true if the proposal or its image raises a red flag.
    """
    workshop.after(publish_first)
    owner, sign = workshop.cast.owner_a.key.hex(), ("--sign", "env:OWNER_KEY")
    stranger = publish(workshop, NEW, "1.1.0", *sign, key=workshop.cast.mallory.key.hex(), run=run)
    refused(stranger, REFUSED, "is not an owner of the Safe")
    grown = publish(workshop, LARGE, "1.2.0", *sign, key=owner, run=run)
    refused(grown, REFUSED, "grows by more than half")
    moved = workshop.folder / "moved.bin"
    moved.write_bytes(program(0x0800_2000, after=noise(20_000)))
    linked = publish(workshop, moved, "1.1.0", *sign, "--accept-load-address", key=owner, run=run)
    refused(linked, REFUSED, "linked for 0x08002000")
    assert not [*workshop.folder.glob("1.1.0*"), *workshop.folder.glob("1.2.0*")]


def test_the_command_signs_for_a_ci(workshop: Workshop) -> None:
    """``release publish --sign`` writes the first signature.

    After a second owner signs the pack, the proposal is executed.
    """
    key = workshop.cast.owner_a.key.hex()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OWNER_KEY", key)
        words = ("--product", PRODUCT, "--version", "1.0.0", "-o", "1.0.0.json", "--sign", "env:OWNER_KEY", "--json")
        made = workshop.run("release", "publish", str(OLD), *words)
    assert made.status == 0, made.err
    assert made.json["signer"] == workshop.cast.owner_a.address
    assert from_json(Path(made.json["signature"]).read_bytes())[0].signer == workshop.cast.owner_a.address
    assert key.removeprefix("0x") not in made.out + made.err
    assert workshop.run("proposal", "pack", "1.0.0.json").status == 0
    assert workshop.run("proposal", "sign", "1.0.0.pack", "--key", "dev:2", "--yes").status == 0
    assert workshop.run("proposal", "execute", "1.0.0.json", "--key", "dev:0").status == 0


def test_a_script_uses_the_settings_for_its_chain(workshop: Workshop) -> None:
    """A script uses the settings of the network with the same chain id as Ape's network, not the default network."""
    other = '[networks.other]\nurl = "http://127.0.0.1:1"\nchain_id = 5\ncontract = "0x' + "1" * 40 + '"\n'
    Path("blockota.toml").write_text(f'network = "other"\nstore = "file:elsewhere"\n{other}')
    words = ("publish", str(OLD), "--product", PRODUCT, "--version", "1.0.0", "-o", str(workshop.folder / "p.json"))
    network = ("--network", f"ethereum:local:{workshop.chain.url}")
    made = ape_with(
        workshop, "run", *words, *network, environment={"BLOCKOTA_CONFIG": str(Path("blockota.toml").absolute())}
    )
    assert made.status == 0, made.err
    assert list((workshop.folder / "elsewhere").rglob("*"))


def test_mistakes_in_a_ci_are_reported(workshop: Workshop) -> None:
    """Scripts report errors with the same exit statuses as commands, and write nothing."""
    refused(publish(workshop, OLD, "1.0.0", "--sign", "env:OWNER_KEY", key="nonsense"), USAGE, "is not a private key")
    refused(publish(workshop, Path("/nowhere.bin"), "1.0.0"), USAGE, "file /nowhere.bin does not exist")
    refused(publish(workshop, OLD, "1.0"), USAGE, "is not a version")
    refused(revoke(workshop, "--reason", "x"), REFUSED, "release acme-thermo2 1.0.0 does not exist")
    refused(revoke(workshop), USAGE, "cannot be revoked without a reason")
    assert not list(workshop.folder.glob("*.0.json"))
    assert not (workshop.folder / ".blockota" / "store").exists()


@pytest.mark.parametrize("name", ["1.0.0.json", "1.0.0.0x70997970.signature.json"], ids=["proposal", "signature"])
def test_an_existing_file_is_not_overwritten(workshop: Workshop, name: str) -> None:
    """If the proposal file or the signature file exists, a script or the command writes neither file."""
    Path(name).write_text("mine")
    key = workshop.cast.owner_a.key.hex()
    for run in (ape_here, command_here):
        made = publish(workshop, OLD, "1.0.0", "--sign", "env:OWNER_KEY", key=key, run=run)
        refused(made, USAGE, f"{name} already exists")
    assert Path(name).read_text() == "mine"
    assert sorted(path.name for path in workshop.folder.glob("1.0.0*")) == [name]
