"""The chip table is compared with the tables of other projects."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import compare_chips
from scripts.compare_chips import Row, differences, main, our_rows, probe_rs_rows, stm32flash_rows, stm32loader_rows

DEV_TABLE = """
#define SZ_1K 0x00000400
#define SZ_2K 0x00000800
static uint32_t p_1k[]   = { SZ_1K,   0 };
const stm32_dev_t devices[] = {
	/* ID   "name" */
	{0x410, "STM32, medium", 0x20000200, 0x20005000, 0x08000000, 0x08020000, 4, p_1k, 0x1F, 0x1F, 0x1E, 0x1F, 0},
/*	{0x483, "commented out", 0x20004100, 0x20020000, 0x80000000, x, x, x, x, x, 0x1F, 0x1F, 0}, */
	{ /* sentinel */ }
};
"""
DEVICES = """
DEVICE_DETAILS = [
    DeviceInfo("F1", "one", 0x410, None, ram=(0x20000200, 0x20005000), flash=(0x08000000, 0x08020000, 1 * kB, 4)),
    DeviceInfo("F1", "one again", pid=0x410, bid=1, ram=((0x10000000, 0x10001000), (0x20000400, 0x20005000))),
    DeviceInfo("F4", "two", 0x413, 1, ram=None, flash=(0x08000000, 0x08100000, Flash.F2_F4_PAGE_SIZE)),
]
"""
TARGETS = """
variants:
- name: STM32F103C8
  memory_map:
  - !Nvm
    range: {start: 0x8000000, end: 0x8010000}
  - !Ram
    range: {start: 0x20000000, end: 0x20004000}
  - !Ram
    range: {start: 0x20004000, end: 0x20005000}
- name: STM32F103CB
  memory_map:
  - !Nvm
    range: {start: 0x8000000, end: 0x8020000}
- name: STM32F999
  memory_map: []
"""
OURS = """
[[chip]]
id = 0x410
parts = 'F103.[8B]'
flash_kib = 128
erase_units = [[128, 1024]]
free_ram = [0x20000200, 0x20005000]
ram = [[0x20000000, 0x20005000]]
"""
EQUAL = Row(0x0802_0000, (1024,), (0x2000_0200, 0x2000_5000))


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Write small tables of each project, and return the arguments that name them."""
    (tmp_path / "dev_table.c").write_text(DEV_TABLE)
    (tmp_path / "devices.py").write_text(DEVICES)
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "STM32F1_Series.yaml").write_text(TARGETS)
    (tmp_path / "chips.toml").write_text(OURS)
    monkeypatch.setattr(compare_chips, "TABLE", tmp_path / "chips.toml")
    monkeypatch.setattr(compare_chips, "RESULT", tmp_path / "chips.md")
    monkeypatch.setattr(compare_chips, "CLONE", tmp_path)
    names = {"--stm32flash": tmp_path, "--stm32loader": tmp_path / "devices.py", "--probe-rs": tmp_path}
    return [str(word) for pair in names.items() for word in pair]


def test_the_rows_of_stm32flash_are_read() -> None:
    """Rows of `dev_table.c` are read, and rows in comments are left out."""
    assert stm32flash_rows(DEV_TABLE) == {0x410: EQUAL}


def test_the_rows_of_stm32loader_are_read() -> None:
    """Of several rows with one chip id, the free RAM is the RAM that is free in all of them."""
    rows = stm32loader_rows(DEVICES)
    assert rows[0x410] == Row(0x0802_0000, (1024,), (0x2000_0400, 0x2000_5000))
    assert rows[0x413] == Row(0x0810_0000, (16384,) * 4 + (65536, 131072))


def test_the_targets_of_probe_rs_are_read(sources: list[str]) -> None:
    """Of several parts with one chip id, the values of the largest part are used.

    Adjacent ranges of RAM become one range.
    """
    rows = probe_rs_rows(Path(sources[1]), {0x410: "F103.[8B]", 0x411: "F2"})
    assert rows == {0x410: Row(flash_end=0x0802_0000, ram=((0x2000_0000, 0x2000_5000),))}


@pytest.mark.parametrize(
    ("theirs", "fields"),
    [
        (EQUAL, []),
        (Row(), []),
        (Row(0x0801_0000, (2048,), (0x2000_0300, 0x2000_5000), ()), ["flash_kib", "erase_units", "free_ram", "ram"]),
    ],
)
def test_differences_are_found(theirs: Row, fields: list[str]) -> None:
    """Each value that both chip tables contain is compared."""
    found = differences(our_rows(OURS), {0x410: theirs}, "theirs")
    assert [one.field for one in found] == fields


def test_an_unexplained_difference_fails(
    sources: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit status is 1 if a difference has no explanation, or an explanation has no difference."""
    key = (0x410, "free_ram", "stm32loader")
    monkeypatch.setattr(compare_chips, "EXPLAINED", {})
    assert main(sources) == 1
    assert "0x410 free_ram: stm32loader differs, without an explanation" in capsys.readouterr().err
    monkeypatch.setattr(compare_chips, "EXPLAINED", {key: "one row leaves less"})
    assert main(sources) == 0
    assert "one row leaves less" in compare_chips.RESULT.read_text()
    monkeypatch.setattr(compare_chips, "EXPLAINED", {key: "one row leaves less", (0x410, "ram", "probe-rs"): "?"})
    assert main(sources) == 1


def test_the_committed_result_belongs_to_the_chip_table() -> None:
    """The committed result counts the rows of the chip table, and explains every difference."""
    text = compare_chips.RESULT.read_text("utf-8")
    assert f"\n`chips.toml` has {len(our_rows(compare_chips.TABLE.read_text('utf-8')))} product ids." in text
    assert "NOT EXPLAINED" not in text
