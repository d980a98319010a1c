"""Errors about deltas if the library detools, which is compiled at installation, is not installed."""

from __future__ import annotations

import sys

import pytest

from blockota.errors import UsageError
from blockota.formats.delta import apply_patch, make_patch


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without detools, making or applying a delta raises an error that names the extra `delta`."""
    monkeypatch.setitem(sys.modules, "detools", None)
    for use in (lambda: make_patch(b"a", b"b"), lambda: apply_patch(b"a", b"\x02", compression="crle", limit=1)):
        with pytest.raises(UsageError, match="Install BlockOTA with the extra delta") as missing:
            use()
        assert missing.value.exit_status == 2
