"""The sentences that a run of the flasher may print, each with the rule that decides whether it is true.

A sentence of the display, and each clause of an error, must match one pattern completely; the first match counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from benchmarks import fault_rules as rule
from benchmarks.fault_judge import CaseSituation, Rule, SentenceJudge
from benchmarks.fault_scene import NEW_VERSION, PRODUCT

_AT = "(0x[0-9a-f]{8})"
_COMMAND = r"(?:Get(?: Version| Id| Checksum)?|Read Memory|Write Memory|Go|(?:Extended )?Erase)(?: at 0x[0-9a-f]{8})?"
_LINK = "the simulated board"
_NUMBER = r"([\d,]+)"
_PART = rf"{_NUMBER} pages? \({_NUMBER} bytes\)"
_HASH = "([0-9a-f]{64})"
_RESTORED = "(?:connect the first board again, and )?set BOOT0 to 1, reset the board, and "

_STARTED = (
    r"(The program was not started: the board is still in its bootloader\.|"
    r"The board was reset to start its program\.|"
    r"The bootloader acknowledged the start of the program\. The chip was not reset, so its clocks and peripherals "
    r"keep the bootloader's settings\.)"
    r"( The program sent nothing within .* s, so it is not known whether it runs\.|"
    r" Nothing was written, so the bench did not wait for the program's output\.)?"
)
_ADVICE = (
    r"if the board's contents then count as unknown \(a half erased older program\), allow replacing them",
    "if the board stops answering at the same point again, read the flash back instead of hashing it on the chip",
    "if it fails at the same address, the page is worn out: replace the board",
    "if it fails again, (?:read the flash back instead of hashing it on the chip|replace the board)",
    "run the command again(?:, because noise on the line can change the list of commands)?",
    "run the same command again, which changes nothing",
    "otherwise erase the whole flash, which destroys all its contents, and flash the board again",
    "or use a board whose bootloader can read, write and erase",
    "set BOOT0 to 1 and reset the board(?:, then run the command again(?:: its application may be running)?)?",
    "also check the speed and even parity",
    "set BOOT0 to 1, reset the board and run the command again",
    "then check that TX and RX are crossed, .+",
    "check (?:even parity and the common ground|the cable and the speed).*",
    "use a shorter cable or a lower speed.*",
    "connect the first board again, reset it with BOOT0 at 1, and run the command again",
    "take the board that the release is for",
    "replace the board: its chip may be a copy or damaged",
    "remove the readout protection, which erases the whole flash",
    "(?:reset the board by hand, or )?diagnose the line.*",
)
"""Advice that holds in every state of the board."""

_PATTERNS: Sequence[tuple[str, Rule]] = (
    # Notes and checks
    (r"Board: (.+), bootloader (\d\.\d), unique id ([0-9a-f]{24})", rule.board),
    (r"Board: an unknown rule.chip, bootloader \d\.\d, its unique id cannot be read", rule.garbled),
    (r"Board: (?:.+), bootloader \d\.\d, its unique id cannot be read", rule.garbled),
    ("Reading the contents of the board's flash; nothing is changed before check 9 has passed.", rule.unchanged),
    (r" 6  (\S+) replaces (.+); the vendor sets no minimum version", rule.replaces),
    (r" 6  the board holds (\S+) already; the vendor sets no minimum version", rule.holds_already),
    (r" 7  the board's product id is (0x[0-9a-f]{3}), its flash (.+)", rule.chip),
    (
        " 8  readout (?:and write )?protection (?:is|are) off(; this chip does not report its write protection)?",
        rule.no_protection,
    ),
    (r" 9  stack pointer (0x\w+) in RAM, reset vector (0x\w+) inside the image", rule.vectors),
    (rf"10  the flash holds SHA-256 {_HASH} \((hashed on the chip|read-back)\)", rule.digest),
    (r"The proof of the flash failed \((.+)\); the whole image is written again\.", rule.repeated),
    (r"A run with (.+) was interrupted on this board: (.+)\.", rule.interrupted),
    (
        (
            rf"The journal's bytes from {_AT} to {_AT} are not restored, because the flash has newer bytes at these "
            r"addresses\."
        ),
        rule.not_restored,
    ),
    (r"The flash is read back, because the chip did not hash it itself \((.+?): (.+)\)\.", rule.reason),
    (
        _STARTED,
        rule.started,
    ),
    (
        (
            rf"The board holds {PRODUCT} {NEW_VERSION}, but it is not known whether its program runs: (.+?): (.+)\. "
            r"Reset the board with BOOT0 at 0\."
        ),
        rule.not_started,
    ),
    (
        (
            rf"(?:the board|board [0-9a-f]{{24}}) holds {PRODUCT} {NEW_VERSION}( already)?: erased {_PART}, programmed "
            rf"{_PART}, identical {_PART}; proven (by hashing on the chip|by reading it back), [\d.]+ s in all"
        ),
        rule.done,
    ),
    (rf"{_NUMBER} bytes beside the image, in the same pages, were written back", rule.written_back),
    (rf"Line (\d+) of the bench log, SHA-256 {_HASH}", rule.log_line),
    (r"board 1: (\d) good, (\d) bad", rule.counters),
    # What happened on the line, and why
    ("flashing was interrupted", rule.always),
    (f"no bootloader answers on {_LINK}", rule.fell_silent),
    (r"it stayed silent for 1 s", rule.fell_silent),
    (rf"the board on {_LINK} was reset \d times through its wiring and did not answer", rule.fell_silent),
    (rf"the board on {_LINK} fell silent in {_COMMAND}", rule.fell_silent),
    (r"for [\d.]+ s", rule.fell_silent),
    (rf"the board on {_LINK} refused {_COMMAND}", rule.nack),
    ("it answered NACK", rule.nack),
    (rf"the board on {_LINK} answers {_COMMAND} with neither ACK nor NACK", rule.no_ack),
    (rf"the answer on {_LINK} does not come from an STM32 bootloader", rule.line_fault),
    ("(?:its|the) answer was (b.+)", rule.heard),
    ("the line to the board corrupts bytes", rule.line_fault),
    (rf"two reads of {_AT} to {_AT} returned different bytes", rule.line_fault),
    ("two reads of the board's .+ returned different bytes", rule.line_fault),
    (f"another board answers on {_LINK}", rule.another),
    ("the run began with the board .+, but the board .+ answers now", rule.another),
    ("nothing was written to the other board", rule.another),
    (rf"{_COMMAND} was not sent", rule.garbled),
    (r"this bootloader \(version .+\) did not list the command", rule.garbled),
    ("the bootloader did not list the commands that flashing needs", rule.garbled),
    ("it listed (?:[0-9a-f]{2}(?:, )?)+", rule.garbled),
    ("the board's answer to Get lists no command|it is '..'", rule.garbled),
    ("the board's .+ reports an impossible flash size", rule.garbled),
    (r"its size register reads \d+ KiB, but the largest chip of the family has \d+ KiB", rule.garbled),
    # The digest program
    ("the board was not recognised after hashing its flash", rule.fault_on_the_way),
    (r"((?:no bootloader answers on|the answer on|the board on) [^,]+), ([^,]+)", rule.reason),
    ("the program that hashes the flash was not started", rule.line_fault),
    ("its first bytes, read back from the chip's RAM, differ from the bytes that were sent", rule.line_fault),
    ("the board did not return the digest of its flash", rule.fault_on_the_way),
    (r"its RAM contains \w{16} instead of \w{16}, which marks the results of this run", rule.fault_on_the_way),
    # Checks that failed
    ("check 6 failed, the board has unknown contents", rule.unknown),
    ("the flash is neither blank nor a release of any product of this contract", rule.unknown),
    ("check that the right board is connected, then consent to replacing its contents", rule.always),
    ("check 7 failed, the board has another chip", rule.garbled),
    ("the board's product id is 0x..., but the release is for 0x...", rule.garbled),
    ("check 8 failed, the board is readout protected", rule.garbled),
    ("the flash cannot be read, so the written image could not be verified", rule.garbled),
    ("check 10 failed, the flash does not contain the written bytes", rule.differs),
    (rf"the byte at {_AT} was read as (0x..) instead of (0x..)", rule.byte),
    (rf"from {_AT} to {_AT} its SHA-256 is {_HASH} instead of {_HASH}", rule.digests),
    ("check 10 failed, the flash was not erased", rule.worn),
    (rf"page (\d+) still reads ([0-9a-f ]+) at {_AT} after its erase", rule.not_erased),
    # The state of the flash
    ("nothing was changed", rule.state(rule.unchanged)),
    ("nothing else was changed", rule.state(rule.only_first)),
    ("the other pages were written, but are not proven", rule.state(rule.others_written)),
    ("the flash is proven to contain the image", rule.state(rule.complete)),
    ("the whole image is written, but its first words are not proven", rule.state(rule.body_written)),
    (
        "the image is proven except for its first words, and whether those are written is unknown",
        rule.state(rule.body_written),
    ),
    (
        r"the vector table in page \d+ reads erased, so the board will not start a half written image",
        rule.state(rule.seal_erased),
    ),
    (
        r"the image's first words, in page \d+, read erased, so the image does not count as complete",
        rule.state(rule.seal_erased),
    ),
    (r"whether page (\d+) is erased is unknown, and so is what the board will start", rule.is_page),
    (r"page (\d+) was not completely erased", rule.half_erased),
    ("this was the second attempt", lambda judge, *_: judge.is_repeated),
    (r"the board acknowledged: erased (\d+) of (\d+) pages, wrote (\d+) of (\d+)", rule.acknowledged),
    (
        rf"the bytes {_AT} to {_AT} beside the image are (not all written back|acknowledged, but not proven)",
        rule.beside,
    ),
    # Remedies
    (_RESTORED + "complete the run", rule.resumes),
    (_RESTORED + "run the same command again", rule.always),
    ("|".join(_ADVICE), rule.always),
    ("remove write protection if it is set(?:, and run the command again)?", rule.always),
    ("otherwise the page is worn out: replace the board", rule.worn),
)

RULES = [(re.compile(pattern), is_true) for pattern, is_true in _PATTERNS]
"""The sentences that the campaign knows, each with the rule that decides whether it is true."""


def judge_of(situation: CaseSituation) -> SentenceJudge:
    """Return a judge with these rules."""
    return SentenceJudge(situation, RULES)
