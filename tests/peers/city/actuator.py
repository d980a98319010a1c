"""An actuator that executes its gateway's commands: ``python -m tests.peers.city.actuator NUMBER FILE``.

FILE is that of a sensor. The program prints one line for each command, a JSON object with its name and arguments.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage

from tests.peers.city.sensor import connected


def main() -> None:
    """Carry out commands until SIGTERM."""
    number, place = int(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    stop, topic = threading.Event(), f"blockota/v1/things/{number}/commands"
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    def carry_out(client: Client, _data: Any, message: MQTTMessage) -> None:
        command = json.loads(message.payload)
        print(json.dumps({"name": command["name"], "arguments": command["arguments"]}), flush=True)
        client.publish(f"{topic}/ack", json.dumps({"id": command["id"], "state": "done"}), qos=1)

    def show_ready(*_: Any) -> None:
        print("ready", flush=True)

    client = connected(number, place)
    client.on_message = carry_out
    client.on_subscribe = show_ready
    client.loop_start()
    client.subscribe(topic, qos=1)
    stop.wait()
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    main()
