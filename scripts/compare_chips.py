"""Compare the table of supported chips with the tables of other projects, and write the result.

``python -m scripts.compare_chips --stm32flash FOLDER --stm32loader FILE --probe-rs FOLDER`` reads `dev_table.c` of
stm32flash's source package, `devices.py` of stm32loader, and the folder `targets` of the crate probe-rs. The script
writes ``firmware_host/chips.md``. The exit status is 1 if a difference is missing in `EXPLAINED`, or if `EXPLAINED`
lists a difference that does not exist. Only facts are read from these files: ids, sizes and addresses.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CLONE = Path(__file__).resolve().parent.parent
TABLE = CLONE / "firmware_host" / "chips.toml"
RESULT = CLONE / "firmware_host" / "chips.md"
K = 1024
FLASH_BASE, FLASH_END = 0x0800_0000, 0x0880_0000
"""Other memories that are programmed, such as OTP, begin behind `FLASH_END`."""
LAST_RAM = 0x3900_0000
"""The first address of backup RAM and external memories."""
SRAM = 0x2000_0000
POSITION_OF_ID = 2
ZERO = ast.Constant(0)
F4_BANK = (16 * K,) * 4 + (64 * K,)
NAMED_UNITS: Mapping[str, tuple[int, ...]] = {
    "Flash.F2_F4_PAGE_SIZE": (*F4_BANK, 128 * K),
    "Flash.F4_DUAL_BANK_PAGE_SIZE": (*F4_BANK, *(128 * K,) * 7),
    "Flash.F7_PAGE_SIZE": (*(32 * K,) * 4, 128 * K, 256 * K),
}
"""The first bank of stm32loader's named lists of erase units."""


@dataclass(frozen=True, order=True)
class TableDifference:
    """A value of the chip table that differs from the value in another project's table.

    Attributes:
        product_id: the chip.
        field: the name of the field in the chip table.
        source: the other table.
        ours: the value of the chip table.
        theirs: the value of the other table.
    """

    product_id: int
    field: str
    source: str
    ours: str
    theirs: str


STM32FLASH, STM32LOADER, PROBE_RS = "stm32flash", "stm32loader", "probe-rs"

WHOLE = "the page size depends on an option bit, so our table has the whole flash as one unit, for mass erase only"
LARGER = "newer parts have more flash (probe-rs)"
SMALLER = "readings of AN2606 differ, and ours is the smaller range"
NO_RAM = "their range is not RAM of this chip, or the ROM uses it; BlockOTA runs no program in RAM here"
EXPLAINED: dict[tuple[int, str, str], str] = {
    (0x419, "erase_units", STM32FLASH): "theirs has three sectors of 128 K in the first bank; RM0090 has seven",
    (0x434, "erase_units", STM32FLASH): "theirs has three sectors of 128 K in the first bank; RM0386 has seven",
    (0x434, "free_ram", STM32FLASH): "their range ends after the end of the RAM (probe-rs: 320 KiB)",
    (0x434, "free_ram", STM32LOADER): "their range ends after the end of the RAM (probe-rs: 320 KiB)",
    (0x443, "free_ram", STM32LOADER): NO_RAM,
    (0x447, "free_ram", STM32LOADER): SMALLER,
    (0x451, "erase_units", STM32FLASH): WHOLE,
    (0x451, "erase_units", STM32LOADER): WHOLE,
    (0x455, "free_ram", STM32LOADER): "their range ends after the end of the RAM (probe-rs: 256 KiB)",
    (0x456, "free_ram", STM32FLASH): SMALLER,
    (0x464, "free_ram", STM32LOADER): SMALLER,
    (0x469, "erase_units", STM32FLASH): WHOLE,
    (0x469, "erase_units", STM32LOADER): WHOLE,
    (0x470, "erase_units", STM32FLASH): WHOLE,
    (0x470, "erase_units", STM32LOADER): WHOLE,
    (0x470, "flash_kib", STM32FLASH): LARGER,
    (0x470, "flash_kib", STM32LOADER): LARGER,
    (0x471, "erase_units", STM32LOADER): WHOLE,
    (0x472, "erase_units", STM32LOADER): WHOLE,
    (0x480, "flash_kib", STM32LOADER): LARGER,
    (0x481, "ram", PROBE_RS): "0x24000000 is the window of GFXMMU, not RAM",
    (0x484, "free_ram", STM32LOADER): NO_RAM,
    (0x492, "free_ram", STM32LOADER): "their range is what the ROM uses (stm32loader's own reading of AN2606)",
    (0x494, "free_ram", STM32LOADER): NO_RAM,
    (0x494, "ram", PROBE_RS): "SRAM2 is at 0x10000000 too, as on the other WB chips",
    (0x495, "ram", PROBE_RS): "the table has SRAM2 and its alias at 0x10000000 too (stm32-metapac 21)",
}
"""The reason why a difference of ⟨product id, field, source⟩ is accepted."""


