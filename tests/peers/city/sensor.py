"""A sensor that sends its temperature to its gateway every second: ``python -m tests.peers.city.sensor NUMBER FILE``.

The client is paho, with QoS 1 and a persistent session. FILE is a JSON object with the host, the password and the
certificate authority of the broker. The sensor sends the values 0, 1, 2, … once each. On SIGTERM, the sensor waits for
the last confirmations, and prints the number of confirmed values.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

PORT = 8883


def connected(number: int, place: Mapping[str, str]) -> Client:
    """Return a client of a device that is connected to the broker of its gateway. Its loop does not run yet."""
    client = Client(CallbackAPIVersion.VERSION2, client_id=str(number), clean_session=False)
    client.username_pw_set(str(number), place["password"])
    client.tls_set(ca_certs=place["authority"])
    client.connect(place["host"], PORT)
    return client


def main() -> None:
    """Send until SIGTERM."""
    number, place = int(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    stop, confirmed, sent = threading.Event(), set[int](), 0
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    def note(_client: Client, _data: Any, message: int, *_: Any) -> None:
        confirmed.add(message)

    client = connected(number, place)
    client.on_publish = note
    client.loop_start()
    print("ready", flush=True)
    while not stop.is_set():
        reading = {"time": int(time.time()), "name": "temperature", "value": sent, "unit": "Cel"}
        client.publish(f"blockota/v1/things/{number}/readings", json.dumps(reading), qos=1)
        sent += 1
        stop.wait(1)
    end = time.monotonic() + 60
    while len(confirmed) < sent and time.monotonic() < end:
        time.sleep(0.05)
    client.disconnect()
    client.loop_stop()
    if len(confirmed) < sent:
        sys.exit(f"the broker confirmed {len(confirmed)} of {sent} values")
    print(sent, flush=True)


if __name__ == "__main__":
    main()
