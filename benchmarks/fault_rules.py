"""The rules of the fault campaign: whether a clause is true of the simulated board, the line and the run's files.

Each rule's arguments are the judge and the groups of the rule's pattern in `fault_sentences`; the result is whether the
clause is true. The docstring of a rule states what a matching clause claims.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable
from pathlib import Path

from benchmarks.fault_judge import SentenceJudge
from benchmarks.fault_scene import NEW_VERSION, OLD_VERSION, PRODUCT
from blockota.model.release import Region
from firmware_host.bench.log import read_log
from firmware_host.bootloader.an3155 import ACK, MAX_BLOCK, NACK, Command
from firmware_host.simulator.device import UNIQUE_ID


def always(judge: SentenceJudge, *_: str) -> bool:
    """Accept a clause that gives advice or states a condition."""
    del judge
    return True


def board(judge: SentenceJudge, name: str, version: str, unique_id: str) -> bool:
    """The identity of the board."""
    it = judge.situation
    number = it.scene.profile.bootloader_version
    known = (it.chip.name, f"{number >> 4}.{number & 15}", UNIQUE_ID.hex())
    return it.is_garbled or (name, version, unique_id) == known


def unchanged(judge: SentenceJudge, *_: str) -> bool:
    """Return whether the flash is unchanged since the start of the attempt."""
    return judge.flash == judge.at_start


def heard(judge: SentenceJudge, quoted: str) -> bool:
    """Return whether the host has received the quoted bytes."""
    return bytes(ast.literal_eval(quoted)) in judge.situation.link.heard


def replaces(judge: SentenceJudge, version: str, found: str) -> bool:
    """Check 6."""
    scene = judge.situation.scene
    there = judge.flash[scene.image]
    known = {str(NEW_VERSION): scene.new, str(OLD_VERSION): scene.old}
    is_there = there == known[found] if found in known else there not in (scene.old, scene.new)
    is_right = is_there and (found in known or (found == "an interrupted run" and judge.was_begun))
    return version == str(NEW_VERSION) and is_right and unchanged(judge)


def holds_already(judge: SentenceJudge, version: str) -> bool:
    """Return whether check 6 is right to report that the flash already contains the release."""
    scene = judge.situation.scene
    return version == str(NEW_VERSION) and judge.flash[scene.image] == scene.new and unchanged(judge)


def chip(judge: SentenceJudge, product_id: str, flash: str) -> bool:
    """Check 7."""
    profile = judge.situation.scene.profile
    known = (profile.product_id, str(Region(profile.flash_start, profile.flash_size)))
    return judge.situation.is_garbled or ((int(product_id, 16), flash) == known and unchanged(judge))


def no_protection(judge: SentenceJudge, unknown: str) -> bool:
    """Check 8."""
    board = judge.situation.board
    is_known = judge.situation.chip.protected_bytes > 0
    return not board.readout_protected and not board.protected_pages and is_known is not bool(unknown)


def vectors(judge: SentenceJudge, stack: str, reset: str) -> bool:
    """Check 9."""
    words = b"".join(int(word, 16).to_bytes(4, "little") for word in (stack, reset))
    return judge.situation.scene.new[:8] == words and unchanged(judge)


def digest(judge: SentenceJudge, digest: str, method: str) -> bool:
    """Check 10."""
    there = judge.flash[judge.situation.scene.image]
    return hashlib.sha256(there).hexdigest() == digest and is_method(judge, method)


def is_method(judge: SentenceJudge, method: str) -> bool:
    """Return whether the attempt has read the whole image, or has started the digest program."""
    scene, addresses = judge.situation.scene, judge.situation.link.addresses
    if method in ("hashed on the chip", "by hashing on the chip"):
        return any(command == Command.GO and address != scene.start_address for command, address in addresses)
    span = range(scene.start_address - MAX_BLOCK, scene.start_address + len(scene.new))
    reads = [address for command, address in addresses if command == Command.READ_MEMORY and address in span]
    return len(reads) >= -(-len(scene.new) // MAX_BLOCK)


def done(judge: SentenceJudge, already: str, *counts: str) -> bool:
    """Return whether a success line states the right numbers of pages and bytes, and the right method of proof."""
    *numbers, method = counts
    erased, _, programmed, _, identical, _ = (int(number.replace(",", "")) for number in numbers)
    scene, flash = judge.situation.scene, judge.flash
    changed = sum(judge.at_start[unit] != scene.after[unit] for unit in scene.units)
    # A mass erase also erases what is blank already.
    filled = [unit for unit in judge.erased if judge.at_start[unit].strip(scene.erased)]
    is_counted = programmed >= changed and identical <= len(scene.units) - changed and erased >= len(filled)
    is_same = bool(already) is (not judge.situation.link.erased and judge.at_start == flash)
    return flash == scene.after and is_counted and is_same and is_method(judge, method)


def written_back(judge: SentenceJudge, count: str) -> bool:
    """Return whether the attempt has erased this number of bytes beside the image and has written them back."""
    return int(count.replace(",", "")) == judge.restored and judge.flash == judge.situation.scene.after


def log_line(judge: SentenceJudge, number: str, digest: str) -> bool:
    """Return whether the bench log ends with this line, and whether a line that reports success matches the flash."""
    *_, line = read_log(judge.situation.folder / "bench-log")
    is_done = bool(line.fields["after"])
    is_right = not is_done or judge.flash == judge.situation.scene.after
    return (str(line.number), line.sha256.hex()) == (number, digest) and is_right


def counters(judge: SentenceJudge, good: str, bad: str) -> bool:
    """Return whether the counters of good and bad boards are right."""
    is_right = judge.flash == judge.situation.scene.after or good == "0"
    return is_right and (good, bad) == (("1", "0") if judge.is_good else ("0", "1"))


def started(judge: SentenceJudge, how: str, rest: str) -> bool:
    """Return whether the sentence about the program's start and its output is true."""
    it, scene = judge.situation, judge.situation.scene
    if how.startswith("The program was not started"):
        return (Command.GO, scene.start_address) not in it.link.addresses and it.board.boot0
    if how.startswith("The board was reset"):
        is_started = not it.board.boot0
    else:
        is_started = (Command.GO, scene.start_address) in it.link.addresses
    if "Nothing was written" in rest:
        return is_started and judge.at_start == judge.flash
    says_silent = "sent nothing" in rest
    is_silent = it.link.heard[-1:] in (bytes((ACK,)), b"") or how.startswith("The board was reset")
    return is_started and says_silent is is_silent


