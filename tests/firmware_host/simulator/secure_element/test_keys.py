"""The commands GenKey, Sign and Verify of the simulated ATECC608, and the cases in which they are refused."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from firmware_host.simulator.secure_element import SecureElement
from tests.firmware_host.simulator.secure_element.bench import (
    DATA_LOCK,
    DEVICE,
    ECC,
    FORBIDDEN,
    MAC_KEY,
    MISMATCH,
    PARENT,
    PARSE,
    PUBLIC,
    SERIAL,
    SLOT_LOCK,
    VALIDATED,
    Bench,
    configure,
    pair,
    refused,
    sha256,
    signed,
    verifies,
    write_public,
    write_slot,
    xy,
)

NONCE, LOCK, INFO, GENKEY, SIGN, VERIFY, CHECKMAC = 0x16, 0x17, 0x30, 0x40, 0x41, 0x45, 0x28
TO_TEMP_KEY, TO_DIGEST = 0x03, 0x43
CREATE, COMPUTE = 0x04, 0x00
EXTERNAL, INTERNAL, BY_DIGEST = 0x80, 0x00, 0x20
PEER, OTHER_PEER, CITY = pair(21), pair(22), pair(23)
DIGEST = sha256(b"message")
RANDOM_ONLY, LATCHED, AUTHORIZED, OPAQUE, REPLACEABLE, BAD = 1, 2, 3, 4, 6, 8


@pytest.fixture
def chip() -> SecureElement:
    """Return a locked element with a device key, public keys, and private keys with further rules."""
    element = Bench().element
    configure(
        element,
        s1=(0x8081, 0x0053),  # needs a random nonce
        s2=(0x8081, 0x1013),  # needs the persistent latch
        s3=(0x8081, 0x0013 | 0x80 | MAC_KEY << 8),  # needs a CheckMac with the key in slot 5
        s4=(0x8081, 0x0011),  # its public key cannot be computed
        s6=(0x2081, 0x0033),  # can be made again
    )
    for slot in (DEVICE, RANDOM_ONLY, LATCHED, AUTHORIZED, OPAQUE, REPLACEABLE):
        element.execute(GENKEY, CREATE, slot)
    write_public(element, PUBLIC, xy(PEER.public_key()))
    write_public(element, PARENT, xy(CITY.public_key()))
    write_slot(element, MAC_KEY, bytes(32))
    element.execute(LOCK, DATA_LOCK)
    return element


def sign(chip: SecureElement, slot: int = DEVICE) -> bytes:
    """Sign the digest from the message digest buffer."""
    chip.execute(NONCE, TO_DIGEST, 0, DIGEST)
    return chip.execute(SIGN, EXTERNAL | BY_DIGEST, slot)


def test_a_private_key_is_made_once() -> None:
    """Before the configuration zone is locked, GenKey always makes a key.

    After the lock, GenKey works only if the slot's rules allow it, and the slot is not locked.
    """
    element = Bench().element
    assert refused(lambda: element.execute(GENKEY, CREATE, DEVICE)) == FORBIDDEN
    configure(element, s6=(0x2081, 0x0033))
    first, second = (element.execute(GENKEY, CREATE, DEVICE) for _ in range(2))
    assert first != second
    element.execute(LOCK, DATA_LOCK)
    assert refused(lambda: element.execute(GENKEY, CREATE, DEVICE)) == FORBIDDEN
    assert element.execute(GENKEY, COMPUTE, DEVICE) == second
    made = element.execute(GENKEY, CREATE, REPLACEABLE)
    element.execute(LOCK, SLOT_LOCK | REPLACEABLE << 2)
    assert refused(lambda: element.execute(GENKEY, CREATE, REPLACEABLE)) == FORBIDDEN
    assert element.execute(GENKEY, COMPUTE, REPLACEABLE) == made


def test_a_signature_is_valid_outside(chip: SecureElement) -> None:
    """Sign reads the digest from either of two registers.

    The signature is valid under the public key that GenKey computes.
    """
    public = chip.execute(GENKEY, COMPUTE, DEVICE)
    assert verifies(public, DIGEST, sign(chip))
    chip.execute(NONCE, TO_TEMP_KEY, 0, DIGEST)
    signature = chip.execute(SIGN, EXTERNAL, DEVICE)
    assert verifies(public, DIGEST, signature)
    with pytest.raises(InvalidSignature):
        verifies(public, sha256(b"other"), signature)


@pytest.mark.parametrize("mode", [EXTERNAL, EXTERNAL | BY_DIGEST])
def test_a_digest_is_signed_once(chip: SecureElement, mode: int) -> None:
    """After a signature, the register with the digest is invalid. Without a digest, the command Sign is refused."""
    assert refused(lambda: chip.execute(SIGN, mode, DEVICE)) == FORBIDDEN
    chip.execute(NONCE, TO_TEMP_KEY, 0, DIGEST)
    chip.execute(NONCE, TO_DIGEST, 0, DIGEST)
    chip.execute(SIGN, mode, DEVICE)
    assert refused(lambda: chip.execute(SIGN, mode, DEVICE)) == FORBIDDEN


def test_a_random_nonce_is_not_signed_as_a_message(chip: SecureElement) -> None:
    """Sign refuses a TempKey that the host did not supply."""
    chip.execute(NONCE, 0, 0, bytes(20))
    assert refused(lambda: chip.execute(SIGN, EXTERNAL, DEVICE)) == FORBIDDEN


@pytest.mark.parametrize("slot", [PUBLIC, MAC_KEY])
def test_only_private_keys_sign(chip: SecureElement, slot: int) -> None:
    """For a slot that contains other data, Sign and GenKey are refused."""
    assert refused(lambda: sign(chip, slot)) == FORBIDDEN


@pytest.mark.parametrize("rules", [(0x2080, 0x001C), (0x2000, 0x0010), (0x2081, 0x001D)])
def test_genkey_makes_p256_keys_in_private_slots_alone(rules: tuple[int, int]) -> None:
    """GenKey does not change a slot that is not private, or not for P-256."""
    element = Bench().element
    configure(element, s1=rules)
    before = bytes(element.memory.slots[1])
    assert refused(lambda: element.execute(GENKEY, CREATE, 1)) == FORBIDDEN
    assert element.memory.slots[1] == before


@pytest.mark.parametrize("rules", [(0x8081, 0x001D), (0x8081, 0x0010)])
def test_a_number_in_another_slot_is_not_a_key(rules: tuple[int, int]) -> None:
    """A valid private key signs only if its slot is private and for P-256."""
    element = Bench().element
    configure(element, s1=rules)
    element.memory.slots[1][4:36] = (7).to_bytes(32, "big")
    element.execute(LOCK, DATA_LOCK)
    assert refused(lambda: sign(element, 1)) == FORBIDDEN


@pytest.mark.parametrize(("slot", "rules"), [(8, (0x8000, 0x0011)), (8, (0x8000, 0x001C)), (1, (0x8000, 0x0010))])
def test_a_point_in_another_slot_is_not_a_key(slot: int, rules: tuple[int, int]) -> None:
    """A public key verifies only if its slot has 72 bytes, is public and is for P-256."""
    element = Bench().element
    configure(element, **{f"s{slot}": rules})
    public = xy(PEER.public_key())
    element.memory.slots[slot][:72] = (bytes(4) + public[:32] + bytes(4) + public[32:])[
        : len(element.memory.slots[slot])
    ]
    element.execute(LOCK, DATA_LOCK)
    assert refused(lambda: verify_stored(element, slot, signed(PEER, DIGEST))) == FORBIDDEN


def test_verify_needs_a_configuration() -> None:
    """Until the configuration zone is locked, Verify is refused, even with a key from outside the chip."""
    element = Bench().element
    element.execute(NONCE, TO_DIGEST, 0, DIGEST)
    sent = signed(PEER, DIGEST) + xy(PEER.public_key())
    assert refused(lambda: element.execute(VERIFY, 2 | BY_DIGEST, 4, sent)) == FORBIDDEN


def test_keys_work_after_the_lock_only() -> None:
    """Before the data zone is locked, the command Sign is refused."""
    element = Bench().element
    configure(element)
    element.execute(GENKEY, CREATE, DEVICE)
    assert refused(lambda: sign(element)) == FORBIDDEN
    element.execute(LOCK, DATA_LOCK)
    assert sign(element)


def test_an_empty_slot_is_an_ecc_fault() -> None:
    """A private slot without a key cannot sign. Info(KeyValid) shows this."""
    element = Bench().element
    configure(element)
    element.execute(LOCK, DATA_LOCK)
    assert refused(lambda: sign(element)) == ECC
    assert element.execute(INFO, 1, DEVICE) == bytes(4)


def test_key_valid(chip: SecureElement) -> None:
    """Info(KeyValid) is 1 for a private key and a public key, and 0 for a public key that is not validated."""
    assert [chip.execute(INFO, 1, slot)[0] for slot in (DEVICE, PUBLIC, VALIDATED)] == [1, 1, 0]
    assert refused(lambda: chip.execute(INFO, 1, MAC_KEY)) == FORBIDDEN


def test_a_public_key_can_be_secret(chip: SecureElement) -> None:
    """Without the bit PubInfo the public key of a private key cannot be computed."""
    assert refused(lambda: chip.execute(GENKEY, COMPUTE, OPAQUE)) == FORBIDDEN
    assert sign(chip, OPAQUE)


def test_a_key_can_need_a_random_nonce(chip: SecureElement) -> None:
    """A key with ReqRandom signs only while TempKey contains a random nonce."""
    assert refused(lambda: sign(chip, RANDOM_ONLY)) == FORBIDDEN
    chip.execute(NONCE, 0, 0, bytes(20))
    assert sign(chip, RANDOM_ONLY)


def test_a_key_can_need_the_latch(chip: SecureElement) -> None:
    """A key with PersistentDisable signs only while the persistent latch is set. A power loss clears the latch."""
    assert refused(lambda: sign(chip, LATCHED)) == FORBIDDEN
    chip.core.is_latched = True
    assert sign(chip, LATCHED)
    chip.power_cycle()
    assert refused(lambda: sign(chip, LATCHED)) == FORBIDDEN


def test_a_key_can_need_an_authorization(chip: SecureElement) -> None:
    """A key with ReqAuth signs only after a successful CheckMac with its authorization key, until a CheckMac fails."""
    assert refused(lambda: sign(chip, AUTHORIZED)) == FORBIDDEN
    other = bytes(13)
    response = sha256(bytes(32), DIGEST, bytes(4), bytes(11), SERIAL[8:9], bytes(4), SERIAL[:2], bytes(2))
    chip.execute(CHECKMAC, 0, MAC_KEY, DIGEST + response + other)
    assert sign(chip, AUTHORIZED)
    assert refused(lambda: chip.execute(CHECKMAC, 0, MAC_KEY, DIGEST + bytes(32) + other)) == MISMATCH
    assert refused(lambda: sign(chip, AUTHORIZED)) == FORBIDDEN


@pytest.mark.parametrize(("mode", "load"), [(2, TO_TEMP_KEY), (2 | BY_DIGEST, TO_DIGEST)])
def test_verify_external(chip: SecureElement, mode: int, load: int) -> None:
    """A good signature is accepted.

    Verify returns a mismatch for a signature of another digest or key, and an ECC fault for an invalid point.
    """
    good, public = signed(PEER, DIGEST), xy(PEER.public_key())

    def verify(signature: bytes, public: bytes, param2: int = 4) -> bytes:
        chip.execute(NONCE, load, 0, DIGEST)
        return chip.execute(VERIFY, mode, param2, signature + public)

    assert verify(good, public) == b""
    assert refused(lambda: verify(signed(PEER, sha256(b"other")), public)) == MISMATCH
    assert refused(lambda: verify(good, xy(OTHER_PEER.public_key()))) == MISMATCH
    assert refused(lambda: verify(good, bytes(63) + b"\1")) == ECC
    assert refused(lambda: verify(good, public, 0)) == PARSE
    verify(good, public)
    assert refused(lambda: chip.execute(VERIFY, mode, 4, good + public)) == FORBIDDEN


def test_a_key_can_be_for_statements_alone() -> None:
    """A key signs external messages only if its rules permit this."""
    element = Bench().element
    configure(element, s1=(0x8082, 0x0013))
    element.execute(GENKEY, CREATE, 1)
    element.execute(LOCK, DATA_LOCK)
    assert refused(lambda: sign(element, 1)) == FORBIDDEN


def verify_stored(chip: SecureElement, slot: int, signature: bytes) -> bytes:
    """Verify a signature of the digest with the public key in a slot."""
    chip.execute(NONCE, TO_DIGEST, 0, DIGEST)
    return chip.execute(VERIFY, BY_DIGEST, slot, signature)


def test_verify_stored(chip: SecureElement) -> None:
    """The public key in a slot verifies signatures of its private key. The slot of a private key cannot verify."""
    assert verify_stored(chip, PUBLIC, signed(PEER, DIGEST)) == b""
    assert refused(lambda: verify_stored(chip, PUBLIC, signed(OTHER_PEER, DIGEST))) == MISMATCH
    assert refused(lambda: verify_stored(chip, DEVICE, signed(PEER, DIGEST))) == FORBIDDEN
    assert refused(lambda: verify_stored(chip, 16, signed(PEER, DIGEST))) == PARSE
    assert refused(lambda: verify_stored(chip, PUBLIC, signed(PEER, DIGEST)[:63])) == PARSE


def change_validity(
    chip: SecureElement,
    *,
    invalidate: bool = False,
    mode: int = 3,
    signer: ec.EllipticCurvePrivateKey = CITY,
    slot: int = VALIDATED,
) -> bytes:
    """Validate (mode 3) or invalidate (mode 7) the key of `OTHER_PEER` by a signing chip's signed statement."""
    temp_key = sha256(
        DIGEST, b"\x40\x10" + bytes((VALIDATED, 0)), SERIAL[8:9], SERIAL[:2], bytes(25), xy(OTHER_PEER.public_key())
    )
    first = bytes((invalidate, PARENT, 0, 0x0C, 0x10, 0x12, 0, 0x50 | VALIDATED, 0, 0))
    last = bytes((0, 0, 1, invalidate, 0))
    message = sha256(temp_key, b"\x41", first, SERIAL[8:9], bytes(4), SERIAL[:2], last)
    chip.execute(NONCE, TO_TEMP_KEY, 0, DIGEST)
    chip.execute(GENKEY, 0x10, VALIDATED, bytes((0x10, VALIDATED, 0)))
    return chip.execute(VERIFY, mode, slot, signed(signer, message) + first + bytes(4) + last)


