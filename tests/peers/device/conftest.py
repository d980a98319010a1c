"""Fixtures with devices that are compiled for this computer, and with images that imgtool signed."""

from __future__ import annotations

import pytest

from tests.support.host_device import ABSENT, HostDevice, built_host, host_images


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> HostDevice:
    """The loader, compiled for this computer."""
    return built_host(tmp_path_factory.mktemp("loader"))


@pytest.fixture
def device(library: HostDevice) -> HostDevice:
    """A device without a planned power cut and without a secure element."""
    library.plan(None)
    library.answer_of_chip(ABSENT)
    return library


@pytest.fixture(scope="session")
def images() -> dict[str, bytes]:
    """The images by purpose, such as ``old``."""
    return host_images()
