"""The options of ``blockota flash`` for a second image of each board, which a command of the user makes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import click

from blockota.errors import Action, UsageError
from blockota.settings import BOARD_IMAGES_NAME, BenchSettings
from firmware_host.bench.board_images import BoardImages
from firmware_host.bench.image_command import ImageCommand


@dataclass(frozen=True)
class OwnImage:
    """The options for the image that is made for a single board.

    Attributes:
        product: the product of the image; empty if no such image is written.
        command: the command that makes the image; empty if none is given.
        may_make_new: whether a new image may replace the image of a board that already has one.
    """

    product: str
    command: str
    may_make_new: bool

    def completed(self, bench: BenchSettings, product: str | None, *, resume: bool) -> OwnImage:
        """Return the options, completed by the settings of the bench.

        The settings apply only if their product is `product` or is not set. A resumed run uses the product in its
        record.

        Args:
            bench: the settings of the bench.
            product: the product to flash.
            resume: whether this run completes an interrupted run.

        Raises:
            UsageError: the product or command of the second image is missing, both images have the same product, or a
                new second image is requested for a run without a second image.
        """
        if resume:
            resumed = replace(self, command=self.command or bench.board_image or "")
            if resumed.may_make_new and not resumed.command:
                raise UsageError(
                    "no command makes the new image",
                    why="the record of the interrupted run does not contain the command",
                    remedy="give the command",
                    action=Action.NAME_IMAGE_COMMAND,
                )
            return resumed

        whole = self
        if bench.product in (None, product):
            own, command = self.product or bench.board_product or "", self.command or bench.board_image or ""
            whole = replace(self, product=own, command=command)

        _require_whole(whole, product)
        return whole

    def images(self, state: Path, *, may_replace: bool) -> BoardImages:
        """Return the images that the bench makes for single boards.

        Args:
            state: the folder of the bench.
            may_replace: whether flash contents of unknown origin may be replaced.

        Raises:
            UsageError: the command cannot be run.
        """
        command = ImageCommand.parse(self.command) if self.command else None
        return BoardImages(state / BOARD_IMAGES_NAME, command, may_make_new=self.may_make_new, may_replace=may_replace)


def board_image_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a board's own image to a command, as the parameter `own`."""

    @click.option("--board-product", metavar="NAME", help="Product of an image made for each board.")
    @click.option("--board-image", metavar="COMMAND", help="Command that writes this image to stdout.")
    @click.option("--new-board-image", is_flag=True, help="Replace the image of a board that has one.")
    @functools.wraps(command)
    def wrapped(
        *args: object, board_product: str | None, board_image: str | None, new_board_image: bool, **kwargs: object
    ) -> None:
        command(*args, own=OwnImage(board_product or "", board_image or "", new_board_image), **kwargs)

    return wrapped


def _require_whole(own: OwnImage, product: str | None) -> None:
    """Require that the options of the board's own image are complete."""
    if own.may_make_new and not (own.product or own.command):
        raise UsageError(
            "no new image can be made",
            why="no product is named for images of single boards",
            remedy="name the product and the command, or do not request a new image",
            action=Action.NAME_BOARD_PRODUCT,
        )

    if own.command and not own.product:
        raise UsageError(
            "the product of the board's own image is not given",
            why="the region of this product on the chain determines the image's address",
            remedy="name the product",
            action=Action.NAME_BOARD_PRODUCT,
        )

    if own.product and not own.command:
        raise UsageError(
            f"the command that makes the image of {own.product} is missing",
            why="the image of a single board is not a published release, so a command of yours must make it",
            remedy="give the command",
            action=Action.NAME_IMAGE_COMMAND,
        )

    if own.product and own.product == product:
        raise UsageError(
            "the board's own image and the program cannot have the same product",
            why=f"both are named {product}",
            remedy="name two different products",
        )
