"""A sensor with AWS's MQTT client, which publishes readings and executes one command.

The Python environment of ``make peers`` runs this program. The program sends a burst of readings for each line
that it reads. For each confirmed burst, and for the command, the program writes a line; the program then ends.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import json
import sys
import threading
import time

from awscrt import io, mqtt

WAIT, BURST = 60, 40
host, port, thing, password, authority, bursts = sys.argv[1:]
topic = f"blockota/v1/things/{thing}"
commanded = threading.Event()


def say(line: str) -> None:
    """Write a line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def command(*, payload: bytes, **_: object) -> None:
    """Answer a command."""
    found = json.loads(payload)
    answer = json.dumps({"id": found["id"], "state": "done"})
    connection.publish(f"{topic}/commands/ack", answer, mqtt.QoS.AT_LEAST_ONCE)
    say(f"command {found['name']} {json.dumps(found['arguments'])}")
    commanded.set()


tls = io.TlsContextOptions()
tls.override_default_trust_store_from_path(None, authority)
connection = mqtt.Connection(
    client=mqtt.Client(io.ClientBootstrap.get_or_create_static_default(), io.ClientTlsContext(tls)),
    host_name=host,
    port=int(port),
    client_id=thing,
    username=thing,
    password=password,
    clean_session=False,
    disable_metrics=True,
)
connection.connect().result(WAIT)
connection.subscribe(f"{topic}/commands", mqtt.QoS.AT_LEAST_ONCE, command)[0].result(WAIT)
for burst in range(int(bursts)):
    sys.stdin.readline()
    sent = []
    for number in range(BURST * burst, BURST * (burst + 1)):
        reading = {"time": time.time(), "name": "temperature", "value": number, "unit": "Cel"}
        sent.append(connection.publish(f"{topic}/readings", json.dumps(reading), mqtt.QoS.AT_LEAST_ONCE)[0])
    for one in sent:
        one.result(WAIT)
    say(f"confirmed {burst}")
commanded.wait(WAIT)
connection.disconnect().result(WAIT)