def test_a_public_key_is_validated_and_invalidated(chip: SecureElement) -> None:
    """A written public key can be used after its parent key has signed it.

    The public key cannot be used after it is written again or invalidated.
    """
    write_public(chip, VALIDATED, xy(OTHER_PEER.public_key()))
    good = signed(OTHER_PEER, DIGEST)
    assert refused(lambda: verify_stored(chip, VALIDATED, good)) == FORBIDDEN
    assert refused(lambda: change_validity(chip, signer=OTHER_PEER)) == MISMATCH
    assert refused(lambda: change_validity(chip, slot=PUBLIC)) == FORBIDDEN
    assert refused(lambda: verify_stored(chip, VALIDATED, good)) == FORBIDDEN
    change_validity(chip)
    assert verify_stored(chip, VALIDATED, good) == b""
    write_slot(chip, VALIDATED, b"\x50\0\0\0" + xy(OTHER_PEER.public_key())[:28])
    assert refused(lambda: verify_stored(chip, VALIDATED, good)) == FORBIDDEN
    change_validity(chip)
    assert refused(lambda: change_validity(chip, mode=7)) == FORBIDDEN
    assert refused(lambda: change_validity(chip, invalidate=True)) == FORBIDDEN
    assert verify_stored(chip, VALIDATED, good) == b""
    change_validity(chip, invalidate=True, mode=7)
    assert refused(lambda: verify_stored(chip, VALIDATED, good)) == FORBIDDEN


