"""Build the programs of ``device/`` reproducibly into ``device/images``: ``make device``.

A program is compiled by Debian's gcc-arm-none-eabi. Images for slot 0 are then signed by ``imgtool`` (`make peers`
installs it) with keys that exist for tests only. An ECDSA signature by imgtool would differ in each run. This script
therefore computes a deterministic signature (RFC 6979), and imgtool stores this signature in the image. With
``--check`` nothing is written, and the exit status is 1 if a committed file differs.
"""

from __future__ import annotations

import argparse
import base64
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from scripts.peers import PACKAGES

DEVICE = Path(__file__).resolve().parent.parent / "device"
IMAGES = DEVICE / "images"
TOOLS = "arm-none-eabi-"
C_FLAGS = (
    *("-std=c11", "-Os", "-flto", "-ffreestanding", "-fno-ident", "-fno-tree-loop-distribute-patterns"),
    *("-fno-schedule-insns2", "-fno-inline-functions-called-once", "-fno-tree-tail-merge", "-fno-ipa-cp"),
    *("-fno-tree-loop-im", "-fno-early-inlining"),
    *("-ffunction-sections", "-fdata-sections", "-Wall", "-Wextra", "-Werror"),
)
HOST_FLAGS = ("-std=c11", "-O1", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror")
KIB = 1024
HEADER_SIZE = 0x200
CORES = {"stm32f103": "cortex-m3", "microbit": "cortex-m0"}
SLOTS = {"stm32f103": (0x0800_1000, 0x7000), "microbit": (0x4000, 0x1A000), "host": (0x1000, 0x1000)}
"""The address of slot 0, which programs are linked for, and the size of a slot."""

LOADER = tuple(f"loader/{name}.c" for name in ("bytes", "sha256", "image", "state", "swap", "loader", "functions"))
CHIP = tuple(f"secure_element/{name}.c" for name in ("atecc608", "image_check"))
TEST_IMAGE = ("test_image/main.c", *(f"loader/{name}.c" for name in ("bytes", "sha256", "image", "state")))
AGENT = (
    *(f"agent/{name}.c" for name in ("main", "serial_line", "cbor", "smp", "os_group", "image_group", "device_group")),
    *("agent/slot_writer.c", "agent/delta.c", "agent/delta_command.c", "agent/event_log.c"),
    *("agent/loader_calls.c", "loader/memory.c"),
)
CORTEX_M = tuple(f"ports/cortex_m/{name}.c" for name in ("image_start", "reset"))
STM32F103_LOADER = (
    *("ports/stm32f103/loader_start.c", "ports/cortex_m/reset.c", "ports/stm32f103/flash.c"),
    *("ports/stm32f103/clock.c", "loader/memory.c"),
)
STM32F103_IMAGE = (*CORTEX_M, "ports/stm32f103/uart.c", "ports/stm32f103/clock.c")
MICROBIT_LOADER = (
    "ports/microbit/loader_start.c",
    "ports/cortex_m/reset.c",
    "ports/microbit/flash.c",
    "loader/memory.c",
)
STM32F103_AGENT = (*STM32F103_IMAGE, "agent/chip.c", "agent/session.c")
MICROBIT_AGENT = (*CORTEX_M, "ports/microbit/uart.c", "agent/no_chip.c")


@dataclass(frozen=True, kw_only=True)
class ImageSignature:
    """How imgtool signs an image.

    Attributes:
        version: the version in the image header.
        counter: the security counter; None for an image without a counter.
        key: the name of the key file in ``device/images``; "" for an unsigned image.
        load_address: the address in the image header; 0 selects the address of slot 0.
    """

    version: str
    counter: int | None = 1
    key: str = "test-only-key.pem"
    load_address: int = 0


@dataclass(frozen=True, kw_only=True)
class DeviceProgram:
    """A program of the device.

    Attributes:
        port: the folder in ``device/ports``.
        sources: the C files, relative to ``device``.
        linker: the name of the linker script in the folder of the port.
        limit: the maximum size in bytes, without header and signature.
        macros: definitions for the compiler, each ``NAME`` or ``NAME=VALUE``.
        signature: the parameters of the signature; None for a loader, which is not signed.
    """

    port: str
    sources: tuple[str, ...]
    linker: str
    limit: int
    macros: tuple[str, ...] = ()
    signature: ImageSignature | None = None


def _test_image(signature: ImageSignature, *macros: str) -> DeviceProgram:
    """Return a test image that prints its version."""
    return DeviceProgram(
        port="stm32f103",
        sources=(*TEST_IMAGE, *STM32F103_IMAGE, "ports/stm32f103/flash.c", "loader/memory.c"),
        linker="image.ld",
        limit=4 * KIB,
        macros=(f'VERSION="{signature.version}"', *macros),
        signature=signature,
    )


def _agent(port: str, version: str, *macros: str) -> DeviceProgram:
    """Return the agent for a board. The minor version is compiled into the agent."""
    return DeviceProgram(
        port=port,
        sources=(*AGENT, *(MICROBIT_AGENT if port == "microbit" else STM32F103_AGENT)),
        linker="image.ld",
        limit=8 * KIB,
        macros=(f"AGENT_MINOR={version.split('.')[1]}", *macros),
        signature=ImageSignature(version=version),
    )


PROGRAMS = {
    "stm32f103-loader": DeviceProgram(
        port="stm32f103",
        sources=(*LOADER, "loader/no_secure_element.c", *STM32F103_LOADER),
        linker="loader.ld",
        limit=4 * KIB,
    ),
    "stm32f103-loader-faulty": DeviceProgram(
        port="stm32f103",
        sources=(*LOADER, "loader/no_secure_element.c", *STM32F103_LOADER),
        linker="loader.ld",
        limit=4 * KIB,
        macros=("FAULT_DIGEST_DURING_SWAP",),
    ),
    "stm32f103-loader-chip": DeviceProgram(
        port="stm32f103",
        sources=(*LOADER, *CHIP, *STM32F103_LOADER, "ports/stm32f103/i2c.c"),
        linker="loader.ld",
        limit=4 * KIB,
        macros=("HAS_CHIP",),
    ),
    "microbit-loader": DeviceProgram(
        port="microbit",
        sources=(*LOADER, "loader/no_secure_element.c", *MICROBIT_LOADER),
        linker="loader.ld",
        limit=4 * KIB,
    ),
    "microbit-agent-1.0.0": _agent("microbit", "1.0.0"),
    "microbit-agent-1.1.0": _agent("microbit", "1.1.0"),
    "stm32f103-agent-1.0.0": _agent("stm32f103", "1.0.0"),
    "stm32f103-agent-1.1.0": _agent("stm32f103", "1.1.0"),
    "stm32f103-test-1.0.0": _test_image(ImageSignature(version="1.0.0")),
    "stm32f103-test-1.1.0": _test_image(ImageSignature(version="1.1.0")),
    "stm32f103-test-1.2.0": _test_image(ImageSignature(version="1.2.0"), "PADDING=1500"),
    "stm32f103-test-2.0.0": _test_image(ImageSignature(version="2.0.0", counter=2)),
    "stm32f103-test-unsigned": _test_image(ImageSignature(version="3.0.0", key="")),
    "stm32f103-test-foreign": _test_image(ImageSignature(version="3.0.0", key="test-only-foreign-key.pem")),
    "stm32f103-test-other-board": _test_image(ImageSignature(version="3.0.0", load_address=0x4000)),
}
"""The programs by name; ``device/images/NAME.bin`` is the built file. The loader named faulty has a known error, which
the power-cut campaign must find."""


def main(arguments: list[str] | None = None) -> int:
    """Write the programs, or compare them; return 1 if a program differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare only, and exit with 1 if a file differs")
    check = parser.parse_args(arguments).check
    status = 0
    for name in PROGRAMS:
        built, committed = build(name), IMAGES / f"{name}.bin"
        if committed.is_file() and committed.read_bytes() == built:
            continue
        if check:
            print(f"{committed.name} differs from its source. Run `make device`.", file=sys.stderr)
            status = 1
            continue
        committed.write_bytes(built)
        print(f"Wrote {committed.name}, {len(built)} bytes.")
    return status


def build(name: str) -> bytes:
    """Return the bytes of a program, which is signed if it is an image for a slot.

    Raises:
        ValueError: the program is larger than its limit.
        subprocess.CalledProcessError: a tool failed; the tool has printed the reason.
    """
    program = PROGRAMS[name]
    with TemporaryDirectory() as folder:
        raw = Path(folder, "program.bin")
        compile_program(program, raw)
        size = raw.stat().st_size
        if size > program.limit:
            raise ValueError(f"{name} has {size} bytes, {program.limit} are allowed")
        return sign(raw, program.port, program.signature) if program.signature else raw.read_bytes()


def compile_program(program: DeviceProgram, target: Path) -> None:
    """Compile and link a program, and write its bytes to `target`.

    The ELF file gets the name of `target` with the suffix ``.elf``.
    """
    elf, port = target.with_suffix(".elf"), DEVICE / "ports" / program.port
    _run(
        *(f"{TOOLS}gcc", f"-mcpu={CORES[program.port]}", "-mthumb", *C_FLAGS, "-nostdlib"),
        *(f"-D{macro}" for macro in program.macros),
        *(f"-I{folder}" for folder in (DEVICE / "loader", DEVICE / "agent", DEVICE / "secure_element", port)),
        *("-T", str(port / program.linker), "-Wl,--build-id=none,--gc-sections,--fatal-warnings"),
        *(str(DEVICE / source) for source in program.sources),
        *("-lgcc", "-o", str(elf)),
    )
    _run(f"{TOOLS}objcopy", "-O", "binary", str(elf), str(target))


def sign(raw: Path, port: str, signature: ImageSignature) -> bytes:
    """Add a header, a digest and a signature to a program with imgtool, and return the image."""
    vector, fixed, public, image = (raw.with_suffix(suffix) for suffix in (".vector", ".sig", ".pem", ".signed"))
    address, size = SLOTS[port]
    command = [
        *(str(PACKAGES / "imgtool"), "sign", "--header-size", hex(HEADER_SIZE), "--pad-header", "--align", "4"),
        "--overwrite-only",  # MCUboot's own way to exchange slots needs room at the end of a slot, ours does not
        *("--slot-size", hex(size), "--version", signature.version),
        *("--rom-fixed", hex(signature.load_address or address)),
    ]
    if signature.counter is not None:
        command += ["--security-counter", str(signature.counter)]
    if signature.key:
        # (1) imgtool writes what is to be signed, (2) it is signed, (3) imgtool adds the signature.
        _run(*command, "--vector-to-sign", "payload", str(raw), str(vector))
        key = serialization.load_pem_private_key((IMAGES / signature.key).read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - committed keys
        signed = key.sign(vector.read_bytes(), ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        fixed.write_bytes(base64.b64encode(signed))
        pem, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        public.write_bytes(key.public_key().public_bytes(pem, form))
        command += ["--fix-sig", str(fixed), "--fix-sig-pubkey", str(public)]
    _run(*command, str(raw), str(image))
    return image.read_bytes()


def build_host(target: Path, *macros: str, has_chip: bool = False) -> None:
    """Compile the loader for this computer, as a shared library with its flash in memory (``device/ports/host``).

    Args:
        target: the library.
        macros: definitions for the compiler.
        has_chip: whether the loader uses a secure element; the caller supplies four functions that simulate its bus.
    """
    port = DEVICE / "ports" / "host"
    sources = [DEVICE / source for source in (*LOADER, *(CHIP if has_chip else ()))]
    sources += [port / "bus.c"] if has_chip else []
    folders = (DEVICE / "loader", DEVICE / "secure_element", port)
    macros += ("HOST_HAS_CHIP",) if has_chip else ()
    options = [*(f"-D{macro}" for macro in macros), *(f"-I{folder}" for folder in folders)]
    _run("gcc", *HOST_FLAGS, *options, str(port / "host.c"), *map(str, sources), "-o", str(target))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