@dataclass(frozen=True)
class Row:
    """The facts of one table about one product id; None stands for a fact that the table does not contain.

    Attributes:
        flash_end: the first address after the flash of the largest part.
        units: the sizes of the first erase units in flash order. The last size applies to all further units.
        free_ram: the RAM that the boot ROM leaves free.
        ram: the ranges of RAM, merged.
    """

    flash_end: int | None = None
    units: tuple[int, ...] | None = None
    free_ram: tuple[int, int] | None = None
    ram: tuple[tuple[int, int], ...] | None = None


def our_rows(text: str) -> dict[int, Row]:
    """Return the rows of our chip table."""
    rows = {}
    for chip in tomllib.loads(text)["chip"]:
        units = tuple(size for count, size in chip["erase_units"] for _ in range(count))
        rows[chip["id"]] = Row(
            FLASH_BASE + chip["flash_kib"] * K, units, tuple(chip["free_ram"]), merged(map(tuple, chip["ram"]))
        )
    return rows


def stm32flash_rows(text: str) -> dict[int, Row]:
    """Return the rows of `dev_table.c`, without rows that are commented out."""
    named = {name: int(value, 16) for name, value in re.findall(r"#define (SZ_\w+)\s+(0x[0-9A-Fa-f]+)", text)}
    arrays = {
        name: tuple(named[size.strip()] for size in sizes.split(",") if size.strip() in named)
        for name, sizes in re.findall(r"uint32_t (\w+)\[\]\s*=\s*\{(.*?)\}", text, re.DOTALL)
    }
    rows = {}
    for line in re.findall(r"^\s*\{(0x\w+\s*,.*?)\},?\s*$", text, re.MULTILINE):
        product_id, _, *fields = (field.strip() for field in re.sub(r'"(.*?)"', "name", line).split(","))
        ram = int(fields[0], 16), int(fields[1], 16)
        rows[int(product_id, 16)] = Row(int(fields[3], 16), arrays[fields[5]], ram)
    return rows


def stm32loader_rows(text: str) -> dict[int, Row]:
    """Return the rows of `devices.py`, merged by product id; the free RAM is the intersection of the merged ranges."""
    rows: dict[int, Row] = {}
    for call in ast.walk(ast.parse(text)):
        if not (isinstance(call, ast.Call) and ast.unparse(call.func) == "DeviceInfo"):
            continue
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        product_id = _number(given.get("pid", call.args[2] if len(call.args) > POSITION_OF_ID else ZERO))
        known = rows.get(product_id, Row())

        # The commands of every boot ROM reach the RAM at 0x20000000 only.
        free = next((pair for pair in _pairs(given.get("ram")) if pair[0] >> 24 == SRAM >> 24), None)
        if known.free_ram and free:
            free = max(free[0], known.free_ram[0]), min(free[1], known.free_ram[1])

        end, units = known.flash_end, known.units
        if isinstance(flash := given.get("flash"), ast.Tuple):
            end = max(end or 0, _number(flash.elts[1]))
            units = NAMED_UNITS.get(ast.unparse(flash.elts[2])) or (_number(flash.elts[2]),)
        rows[product_id] = Row(end, units, free or known.free_ram)
    return rows