@pytest.mark.parametrize(
    ("rules", "is_locked"), [((0x1000 | PARENT, 0x0010), False), ((0x1000 | PARENT, 0x0032), True)]
)
def test_what_is_not_validated(rules: tuple[int, int], is_locked: bool) -> None:  # noqa: FBT001
    """Verify cannot validate or invalidate a key that needs no validation, or whose slot is locked."""
    element = Bench().element
    configure(element, s11=rules)
    write_public(element, PARENT, xy(CITY.public_key()))
    write_public(element, VALIDATED, xy(OTHER_PEER.public_key()))
    element.execute(LOCK, DATA_LOCK)
    if is_locked:
        element.execute(LOCK, SLOT_LOCK | VALIDATED << 2)
    assert refused(lambda: change_validity(element)) == FORBIDDEN


def test_a_validation_is_for_one_slot() -> None:
    """The signature that validates a key does not validate the same key in another slot."""
    element = Bench().element
    configure(element, s13=(0x1000 | PARENT, 0x0012))
    write_public(element, PARENT, xy(CITY.public_key()))
    for slot in (VALIDATED, 13):
        write_public(element, slot, xy(OTHER_PEER.public_key()))
    element.execute(LOCK, DATA_LOCK)
    assert refused(lambda: change_validity(element, slot=13)) == FORBIDDEN
    change_validity(element)
    assert [element.execute(INFO, 1, slot)[0] for slot in (VALIDATED, 13)] == [1, 0]