def not_started(judge: SentenceJudge, what: str, why: str) -> bool:
    """Judge a warning that the program may not have started; the warning quotes another error."""
    return judge.flash == judge.situation.scene.after and judge.clauses([what, *why.split("; ")], what)


def reason(judge: SentenceJudge, what: str, why: str) -> bool:
    """Judge a sentence that quotes another error."""
    return judge.clauses([what, *why.split("; ")], f"{what}: {why}")


def repeated(judge: SentenceJudge, why: str) -> bool:
    """Judge the reason that is quoted when the image is written a second time."""
    return judge.clauses(why.split("; "), why)


def interrupted(judge: SentenceJudge, release: str, path: str) -> bool:
    """Return whether an earlier attempt wrote the journal that was found."""
    return release == f"{PRODUCT} {NEW_VERSION}" and Path(path).exists() and judge.was_begun


def not_restored(judge: SentenceJudge, first: str, stop: str) -> bool:
    """Return whether the flash at these addresses differs from its contents before the first attempt."""
    it = judge.situation
    return it.at(judge.flash, first, stop) != it.at(it.scene.before, first, stop)


def fell_silent(judge: SentenceJudge, *_: str) -> bool:
    """Return whether a read has timed out in this attempt, or no byte has arrived."""
    return judge.situation.link.has_been_silent or not judge.situation.link.heard


def nack(judge: SentenceJudge, *_: str) -> bool:
    """The host has received a NACK."""
    return NACK in judge.situation.link.heard


def line_fault(judge: SentenceJudge, *_: str) -> bool:
    """The line has a fault."""
    return judge.situation.has_line_fault


def fault_on_the_way(judge: SentenceJudge, *_: str) -> bool:
    """Return whether an answer was lost or changed."""
    return fell_silent(judge) or no_ack(judge)


def no_ack(judge: SentenceJudge, *_: str) -> bool:
    """Return whether the acknowledgement may have been lost or changed on its way to the host."""
    return judge.situation.has_line_fault or judge.situation.kind in ("lost_ack", "unplug_after", "unplug_after_sent")


def garbled(judge: SentenceJudge, *_: str) -> bool:
    """Return whether a fault may have changed bytes from the board."""
    return judge.situation.is_garbled


def another(judge: SentenceJudge, *_: str) -> bool:
    """Return whether the case has a second board, and the flash of the second board is unchanged."""
    other = judge.situation.other
    return other is not None and other.flash == judge.situation.scene.before


def differs(judge: SentenceJudge, *_: str) -> bool:
    """Return whether the flash differs from the image or from the bytes beside the image."""
    return judge.flash != judge.situation.scene.after


def byte(judge: SentenceJudge, address: str, found: str, wanted: str) -> bool:
    """Return whether `wanted` is the image's byte, and `found` is in the flash or in a damaged answer."""
    it = judge.situation
    is_read = it.at(judge.flash, address)[0] == int(found, 16) or it.is_garbled
    return is_read and it.at(it.scene.after, address)[0] == int(wanted, 16)


def digests(judge: SentenceJudge, first: str, stop: str, found: str, wanted: str) -> bool:
    """Return whether `wanted` is the image's SHA-256, and `found` is the SHA-256 of the flash or a damaged answer."""
    it = judge.situation
    there = hashlib.sha256(it.at(judge.flash, first, stop)).hexdigest()
    is_read = there == found or it.is_garbled
    return is_read and hashlib.sha256(it.at(it.scene.after, first, stop)).hexdigest() == wanted


