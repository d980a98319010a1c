"""Certificates for tests, valid until 2126, so that no test needs openssl. Their private keys are public.

``loopback`` names 127.0.0.1 and 127.0.0.2, ``localhost`` names localhost and has its key in the same file, ``other`` is
a second pair, and ``locked.key`` is the key of ``loopback``, encrypted with the password "abcd".
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
CERTIFICATE, PRIVATE_KEY = FOLDER / "loopback.pem", FOLDER / "loopback.key"
OTHER_CERTIFICATE = FOLDER / "other.pem"
LOCALHOST = FOLDER / "localhost.pem"
LOCKED_KEY = FOLDER / "locked.key"