def probe_rs_rows(folder: Path, parts: Mapping[int, str]) -> dict[int, Row]:
    """Return, for each product id, flash and RAM of the largest parts in the target descriptions.

    Args:
        folder: the folder of the crate, or its subfolder ``targets``.
        parts: by product id, a regular expression that matches the part names after ``STM32``.
    """
    variants = list(_variants(folder))
    rows = {}
    for product_id, pattern in parts.items():
        found = [memory for name, memory in variants if re.match(pattern, name.removeprefix("STM32"))]
        if not found:
            continue
        ends = [
            end for memory in found for kind, start, end in memory if kind == "Nvm" and FLASH_BASE <= start < FLASH_END
        ]
        ram = merged(
            (start, end) for memory in found for kind, start, end in memory if kind == "Ram" and start < LAST_RAM
        )
        rows[product_id] = Row(flash_end=max(ends), ram=ram)
    return rows


def differences(ours: Mapping[int, Row], theirs: Mapping[int, Row], source: str) -> Iterator[TableDifference]:
    """Yield each value that differs between two tables; values that one table lacks are not compared."""
    for product_id, row in sorted(ours.items()):
        other = theirs.get(product_id, Row())
        for field, mine, its in (
            ("flash_kib", row.flash_end, other.flash_end),
            ("erase_units", _padded(row.units, other.units), other.units),
            ("free_ram", row.free_ram, other.free_ram),
            ("ram", row.ram, other.ram),
        ):
            if its is not None and mine != its:
                yield TableDifference(product_id, field, source, shown(mine, field), shown(its, field))


def report(rows: Mapping[int, Row], others: Mapping[str, Mapping[int, Row]], found: Iterable[TableDifference]) -> str:
    """Return the text of ``firmware_host/chips.md``."""
    lines = [
        "# The chip table compared with the tables of other projects",
        "",
        "Written by `python -m scripts.compare_chips` from stm32flash 0.7 (`dev_table.c` of Debian's source package),",
        "stm32loader (`devices.py`, commit 0567d0e) and the target descriptions of the crate probe-rs 0.32.0.",
        "",
        f"`chips.toml` has {len(rows)} product ids. The first table counts the compared values, and the second table",
        "lists the differences:",
        "",
        "| table | ids in both | values compared | different |",
        "| --- | --- | --- | --- |",
    ]
    found = sorted(found)
    for source, table in others.items():
        both = rows.keys() & table.keys()
        values = sum(value is not None for product_id in both for value in vars(table[product_id]).values())
        lines.append(f"| {source} | {len(both)} | {values} | {sum(one.source == source for one in found)} |")
    lines += ["", "| id | field | ours | table | theirs | why ours |", "| --- | --- | --- | --- | --- | --- |"]
    for one in found:
        why = EXPLAINED.get((one.product_id, one.field, one.source), "NOT EXPLAINED")
        lines.append(f"| 0x{one.product_id:03X} | {one.field} | {one.ours} | {one.source} | {one.theirs} | {why} |")
    absent = {source: sorted(table.keys() - rows.keys()) for source, table in others.items()}
    lines += ["", "Product ids that are in the table of another project, but not in `chips.toml`:", ""]
    lines += [f"- {source}: {', '.join(f'0x{one:03X}' for one in ids) or 'none'}" for source, ids in absent.items()]
    lines += [
        "",
        "0x003, 0x00F, 0x023 and 0x02F are BlueNRG chips, and 0x801 is Wiznet's W7500. These chips are not",
        "STM32 chips, and no table has their memory maps.",
        "",
    ]
    return "\n".join(lines)


def merged(ranges: Iterable[tuple[int, ...]]) -> tuple[tuple[int, int], ...]:
    """Return the ranges in ascending order; ranges that touch or overlap are merged."""
    result: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if result and start <= result[-1][1]:
            result[-1] = result[-1][0], max(end, result[-1][1])
        else:
            result.append((start, end))
    return tuple(result)


