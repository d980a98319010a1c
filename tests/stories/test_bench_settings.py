"""The settings in ``[bench]``: the daily command without options, options that override settings, and refusals."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from serial.tools.list_ports_common import ListPortInfo

from firmware_host.bench.log import read_log
from firmware_host.line import port_names
from firmware_host.simulator import WIRINGS, BoardSide, SimulatedBoard, Wiring, serve_pty, serve_rfc2217, serve_tcp
from tests.stories.benches import APPLICATION, Bench, ends
from tests.stories.conftest import PRODUCT, Workshop, publish_first
from tests.stories.technicians import LOG, OLD, board


def add_bench(*lines: str) -> None:
    """Add ``[bench]`` with these lines to the settings in this folder."""
    path = Path("blockota.toml")
    before = path.read_text().partition("[bench]")[0] if path.exists() else ""
    path.write_text("\n".join([before, "[bench]", *lines, ""]))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    """Return a bench in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Bench(capsys)


def test_flash_alone_is_the_daily_command(workshop: Workshop) -> None:
    """With product, port, wiring and operator in the settings, `blockota flash` needs no option."""
    workshop.after(publish_first)
    one = SimulatedBoard()
    with serve_rfc2217(one, wiring=WIRINGS["dtr-rts"]) as url:
        line = ('wiring = "dtr-rts"', "baud = 115200")
        add_bench(f'product = "{PRODUCT}"', f'port = "{url}"', *line, 'operator = "Ida"')
        outcome = workshop.run("flash", "--json")
    assert outcome.status == 0, outcome.err
    (result,) = outcome.json["results"]
    assert result["started"] == "reset"
    assert "BlockOTA bluepill 1.0.0" in result["banner"]
    assert "The board was reset to start its program." in outcome.err
    assert one.flash.startswith(OLD.read_bytes())
    (record,) = read_log(LOG)
    assert record.fields["operator"] == "Ida"


def test_options_override_the_settings(workshop: Workshop) -> None:
    """An option of `blockota flash` has precedence over the setting of the same name."""
    workshop.after(publish_first)
    one, port = SimulatedBoard(), "socket://127.0.0.1:9"
    add_bench('product = "other"', f'port = "{port}"', 'wiring = "dtr-rts"', 'operator = "Ida"', 'mode = "echo"')
    with serve_tcp(one) as url:
        words = ("--product", PRODUCT, "--port", url, "--wiring", "by-hand", "--mode", "plain", "--operator", "Ole")
        outcome = workshop.run("flash", *words)
    assert outcome.status == 0, outcome.err
    (line,) = read_log(LOG)
    assert line.fields["operator"] == "Ole"


def test_several_ports_are_flashed(workshop: Workshop) -> None:
    """If the settings name several ports, `blockota flash` flashes a board at each port."""
    workshop.after(publish_first)
    with serve_tcp(board(1)) as first, serve_tcp(board(2)) as second:
        add_bench(f'product = "{PRODUCT}"', f'port = ["{first}", "{second}"]')
        outcome = workshop.run("flash", "--json")
    assert outcome.status == 0, outcome.err
    assert [one["port"] for one in outcome.json["results"]] == [first, second]


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ("go", "The bootloader acknowledged the start of the program. The chip was not reset"),
        ("none", "The program was not started: the board is still in its bootloader."),
    ],
)
def test_the_start_is_chosen(workshop: Workshop, start: str, words: str) -> None:
    """The setting ``start`` has precedence over the wiring: ``go`` and ``none`` do not reset the board."""
    workshop.after(publish_first)
    with serve_rfc2217(SimulatedBoard(), wiring=WIRINGS["dtr-rts"]) as url:
        add_bench(f'product = "{PRODUCT}"', f'port = "{url}"', 'wiring = "dtr-rts"', f'start = "{start}"')
        outcome = workshop.run("flash", "--json")
    assert outcome.status == 0, outcome.err
    (result,) = outcome.json["results"]
    assert (result["started"], bool(result["banner"])) == (start, start == "go")
    assert words in outcome.err


