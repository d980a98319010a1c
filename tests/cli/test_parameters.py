"""The command line converts valid arguments to typed values, and refuses malformed arguments."""

from __future__ import annotations

import time

import click
import pytest

from blockota.cli.parameters import DURATION, ENTRY, INTERVAL, NUMBER, REGION, SIZE, TIME, VERSION, spelled
from blockota.model.release import Region, Version


@pytest.mark.parametrize(
    ("kind", "word", "value"),
    [
        (VERSION, "1.4.0", Version(1, 4, 0)),
        (VERSION, Version(1, 4, 0), Version(1, 4, 0)),
        (NUMBER, "0x410", 0x410),
        (NUMBER, "1040", 1040),
        (NUMBER, "0", 0),
        (NUMBER, "0xffffffff", 0xFFFF_FFFF),
        (REGION, "0x08000000:64K", Region(0x0800_0000, 1 << 16)),
        (REGION, "0x0:1", Region(0, 1)),
        (REGION, "0x08000000:1M", Region(0x0800_0000, 1 << 20)),
        (REGION, "0xffff0000:65536", Region(0xFFFF_0000, 1 << 16)),
        (REGION, "0x08000000:0x8000", Region(0x0800_0000, 1 << 15)),
        (REGION, "0x08000000:64KiB", Region(0x0800_0000, 1 << 16)),
        (SIZE, "0", 0),
        (SIZE, "1024", 1024),
        (SIZE, "0x400", 1024),
        (SIZE, "0X1F", 31),
        (SIZE, "64K", 1 << 16),
        (SIZE, "64k", 1 << 16),
        (SIZE, "64KiB", 1 << 16),
        (SIZE, "2M", 1 << 21),
        (SIZE, "4G", 1 << 32),
        (INTERVAL, "1", 1),
        (INTERVAL, "90s", 90),
        (INTERVAL, "10m", 600),
        (INTERVAL, "1d", 86_400),
        (DURATION, "30m", 1800),
        (DURATION, "60", 60),
        (DURATION, "604800", 604_800),
        (DURATION, "+7d", 604_800),
        (DURATION, "9999d", 863_913_600),
        (DURATION, "12h", 43_200),
        (DURATION, "7d", 604_800),
        (DURATION, 604_800, 604_800),
        (TIME, 0, 0),
        (TIME, "2026-12-01T08:00+01:00", 1_796_108_400),
        (TIME, "2026-12-01T07:00Z", 1_796_108_400),
        (TIME, "2026-12-01 07:00:00.9+00:00", 1_796_108_400),
        (ENTRY, "commit=4f2a", ("commit", "4f2a")),
        (ENTRY, "query=a=b", ("query", "a=b")),
        (ENTRY, "empty=", ("empty", "")),
    ],
)
def test_a_word_becomes_a_value(kind: click.ParamType, word: object, value: object) -> None:
    """An argument of the command line is converted to a typed value, and a typed default is kept."""
    assert kind.convert(word, None, None) == value


WRONG_WORDS: tuple[tuple[click.ParamType, str], ...] = (
    *((VERSION, word) for word in ("", "1.4", "v1.4.0", "0.0.0", "1.0." + "9" * 5000)),
    *((NUMBER, word) for word in ("", "x", "-1", "0x100000000", "1.5", "0410", "9" * 5000)),
    *(
        (REGION, word)
        for word in ("", "0x08000000", "0x08000000:0", "8000000:64K", "0x08000000:64KB", "0x08000000:1:1")
    ),
    *((REGION, word) for word in ("0x108000000:1", "0x08000000:64G", "0x08000000:-1", "0xffff0000:65537", ":64K")),
    *((TIME, word) for word in ("", "x", "1.12.2026", "2026-12-01", "2026-12-01T08:00", "1970-01-01T00:00Z", "-7d")),
    *((TIME, word) for word in ("2026-12-01T24:01Z", "10000-01-01T00:00Z", "now", "1796108400")),
    *((ENTRY, word) for word in ("", "commit", "=4f2a", "=")),
    *((SIZE, word) for word in ("", "K", "-1", "1.5K", "64KB", "64 K", "0x", "5G", "9" * 5000)),
    *((DURATION, word) for word in ("", "0d", "7", "59s", "7w", "-7d", "1.5h", "99999d", "d", "7 d", "9" * 5000)),
    *((INTERVAL, word) for word in ("0", "0s", "25h", "86401", "x")),
)


@pytest.mark.parametrize(("kind", "word"), WRONG_WORDS, ids=range(len(WRONG_WORDS)))
def test_a_malformed_word_is_a_usage_error(kind: click.ParamType, word: str) -> None:
    """A malformed argument is refused with status 2, and the error repeats the argument."""
    with pytest.raises(click.BadParameter) as refused:
        kind.convert(word, None, None)
    assert repr(word) in refused.value.message
    assert refused.value.exit_code == 2


def test_a_number_alone_counts_seconds() -> None:
    """If a duration has no unit, the error shows the number in seconds, and the shortest and longest duration."""
    with pytest.raises(click.BadParameter, match="'7' is 7s: write 1m to 9999d, such as 7d"):
        DURATION.convert("7", None, None)
    assert [spelled(seconds) for seconds in (1, 90, 60, 7200, 86_400)] == ["1s", "90s", "1m", "2h", "1d"]


@pytest.mark.parametrize("word", ["+12h", "12h", "+43200"])
def test_a_duration_from_now_is_a_time(word: str) -> None:
    """A time such as ``+12h`` is counted from the clock of this machine."""
    before = int(time.time())
    assert before <= TIME.convert(word, None, None) - 43_200 <= time.time()


def test_other_words_after_a_plus_are_refused() -> None:
    """A time relative to now is displayed as a plus sign and a duration."""
    for word in ("+", "+7w", "+ 7d"):
        with pytest.raises(click.BadParameter, match="not a duration"):
            TIME.convert(word, None, None)
