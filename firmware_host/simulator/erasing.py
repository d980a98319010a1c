"""The two erase commands of a simulated boot ROM; a ROM has one of them (AN3155 sections 3.7 and 3.8)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from firmware_host.simulator.frames import RefusalError, Script, Transmitter, checksum, take

if TYPE_CHECKING:
    from firmware_host.simulator.silicon import Silicon

logger = logging.getLogger("firmware_host.simulator")

GLOBAL_ERASE = 0xFF
FIRST_SPECIAL, WHOLE_FLASH, SPECIAL_BANKS = 0xFFF0, 0xFFFF, {0xFFFE: 1, 0xFFFD: 2}


class Eraser:
    """Takes the frame after an erase command, and erases.

    Args:
        silicon: whose flash.
        line: where the ACK goes.
    """

    def __init__(self, silicon: Silicon, line: Transmitter) -> None:
        """Keep the parts."""
        self._flash, self._profile, self._line = silicon.flash, silicon.profile, line

    def erase(self) -> Script[None]:
        """Erase the pages listed with one byte each, or everything.

        Raises:
            RefusalError: the checksum is wrong.
        """
        count = yield
        if count == GLOBAL_ERASE:
            self._erase_globally((yield))
            return
        frame = yield from take(count + 2)
        if checksum(frame) != count:
            raise RefusalError("the page list's checksum is wrong")
        self._erase_pages(tuple(frame[:-1]))

    def extended_erase(self) -> Script[None]:
        """Erase the pages listed with two bytes each, or a bank, or everything.

        Raises:
            RefusalError: the checksum is wrong, or this chip has no such special erase, or so long a list.
        """
        head = yield from take(2)
        count = int.from_bytes(head, "big")
        if count >= FIRST_SPECIAL:
            self._erase_specially(count, checksum=(yield))
            return
        frame = yield from take(2 * (count + 1) + 1)
        if checksum(head + frame):
            raise RefusalError("the page list's checksum is wrong")
        if count + 1 > self._profile.erase_limit:
            raise RefusalError(f"{count + 1} pages, {self._profile.erase_limit} at a time")
        self._erase_pages(tuple(int.from_bytes(frame[at : at + 2], "big") for at in range(0, len(frame) - 1, 2)))

    def _erase_globally(self, checksum: int) -> None:
        # AN3155 section 3.7: another byte than 0x00 erases nothing, and is acknowledged.
        if checksum == 0:
            self._erase_at_once(range(self._profile.page_count))
        self._line.ack()

    def _erase_specially(self, code: int, *, checksum: int) -> None:
        if checksum != code >> 8 ^ code & 0xFF:
            raise RefusalError("the checksum of the special erase is wrong")
        bank = SPECIAL_BANKS.get(code, 0)
        if code == WHOLE_FLASH and self._profile.erases_all:
            self._erase_at_once(range(self._profile.page_count))
        elif bank and self._profile.banks > 1 and self._profile.erases_all:
            self._erase_at_once(self._profile.bank_pages(bank))
        else:
            raise RefusalError(f"this chip has no special erase {code:#06x}")
        self._line.ack()

    def _erase_at_once(self, pages: range) -> None:
        self._flash.erase_pages_at_once(pages)
        logger.info("erased all of pages %d to %d", pages.start, pages.stop - 1)

    def _erase_pages(self, pages: tuple[int, ...]) -> None:
        for page in pages:
            self._flash.erase_page(page)
        logger.info("erased pages %s", " ".join(map(str, pages)))
        self._line.ack()