@pytest.mark.parametrize("with_serial", [0, 0x40])
def test_the_chip_signs_a_statement_about_its_key(chip: SecureElement, with_serial: int) -> None:
    """A signature by Sign(Internal) covers the key's digest, its rules and the chip's serial number."""
    chip.execute(NONCE, TO_TEMP_KEY, 0, DIGEST)
    public = chip.execute(GENKEY, 0x08, DEVICE)
    temp_key = sha256(DIGEST, bytes((0x40, 0x08, DEVICE, 0)), SERIAL[8:9], SERIAL[:2], bytes(25), public)
    middle, end = (SERIAL[4:8], SERIAL[2:4]) if with_serial else (bytes(4), bytes(2))
    rules = bytes.fromhex("8380 3300")
    statement = bytes((0x41, with_serial, DEVICE, 0)) + rules + bytes((0x50, 0, 0)) + SERIAL[8:9] + middle
    signature = chip.execute(SIGN, INTERNAL | with_serial, DEVICE)
    assert verifies(public, sha256(temp_key, statement, SERIAL[:2], end, b"\1\0\0"), signature)


def test_internal_statements_need_a_digest_and_the_permission(chip: SecureElement) -> None:
    """Sign(Internal) is refused if TempKey lacks GenKey's digest, or if the key lacks the permission."""
    chip.execute(NONCE, TO_TEMP_KEY, 0, DIGEST)
    assert refused(lambda: chip.execute(SIGN, INTERNAL, DEVICE)) == FORBIDDEN
    chip.execute(NONCE, TO_TEMP_KEY, 0, DIGEST)
    chip.execute(GENKEY, 0x08, REPLACEABLE)
    assert refused(lambda: chip.execute(SIGN, INTERNAL, REPLACEABLE)) == FORBIDDEN


@pytest.mark.parametrize(
    ("opcode", "mode", "param2", "sent"),
    [
        (GENKEY, 0x02, DEVICE, b""),
        (GENKEY, CREATE, 16, b""),
        (GENKEY, 0x10, PUBLIC, b"ab"),
        (SIGN, EXTERNAL, DEVICE, b"x"),
        (VERIFY, 3 | BY_DIGEST, VALIDATED, bytes(83)),
        (SIGN, EXTERNAL | 2, DEVICE, b""),
        (SIGN, EXTERNAL | 1, DEVICE, b""),
        (SIGN, EXTERNAL, 16, b""),
        (VERIFY, 1, PUBLIC, bytes(64)),
        (VERIFY, 0x80, PUBLIC, bytes(64)),
    ],
)
def test_wrong_parameters(chip: SecureElement, opcode: int, mode: int, param2: int, sent: bytes) -> None:
    """A command with a wrong mode, slot or length is a parse error."""
    assert refused(lambda: chip.execute(opcode, mode, param2, sent)) == PARSE