def not_erased(judge: SentenceJudge, page: str, found: str, address: str) -> bool:
    """Return whether the page contains the bytes `found`, and the first of these bytes is not erased."""
    it = judge.situation
    start = int(address, 16) - it.scene.base
    there = bytes.fromhex(found)
    in_page = it.scene.units[0].start <= start < it.scene.units[0].stop and int(page) == it.scene.pages[0]
    return in_page and judge.flash[start : start + len(there)] == there and there[:1] != it.scene.erased


def state(is_true: Callable[[SentenceJudge], bool]) -> Callable[..., bool]:
    """Return a rule that also counts the clause: an error must have exactly one clause about the whole flash."""

    def named(judge: SentenceJudge, *_: str) -> bool:
        judge.states += 1
        return is_true(judge)

    return named


def unknown(judge: SentenceJudge, *_: str) -> bool:
    """Return whether the bytes at the image's addresses are neither erased nor the old or new release."""
    scene = judge.situation.scene
    there = judge.flash[scene.image]
    return there not in (scene.old, scene.new) and there.strip(scene.erased) != b""


def only_first(judge: SentenceJudge) -> bool:
    """Return whether the attempt has changed nothing outside the first erase unit of the image."""
    first = judge.situation.scene.units[0]
    start, flash = judge.at_start, judge.flash
    return (flash[: first.start], flash[first.stop :]) == (start[: first.start], start[first.stop :])


def others_written(judge: SentenceJudge) -> bool:
    """Return whether the image is written except for its first erase unit, or the fault is permanent."""
    scene = judge.situation.scene
    rest = slice(scene.units[0].stop, scene.image.stop)
    return judge.situation.is_lasting or judge.flash[rest] == scene.after[rest]


def seal_erased(judge: SentenceJudge) -> bool:
    """Return whether the image's first words are erased."""
    scene = judge.situation.scene
    return judge.flash[scene.seal] == scene.erased * len(scene.new[:8])


def body_written(judge: SentenceJudge) -> bool:
    """Return whether the image is written except for its first words, or the fault is permanent."""
    scene = judge.situation.scene
    body = slice(scene.seal_stop, scene.image.stop)
    return judge.flash[body] == scene.after[body] or judge.situation.is_lasting


def complete(judge: SentenceJudge) -> bool:
    """Return whether the image is written and the bytes beside it are unchanged."""
    return judge.flash == judge.situation.scene.after


def is_page(judge: SentenceJudge, page: str) -> bool:
    """Return whether this is the number of the image's first page."""
    return int(page) == judge.situation.scene.pages[0]


def half_erased(judge: SentenceJudge, page: str) -> bool:
    """Return whether this is the image's first page, and the image's first words are not erased."""
    return is_page(judge, page) and not seal_erased(judge)


def acknowledged(judge: SentenceJudge, erased: str, to_erase: str, written: str, to_write: str) -> bool:
    """Judge how many units an error reports as acknowledged.

    After a lasting fault or an inserted byte, any number up to the image's number of units is right.
    """
    it = judge.situation
    flash, after, units = judge.flash, it.scene.after, it.scene.units
    # A frame with an inserted byte has a valid checksum in one of 256 cases, and is then acknowledged.
    if it.is_lasting or it.kind == "insert_received":
        return int(erased) <= len(units) and int(written) <= len(units)
    right = sum(flash[unit] == after[unit] for unit in units)
    subset = sum(_is_partly(flash[unit], after[unit], it.scene.erased) for unit in units)
    return int(written) <= right and int(erased) <= subset and max(int(to_erase), int(to_write)) <= len(units)


def _is_partly(found: bytes, whole: bytes, erased: bytes) -> bool:
    """Return whether each bit that is programmed in `found` is also programmed in the wanted contents `whole`."""
    numbers = (int.from_bytes(data) for data in (found, whole, erased * len(whole)))
    there, wanted, blank = numbers
    return (there ^ blank) & ~(wanted ^ blank) == 0


def beside(judge: SentenceJudge, first: str, stop: str, state: str) -> bool:
    """Return whether an error may report these bytes beside the image as lost or unproven.

    The flasher sees only acknowledgements, and the board may acknowledge a damaged frame.
    """
    it = judge.situation
    is_right = it.at(judge.flash, first, stop) == it.at(it.scene.before, first, stop)
    is_there = it.at(it.scene.before, first, stop).strip(it.scene.erased) != b""
    return is_there and (is_right or it.is_lasting or it.has_line_fault or state.startswith("not"))


def resumes(judge: SentenceJudge, *_: str) -> bool:
    """Return whether a journal of this release exists."""
    return judge.can_resume


def worn(judge: SentenceJudge, *_: str) -> bool:
    """The fault is permanent."""
    return judge.situation.is_lasting
