"""curl, an independent client, downloads an image from a repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.car_samples import unpack_car
from tests.support.fetch_samples import IMAGE, ROOT
from tests.support.repository_process import running


def test_curl_gets_the_image_as_a_car(tmp_path: Path) -> None:
    """The CAR that curl downloads contains the image."""
    with running(tmp_path) as repository:
        url = f"{repository.url}/ipfs/{ROOT}?format=car&car-dups=y"
        command = ["curl", "--silent", "--fail", "--output", "-", url]
        content = subprocess.run(command, check=True, capture_output=True).stdout
    assert b"".join(unpack_car([content], ROOT, size=len(IMAGE))) == IMAGE
