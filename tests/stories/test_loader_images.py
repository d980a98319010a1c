"""Security counters and signatures of images for a boot loader, from the publication to the Safe."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from blockota.bindings.block_ota import floor_call, pair_call, revoke_call
from blockota.formats.mcuboot_signature import key_hash
from blockota.model.release import Product, Region, Version
from tests.stories.conftest import Outcome, Workshop, use_chain
from tests.stories.test_bad_input import REFUSED, USAGE, refused
from tests.stories.test_release_desk import decide, ok, sign
from tests.support.mcuboot import KEY, OTHER_KEY, public_key, write_image

SENSOR = Product("acme-sensor", "acme", 0, Region(0, 1 << 16), minimum_version=None, paired=True)


def publish(workshop: Workshop, image: str, version: str, *words: str) -> Outcome:
    """Run ``release publish`` for an MCUboot image."""
    words = ("--version", version, "--container", "mcuboot", "-o", f"{version}.json", *words)
    return workshop.run("release", "publish", image, "--product", SENSOR.name, *words)


def name_key(workshop: Workshop, file: str, product: str = SENSOR.name) -> None:
    """Write settings that name the image key of a product."""
    use_chain(workshop.folder, workshop.chain)
    with Path("blockota.toml").open("a") as settings:
        settings.write(f'\n[image_keys]\n{product} = "{file}"\n')


def release_first(workshop: Workshop) -> None:
    """Pair the sensor, name its image key, and publish release 1.0.0 with the security counter 1."""
    workshop.decide(pair_call(SENSOR))
    Path("sensor.pem").write_text(public_key(KEY).pem)
    name_key(workshop, "sensor.pem")
    write_image("sensor-1.0.0.bin", 1)
    assert "security counter  1\n" in ok(publish(workshop, "sensor-1.0.0.bin", "1.0.0")).out
    ok(decide(workshop, "1.0.0.json", "dev:1", "dev:2"))


def settled(workshop: Workshop) -> Workshop:
    """Return a workshop after `release_first`, whose settings name the image key."""
    workshop.after(release_first)
    name_key(workshop, "sensor.pem")
    return workshop


def test_a_counter_goes_from_the_image_to_the_chain(workshop: Workshop) -> None:
    """The screen of each owner shows the security counter and the signature.

    The recorded manifest contains the counter.
    """
    settled(workshop)
    write_image("sensor-1.1.0.bin", 1)
    (made,) = ok(publish(workshop, "sensor-1.1.0.bin", "1.1.0", "--json")).json["releases"]
    assert made["securityCounter"] == 1
    screen = ok(sign(workshop, "1.1.0.json", "dev:1")).out
    assert "security counter  1, 1 in 1.0.0\n" in screen
    assert "image signed      by the product's image key, which your settings name\n" in screen
    ok(workshop.run("proposal", "pack", "1.1.0.json"))
    screen = ok(workshop.run("proposal", "sign", "1.1.0.pack", "--key", "dev:2", "--yes")).out
    assert "security counter  1, 1 in 1.0.0\n" in screen
    ok(workshop.run("proposal", "execute", "1.1.0.json", "--key", "dev:0"))
    shown = ok(workshop.run("release", "show", SENSOR.name, "--json")).json
    assert (shown["version"], shown["manifest"]["securityCounter"]) == ("1.1.0", 1)


def test_a_lower_counter_is_not_published(workshop: Workshop) -> None:
    """If devices with the newest release would refuse an image because of its counter, the image is not stored.

    An image without a counter is refused like an image with the counter 0.
    """
    settled(workshop)
    before = sorted(Path(".blockota/store").rglob("*"))
    for counters in ((0,), ()):
        write_image("sensor-1.1.0.bin", *counters)
        why = "it is 0, and the previous release has 1: devices that ran the previous release would refuse the image"
        outcome = publish(workshop, "sensor-1.1.0.bin", "1.1.0")
        refused(outcome, REFUSED, f"the security counter of {SENSOR.name} 1.1.0 is too low", why)
        assert "Sign the image with a security counter of 1 or more" in outcome.err
    failed = publish(workshop, "sensor-1.1.0.bin", "1.1.0", "--json")
    assert (failed.status, failed.json["error"]["why"]) == (REFUSED, why)
    assert not Path("1.1.0.json").exists()
    assert sorted(Path(".blockota/store").rglob("*")) == before


def test_a_lower_counter_in_the_same_proposal_is_not_published(workshop: Workshop) -> None:
    """If a proposal has two releases of a product, the second must not have a lower counter than the first."""
    settled(workshop)
    write_image("sensor-1.1.0.bin", 3)
    write_image("sensor-1.2.0.bin", 2)
    also = ("--also", "sensor-1.2.0.bin", SENSOR.name, "1.2.0")
    refused(publish(workshop, "sensor-1.1.0.bin", "1.1.0", *also), REFUSED, f"{SENSOR.name} 1.2.0 is too low")


def test_a_counter_counts_until_its_release_is_revoked(workshop: Workshop) -> None:
    """After a release is revoked, a new release may have a lower counter than the revoked release.

    A note names the devices that would refuse the image.
    """
    settled(workshop)
    write_image("sensor-1.1.0.bin", 1)
    assert "revoked" not in ok(publish(workshop, "sensor-1.1.0.bin", "1.1.0")).err
    workshop.decide(revoke_call(SENSOR.name, Version(1, 0, 0), reason="reboots"))
    write_image("sensor-1.2.0.bin")
    outcome = ok(publish(workshop, "sensor-1.2.0.bin", "1.2.0"))
    assert "security counter  0\n" in outcome.out
    note = f"Devices that ran {SENSOR.name} 1.0.0, which is revoked, would refuse 1.2.0: its security counter is 0,"
    assert f"{note} and that of 1.0.0 is 1." in " ".join(outcome.err.split())


def test_a_counter_that_rises_is_a_red_flag_without_a_raised_floor(workshop: Workshop) -> None:
    """A higher counter raises a red flag, because devices could not return to the previous release.

    The red flag is omitted if the minimum version already excludes the previous release.
    """
    settled(workshop)
    write_image("sensor-1.1.0.bin", 2)
    ok(publish(workshop, "sensor-1.1.0.bin", "1.1.0"))
    what = "rises from 1 to 2: if the release were revoked, devices that ran it could not return to 1.0.0"
    outcome = sign(workshop, "1.1.0.json", "dev:1")
    refused(outcome, REFUSED, "red flags (counter)")
    assert what in " ".join(outcome.out.split())
    unattended = publish(workshop, "sensor-1.1.0.bin", "1.1.1", "--sign", "dev:1")
    refused(unattended, REFUSED, "not signed automatically", what)

    workshop.decide(floor_call(SENSOR.name, Version(1, 1, 0)))
    Path("1.1.0.json").unlink()
    ok(publish(workshop, "sensor-1.1.0.bin", "1.1.0"))
    ok(decide(workshop, "1.1.0.json", "dev:1", "dev:2"))


def test_a_counter_without_its_manifest_is_not_compared(workshop: Workshop) -> None:
    """If the manifest of the newest release is missing, nothing is published, and the error names the remedy."""
    settled(workshop)
    write_image("sensor-1.1.0.bin", 1)
    Path(".blockota/store").rename("moved")
    outcome = publish(workshop, "sensor-1.1.0.bin", "1.1.0")
    refused(outcome, 5, f"the security counter of {SENSOR.name} 1.0.0 is not known", "vendor_sources in blockota.toml")


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (None, "it is not signed"),
        (OTHER_KEY, f"the product's {key_hash(public_key(KEY)).hex()}"),
    ],
)
def test_an_image_of_another_key_is_not_published(workshop: Workshop, key: None, why: str) -> None:
    """For every container, an unsigned image and an image signed by a developer's key are refused."""
    settled(workshop)
    write_image("sensor-1.1.0.bin", 1, key=key)
    sentence = f"the image of {SENSOR.name} 1.1.0 is not signed by the product's image key: "
    refused(publish(workshop, "sensor-1.1.0.bin", "1.1.0"), REFUSED, sentence, why, "`blockota key sign-image`")
    opaque = publish(workshop, "sensor-1.1.0.bin", "1.1.0", "--container", "opaque")
    refused(opaque, REFUSED, sentence, why)


