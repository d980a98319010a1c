"""BlockOTA finds the link address of a program that GCC compiled, and reports a wrong load address."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from blockota.formats.vector_table import find_link_address

BASE = 0x0800_0000
START = """
typedef unsigned u; extern u stack_top, bss_start, bss_end; volatile u ticks;
void unused(void) { for (;;); }
void tick(void) { ticks++; }
void uart(void) { *(volatile u *)0x40004400 = ticks; }
void timer(void) { ticks ^= *(volatile u *)0x40000000; }
int main_(void);
void reset_handler(void) { for (volatile u *p = &bss_start; p < &bss_end;) *p++ = 0; main_(); for (;;); }
#define U8 unused, unused, unused, unused, unused, unused, unused, unused
__attribute__((section(".vectors"), used)) const void *vectors[] = {
  &stack_top, reset_handler, U8, unused, unused, unused, unused, unused, tick, U8, U8, uart, timer, U8, U8 };
"""
LINKER = """
MEMORY { FLASH (rx) : ORIGIN = %#x, LENGTH = 512K  RAM (rwx) : ORIGIN = 0x20000000, LENGTH = 20K }
stack_top = ORIGIN(RAM) + LENGTH(RAM);
SECTIONS {
  .text : { KEEP(*(.vectors)) %s . = ALIGN(4); } > FLASH
  .bss (NOLOAD) : { bss_start = .; *(.bss*) *(COMMON) . = ALIGN(4); bss_end = .; } > RAM
  /DISCARD/ : { *(.note*) *(.comment*) *(.ARM.*) }
}
"""


def body() -> str:
    """Return C source code with many functions."""
    lines = ["typedef unsigned u; volatile u sink;"]
    lines += [
        f"__attribute__((noinline)) u f{number}(u a, u b) {{ for (u i = 0; i < b; i++) {{ "
        f"a = a * {0x9E3779B1 * (number + 3) & 0x7FFFFFFF}u + (b >> {number % 7 + 1}); sink ^= a; "
        f"if (a & {1 << number % 31}u) b ^= a >> {number % 29 + 1}; }} return a ^ b; }}"
        for number in range(150)
    ]
    calls = "".join(f"a ^= f{number}(a, {number});" for number in range(150))
    lines.append('static const char text[] = "text of the program";')
    lines.append(f"int main_(void) {{ u a = 1; {calls} for (;;) sink += text[a % sizeof text]; }}")
    return "\n".join(lines)


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m3", "cortex-m7"])
@pytest.mark.parametrize("level", ["-Os", "-O2", "-O0"])
@pytest.mark.parametrize("shape", ["start first", "start last", "constants first"])
def test_a_compiled_program_shows_its_address(tmp_path: Path, core: str, level: str, shape: str) -> None:
    """A program is accepted at the address for which it was linked, and reported at any other address."""
    (tmp_path / "start.c").write_text(START)
    (tmp_path / "main.c").write_text(body())
    order = ["main.c", "start.c"] if shape == "start last" else ["start.c", "main.c"]
    sections = "*(.rodata*) *(.text*)" if shape == "constants first" else "*(.text*) *(.rodata*)"
    for address in (BASE, BASE + 0x2000, BASE + 0x7000):
        (tmp_path / "x.ld").write_text(LINKER % (address, sections))
        flags = [f"-mcpu={core}", "-mthumb", level, "-ffreestanding", "-nostdlib", "-nostartfiles", "-w"]
        command = ["arm-none-eabi-gcc", *flags, "-T", "x.ld", "-Wl,--build-id=none", *order, "-lgcc", "-o", "x.elf"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        subprocess.run(["arm-none-eabi-objcopy", "-O", "binary", "x.elf", "x.bin"], cwd=tmp_path, check=True)
        image = (tmp_path / "x.bin").read_bytes()
        assert find_link_address(image, address) is None
        found = find_link_address(image, BASE)
        assert bool(found) == (address != BASE)
        assert not found or found.address == address or (found.address > address and not found.is_certain)
