"""TLS certificates for tests, valid until 2126, so that tests need no openssl.

The private keys are public. The certificate ``loopback`` is valid for 127.0.0.1 and 127.0.0.2. The certificate
``localhost`` is valid for localhost, and its file also contains the private key. The pair ``other`` is a second
certificate with its key. The file ``locked.key`` is the key of ``loopback``, encrypted with the password "abcd".
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
CERTIFICATE, PRIVATE_KEY = FOLDER / "loopback.pem", FOLDER / "loopback.key"
OTHER_CERTIFICATE = FOLDER / "other.pem"
LOCALHOST = FOLDER / "localhost.pem"
LOCKED_KEY = FOLDER / "locked.key"
