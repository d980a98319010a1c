"""IOTRegistry messages are encoded as Go's packages encode them. The messages are random."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from scripts.go_programs import GO
from tests.formats import test_iotregistry as messages

COUNT = 300


def test_random_messages_of_go_should_be_read_and_written() -> None:
    """BlockOTA reads and writes random messages from Go as the tests in tests/formats require.

    The first of these messages are the committed test vectors.
    """
    command = [GO, "run", ".", str(COUNT)]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, check=True)
    vectors = json.loads(done.stdout)
    assert len(vectors) == COUNT
    assert vectors[: len(messages.VECTORS)] == messages.VECTORS
    for vector in vectors:
        messages.test_records_should_be_those_of_go(vector)
        messages.test_transactions_should_be_read_and_their_signatures_verified(vector)