def test_a_silent_program_is_not_called_running(workshop: Workshop) -> None:
    """If a program sends nothing after its start, `flash` reports that it is not known whether the program runs."""
    silent = bytearray(OLD.read_bytes())
    start = int.from_bytes(silent[4:8], "little") - 1 - 0x0800_0000
    silent[start : start + 2] = b"\xfe\xe7"  # a branch to itself
    Path("silent.bin").write_bytes(silent)
    workshop.publish("1.0.0", Path("silent.bin"))
    with serve_tcp(SimulatedBoard()) as url:
        outcome = workshop.flash(url)
    assert outcome.status == 0, outcome.err
    assert re.search(r"sent nothing within [\d.]+ s, so it is not known whether it runs", outcome.err)


def test_the_board_commands_use_the_settings(bench: Bench) -> None:
    """`board identify` and `board doctor` use port, wiring and mode of the settings."""
    one = SimulatedBoard()
    one.side = BoardSide("N", half_duplex=True)
    with serve_rfc2217(one, wiring=Wiring(reset="dtr", boot0="rts", invert_boot0=True)) as url:
        add_bench(f'port = "{url}"', 'wiring = "dtr-rts"', "invert_boot0 = true", 'mode = "echo,no-parity"')
        for verb in ("identify", "doctor"):
            outcome = bench.run(verb, "--json")
            assert outcome.status == 0, outcome.err
        # The inversion of the settings belongs to the wiring of the settings.
        assert bench.run("identify", "--wiring", "dtr-rts").status == 4


def test_the_settings_are_read_from_the_named_file(bench: Bench) -> None:
    """`board identify --config FILE` reads ``[bench]`` of that file."""
    with serve_tcp(SimulatedBoard()) as url:
        Path("line-2.toml").write_text(f'[bench]\nport = "{url}"\n')
        assert bench.run("identify", "--config", "line-2.toml").status == 0


def test_the_remedy_of_a_wrong_setting_overrides_it(bench: Bench) -> None:
    """If a setting causes an error, the error names the option that overrides the setting."""
    with serve_tcp(SimulatedBoard()) as url:
        for setting, remedy, words in (
            ('mode = "echo"', "(--mode plain, or --mode LIST without echo)", ("--mode", "plain")),
            ('mode = "rs485"', "(--mode plain, or --mode LIST without rs485)", ("--mode", "plain")),
            ('wiring = "dtr-rts"', "(--wiring by-hand)", ("--wiring", "by-hand")),
        ):
            add_bench(f'port = "{url}"', setting)
            ends(bench.run("identify"), 4, remedy)
            assert bench.run("identify", *words).status == 0


def test_a_port_that_is_set_twice_is_named(workshop: Workshop) -> None:
    """A port that ``[bench]`` contains twice is refused, and the remedy names both places."""
    add_bench(f'product = "{PRODUCT}"', 'port = ["/dev/ttyNONE", "/dev/ttyNONE"]')
    words = ("the port /dev/ttyNONE is named twice", "with --port or in [bench] of blockota.toml")
    ends(workshop.run("flash"), 2, *words)


def test_the_doctor_of_a_wrong_setting_names_the_option(bench: Bench) -> None:
    """If a setting of the mode is wrong, `board doctor` prints the options that override the setting."""
    with serve_tcp(SimulatedBoard()) as url:
        add_bench(f'port = "{url}"', 'mode = "echo"')
        ends(bench.run("doctor"), 4, f"--port {url} --wiring by-hand --baud 115200 --mode plain")
        assert bench.run("doctor", "--mode", "plain").status == 0


REFUSED = {
    'wirings = "dtr"': "unknown setting 'wirings'",
    'wiring = "usb"': "the setting wiring in [bench] cannot be used: 'usb' is not one of",
    'mode = "odd"': "the setting mode in [bench] cannot be used: 'odd' is not one of plain, no-parity, echo, rs485,",
    'mode = "plain,echo"': "the setting mode in [bench] cannot be used: plain and echo exclude each other",
    "mode = 8": "the setting mode in [bench] cannot be used: 8 is not a text in quotes",
    "baud = 7": "the setting baud in [bench] cannot be used: '7' is not a speed",
    'baud = "fast"': "the setting baud in [bench] cannot be used: 'fast' is not a number of bits per second",
    "invert_reset = 1": "the setting invert_reset in [bench] cannot be used: 1 is not true or false",
    "port = []": "the setting port in [bench] cannot be used: [] is not the name of a port",
    "port = [7]": "the setting port in [bench] cannot be used: [7] is not the name of a port",
    'operator = ""': "the setting operator in [bench] cannot be used: its text is empty",
    'wiring = "dtr-rts"\nmode = "rs485"': "RTS cannot switch an RS485 transceiver and drive a pin of the board",
    'wiring = "break"\ninvert_reset = true': "does not use the control line to be inverted",
}