def test_an_owner_sees_an_image_of_another_key(workshop: Workshop) -> None:
    """The proposer's settings need not name an image key.

    The signature is checked with the key that the owner's settings name.
    If the check fails, the owner must type the word of the red flag.
    """
    settled(workshop)
    use_chain(workshop.folder, workshop.chain)
    write_image("sensor-1.1.0.bin", 1, key=OTHER_KEY)
    ok(publish(workshop, "sensor-1.1.0.bin", "1.1.0"))
    unnamed = ok(workshop.run("proposal", "show", "1.1.0.json")).out
    assert f"NOT CHECKED, by the key with SHA-256 {key_hash(public_key(OTHER_KEY)).hex()}" in " ".join(unnamed.split())

    name_key(workshop, "sensor.pem")
    outcome = sign(workshop, "1.1.0.json", "dev:1")
    refused(outcome, REFUSED, "red flags (signature)")
    assert "RED FLAG signature" in outcome.out
    assert "it is signed with another key" in outcome.out
    (image,) = ok(workshop.run("proposal", "show", "1.1.0.json", "--json")).json["images"]
    assert image["signatureFault"].startswith("it is signed with another key")
    assert (image["securityCounter"], image["previousSecurityCounter"]) == (1, 1)
    name_key(workshop, "sensor.pem", "acme-sensr")  # a typing error is no consent
    shown = ok(workshop.run("proposal", "show", "1.1.0.json")).out
    assert "your settings name no image key of this product" in " ".join(shown.split())


def test_a_key_that_cannot_be_used_is_explained(workshop: Workshop) -> None:
    """The settings name a file.

    A private key, a key of another kind and a missing file each get an error of their own.
    """
    settled(workshop)
    edwards = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
    secret = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    Path("private.pem").write_bytes(secret)
    Path("ed.pem").write_bytes(edwards.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    Path("text.pem").write_text("hello")
    for file, why in (
        ("none.pem", "the image key none.pem cannot be used: none.pem cannot be read: No such file"),
        (
            "private.pem",
            "the image key private.pem cannot be used: the file has a private key: only the public key is needed",
        ),
        ("ed.pem", "it is a key of the kind Ed25519, and images are signed on P-256"),
        ("text.pem", "the file is not a public key"),
        ("", "its text is empty"),
    ):
        name_key(workshop, file)
        outcome = publish(workshop, "sensor-1.0.0.bin", "1.1.0")
        refused(outcome, USAGE, why)
        assert secret.decode().splitlines()[1] not in outcome.err