def shown(value: object, field: str) -> str:
    """Format a value of a table for readers."""
    if isinstance(value, int):
        return f"{(value - FLASH_BASE) // K} KiB"
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        return ", ".join(shown(pair, field) for pair in value)
    if field == "erase_units" and isinstance(value, tuple):
        return " ".join(f"{size // K} K" if size % K == 0 else f"{size}" for size in value)
    if isinstance(value, tuple):
        return "-".join(f"0x{address:08X}" for address in value)
    return str(value)


def _padded(mine: tuple[int, ...] | None, theirs: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Return our unit sizes in a form that can be compared with `theirs`.

    The result is `theirs` if one list is the beginning of the other. Otherwise the result is our sizes, cut to the
    length of `theirs`.
    """
    if mine is None or theirs is None:
        return None
    first = mine[: len(theirs)]
    return theirs if theirs[: len(first)] == first else first


def _variants(folder: Path) -> Iterator[tuple[str, list[tuple[str, int, int]]]]:
    targets = folder / "targets" if (folder / "targets").is_dir() else folder
    for path in sorted(targets.glob("STM32*.yaml")):
        for variant in yaml.load(path.read_text("utf-8"), _Loader)["variants"]:  # noqa: S506 - a safe loader
            memory = [(kind, one["range"]["start"], one["range"]["end"]) for kind, one in variant["memory_map"]]
            yield variant["name"], memory


class _Loader(yaml.SafeLoader):
    """A YAML loader for the memory tags, such as ``!Nvm``."""


def _tagged(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return suffix, loader.construct_mapping(node, deep=True)
    return suffix


_Loader.add_multi_constructor("!", _tagged)


def _pairs(node: ast.expr | None) -> list[tuple[int, int]]:
    if not isinstance(node, ast.Tuple):
        return []
    pairs = node.elts if isinstance(node.elts[0], ast.Tuple) else [node]
    return [(_number(pair.elts[0]), _number(pair.elts[1])) for pair in pairs if isinstance(pair, ast.Tuple)]


def _number(node: ast.expr) -> int:
    """A number, or a product such as ``2 * kB``."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return _number(node.left) * _number(node.right)
    return K if ast.unparse(node) == "kB" else int(ast.literal_eval(node))


def main(arguments: list[str] | None = None) -> int:
    """Write the result; return 1 if a difference is not explained."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stm32flash", type=Path, required=True, help="folder with dev_table.c")
    parser.add_argument("--stm32loader", type=Path, required=True, help="devices.py")
    parser.add_argument("--probe-rs", type=Path, required=True, help="folder of the unpacked crate")
    given = parser.parse_args(arguments)
    text = TABLE.read_text("utf-8")
    rows = our_rows(text)
    parts = {chip["id"]: chip["parts"] for chip in tomllib.loads(text)["chip"] if "parts" in chip}
    others = {
        STM32FLASH: stm32flash_rows((given.stm32flash / "dev_table.c").read_text("utf-8")),
        STM32LOADER: stm32loader_rows(given.stm32loader.read_text("utf-8")),
        PROBE_RS: probe_rs_rows(given.probe_rs, parts),
    }
    found = [one for source, table in others.items() for one in differences(rows, table, source)]
    RESULT.write_text(report(rows, others, found), "utf-8")
    keys = {(one.product_id, one.field, one.source) for one in found}
    problems = [
        f"0x{key[0]:03X} {key[1]}: {key[2]} differs, without an explanation" for key in sorted(keys - EXPLAINED.keys())
    ]
    problems += [
        f"0x{key[0]:03X} {key[1]}: explained, but {key[2]} does not differ" for key in sorted(EXPLAINED.keys() - keys)
    ]
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"Wrote {RESULT.relative_to(CLONE)}: {len(rows)} product ids, {len(found)} differences.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