@pytest.mark.parametrize("text", REFUSED)
def test_wrong_settings_are_refused(bench: Bench, text: str) -> None:
    """A wrong key or value in ``[bench]`` is a usage error with the allowed values, before a port is opened."""
    add_bench(*([] if "port" in text else ['port = "/dev/ttyNONE"']), text)
    outcome = bench.run("identify")
    ends(outcome, 2, REFUSED[text])
    assert "ttyNONE cannot be opened" not in outcome.err


def test_a_wrong_start_is_refused(workshop: Workshop) -> None:
    """An unknown value of ``start``, or one that the wiring does not allow, is refused before a port is opened."""
    for text, words in (
        ('start = "boot"', "the setting start in [bench] cannot be used: 'boot' is not one of"),
        ('start = "reset"', "the wiring by-hand cannot start the program by a reset"),
    ):
        add_bench(f'product = "{PRODUCT}"', 'port = "/dev/ttyNONE"', text)
        ends(workshop.run("flash"), 2, words)


def test_bench_is_a_table(bench: Bench) -> None:
    """A setting ``bench`` that is not a table is refused."""
    Path("blockota.toml").write_text('bench = "dtr"\n')
    ends(bench.run("identify", "--port", "/dev/ttyNONE"), 2, "[bench] cannot be used: it is not a table")


def test_a_command_without_a_port_takes_the_only_adapter(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the option `--port`, a command uses the only USB adapter.

    If the machine has no USB adapter or several, the error lists the ports.
    """
    found: list[ListPortInfo] = []
    monkeypatch.setattr(port_names, "comports", lambda: found)
    ends(
        bench.run("identify"), 2, "no USB adapter", "Plug in the board's USB adapter", "--port URL, or port in [bench]"
    )
    assert "This machine has no serial port" in bench.run("ports").out
    found.append(ListPortInfo("/dev/ttyNONE"))
    ends(bench.run("identify"), 2, "this machine has no USB adapter, only /dev/ttyNONE")

    with serve_pty(SimulatedBoard()) as name:
        adapter = ListPortInfo(name)
        adapter.description, adapter.vid = "FT232R USB UART", 0x0403
        found.append(adapter)
        outcome = bench.run("identify")
        assert outcome.status == 0, outcome.err
        assert f"Port {name} (FT232R USB UART), the only USB adapter of this machine." in outcome.err
    (listed, _) = bench.run("ports", "--json").json["ports"]
    assert (listed["port"], listed["adapter"]) == (name, "FT232R USB UART")

    found.append(adapter)
    ends(bench.run("identify"), 2, f"this machine has {name} (FT232R USB UART), {name}", "Name the port of the board")
    ends(bench.run("identify", "--port", "/dev/ttyNONE"), 4, "No such file", "`blockota board ports` lists them")
    add_bench('port = ["/dev/ttyNONE", "/dev/ttyNADA"]')
    ends(bench.run("identify"), 2, "the settings name several ports", "/dev/ttyNONE, /dev/ttyNADA")


def test_a_flashed_board_on_one_wire(workshop: Workshop) -> None:
    """A board on a half-duplex line is flashed, proven and started."""
    workshop.after(publish_first)
    one = SimulatedBoard(flash=APPLICATION)
    one.side = BoardSide(half_duplex=True)
    with serve_tcp(one) as url:
        outcome = workshop.flash(url, "--mode", "echo", "--allow-downgrade", "--replace-unknown", "--json")
    assert outcome.status == 0, outcome.err
    assert one.flash.startswith(OLD.read_bytes())
    assert re.search(r"BlockOTA bluepill 1\.0\.0", outcome.json["results"][0]["banner"])
