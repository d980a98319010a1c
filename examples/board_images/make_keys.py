"""Make a board's own image for ``blockota flash --board-image``: the board's unique id and a derived key.

The image has 44 bytes: the unique id (12 bytes), and HMAC-SHA256 of the unique id under the master key (32 bytes). The
command always prints the same image for a board, so a lost image can be made again. The master key is a file of 32
random bytes: ``head -c 32 /dev/urandom > master.key``.
"""

# ruff: noqa: INP001 - a script that is copied to the bench, not a module

import hmac
import os
import sys
from pathlib import Path

KEY_SIZE = 32


def main() -> None:
    """Write the image of the board in ``BLOCKOTA_BOARD_ID`` to the standard output."""
    board = bytes.fromhex(os.environ["BLOCKOTA_BOARD_ID"])
    master = Path(sys.argv[1]).read_bytes()
    if len(master) != KEY_SIZE:
        sys.exit(f"the master key has {len(master)} bytes, not {KEY_SIZE}")
    sys.stderr.write(f"a key for {os.environ['BLOCKOTA_BOARD_PRODUCT']} on {board.hex()}\n")
    sys.stdout.buffer.write(board + hmac.digest(master, board, "sha256"))


if __name__ == "__main__":
    main()
