"""`gateway run` with a validator that does not answer: readings are queued, and the gateway stops."""

from __future__ import annotations

import http.client
import json
import signal
import socket
from contextlib import ExitStack
from uuid import UUID

from blockota.chain.local import free_port
from blockota.gateway.access import OUTBOX_NAME
from blockota.identity.request_outbox import RequestOutbox
from tests.stories.conftest import Workshop
from tests.stories.test_bad_input import USAGE, refused
from tests.stories.test_devices import done
from tests.stories.test_gateway import site
from tests.stories.test_gateway_process import GatewayProcess

__all__ = ["site"]
VALIDATOR = UUID(int=13, version=4)
READING = {"thing": "256", "time": 1_800_000_000, "name": "temperature", "value": 21.5}


def test_a_silent_validator_delays_nothing(site: Workshop) -> None:
    """The reading of an earlier run stays queued, the command port answers, and SIGTERM ends the gateway."""
    with RequestOutbox(site.folder / "gateway" / OUTBOX_NAME) as outbox:
        outbox.put(VALIDATOR, "submit", [READING], member="readings")
    port = free_port()
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        silent.settimeout(60)
        path = site.folder / "blockota.toml"
        text = path.read_text().replace('listen = "127.0.0.1:8091"\n', "")
        path.write_text(f"""{text}
[gateway.access]
listen = "127.0.0.1:{port}"

[gateway.access.validators]
"{VALIDATOR}" = "http://127.0.0.1:{silent.getsockname()[1]}"
""")
        gateway = GatewayProcess(site.folder, stack)
        gateway.start()
        connection, _ = silent.accept()
        stack.enter_context(connection)
        assert connection.recv(4) == b"POST"
        assert done(site, "gateway", "status")["submissions"] == {"waiting": 1, "refused": 0, "why": None}
        assert "1 wait for validators" in site.run("gateway", "status").out

        client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        client.request("POST", "/requests", b"{")
        assert json.loads(client.getresponse().read())["error"]["code"] == -32700

        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(60) == 0
        client.close()
    with RequestOutbox(site.folder / "gateway" / OUTBOX_NAME) as outbox:
        assert outbox.waiting() == 1


def test_a_port_in_use_is_reported(site: Workshop) -> None:
    """The gateway does not start if its command port is in use, and the error for wrong settings names the setting."""
    path = site.folder / "blockota.toml"
    before = path.read_text().replace('listen = "127.0.0.1:8091"\n', "")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        path.write_text(f'{before}\n[gateway.access]\nlisten = "127.0.0.1:{taken.getsockname()[1]}"\n')
        refused(site.run("gateway", "run"), USAGE, "cannot listen")
    for table, why in (
        ('commands = { thermo2 = ["fan"] }', "commands in [gateway.access]"),
        ('validators = { x = "https://a" }', "x in [gateway.access.validators]"),
        (f'validators = {{ "{VALIDATOR}" = "10.64.0.1" }}', "not the address of a receiver"),
    ):
        path.write_text(f"{before}\n[gateway.access]\n{table}\n")
        refused(site.run("gateway", "run"), USAGE, why)
