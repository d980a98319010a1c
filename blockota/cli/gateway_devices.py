"""Show the devices of a gateway: their deliveries, the next step of each, and their entries in the log."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from blockota.cli.session import Session
from blockota.gateway.monitoring import DevicePlan
from blockota.ledger.log import TileLog
from blockota.ledger.log_settings import load_log
from blockota.model.delivery import Delivery, Stage
from blockota.model.receipt import LogEntry
from blockota.model.release import show_time

_SHOWN, _LONGEST_TEXT = 20, 240
"""The number of entries in the table of a device, and the characters of a text in it. ``--json`` has the whole text."""


def show_device(session: Session, found: Sequence[tuple[int, str, Delivery]], plans: Mapping[int, DevicePlan]) -> None:
    """Print the deliveries of a device, and its newest entries in the log.

    Args:
        session: the session of the command.
        found: the deliveries, each with the device's number and the slot (a configuration's product; empty for
            firmware).
        plans: the gateway's plans, by the device's number.
    """
    log = TileLog(load_log(session.config, environment=os.environ).folder)
    of_device = found[0][0].to_bytes(8)
    history = [(index, LogEntry.decode(raw)) for index, raw in enumerate(log.entries()) if raw[3:11] == of_device]
    names = {entry.image: str(entry.release) for _, entry in history if entry.image and entry.release}
    fields = {
        "device": found[0][0],
        "deliveries": [delivery_fields(number, slot, one, plans) for number, slot, one in found],
        "history": [{"index": index, **entry.as_fields()} for index, entry in history],
    }

    def show() -> None:
        for number, slot, one in found:
            known = names | ({one.target.image: str(one.target.release)} if one.target else {})
            name = plans[number].name if number in plans else ""
            rows: dict[str, object] = {
                "device": f"{label(number, slot)} {name}".rstrip(),
                "runs": image(one.running, known) or "not reported yet",
                "stage": one.stage,
                "target": target(one) or "none",
                "offer": "the target" if one.offer else "nothing",
            }
            if one.reason:
                rows["stage"] = f"{one.stage}: {one.reason}"

            more = {"why": why(plans, number, slot), "next step": next_step(number, slot, one)}
            session.fields(rows | {name: text for name, text in more.items() if text})

        columns = ("INDEX", "TIME", "ENTRY", "RELEASE", "TEXT")
        lines = [
            (index, show_time(one.time), f"{one.kind} {one.level or ''}".strip(), one.release or "", _shortened(one))
            for index, one in history[-_SHOWN:]
        ]
        session.table(columns, lines, empty="The log has no entry of this device.")

    session.result(fields, show)


def next_step(number: int, slot: str, one: Delivery) -> str:
    """Return the next step of a delivery, with the time at which the gateway stops waiting for this step."""
    if one.offer is None and one.is_withheld and one.stage in (Stage.OFFERED, Stage.TRANSFER):
        return "the target is offered when its obstacle is removed"
    if one.stage is Stage.STOPPED:
        product = f" --product {slot}" if slot else ""
        return f"nothing, until `blockota gateway retry {number}{product}`"

    steps = {
        Stage.OFFERED: ("the device fetches the image", "if it does not begin until {}, an event is logged"),
        Stage.TRANSFER: ("the device fetches and starts the image", "without progress until {}, the try fails"),
        Stage.TRIAL: ("the device confirms the image", "without its report until {}, the try fails"),
        Stage.POSTPONED: ("the device gets the offer again", "at {}"),
        Stage.PAUSED: ("the next try begins", "at {}"),
    }

    step, limit = steps.get(one.stage, ("", ""))
    joint = " " if one.stage in (Stage.POSTPONED, Stage.PAUSED) else "; "
    return f"{step}{joint}{limit.format(show_time(one.wake))}" if step and one.wake is not None else step


def why(plans: Mapping[int, DevicePlan], number: int, slot: str) -> str:
    """Return why the gateway chose a device's target release; empty for a configuration or an unknown reason."""
    return plans[number].why if number in plans and not slot else ""


def label(number: int, slot: str) -> str:
    """Return the number of a device, followed by the product if the delivery is of a configuration."""
    return f"{number} {slot}".rstrip()


def image(sha256: bytes | None, names: Mapping[bytes, str]) -> str:
    """Return the release of an image, or the first digits of its SHA-256 if the release is unknown; empty for None."""
    return "" if sha256 is None else names.get(sha256, f"SHA-256 {sha256.hex()[:16]}…")


def target(one: Delivery) -> str:
    """Return the target release of a delivery and the number of its order; empty if the delivery has no target."""
    if one.target is None:
        return ""
    return f"{one.target.release}" + (f", order {one.target.order}" if one.target.order is not None else "")


def last_reading(plans: Mapping[int, DevicePlan], number: int, slot: str) -> str:
    """Return the time of the last reading of a device; empty if it has sent none."""
    plan = plans.get(number)
    return show_time(plan.last_reading) if plan and plan.last_reading and not slot else ""


def delivery_fields(
    number: int, slot: str, one: Delivery, plans: Mapping[int, DevicePlan] | None = None
) -> dict[str, Any]:
    """Return the JSON object of a delivery."""
    fields = {
        "device": number,
        "product": slot or None,
        **one.as_fields(),
        "why": why(plans or {}, number, slot) or None,
        "nextStep": next_step(number, slot, one) or None,
        "lastReading": None,
    }

    if plans and number in plans and not slot:
        fields["lastReading"] = plans[number].last_reading
    return fields


def _shortened(entry: LogEntry) -> str:
    """Return the text of an entry, shortened to `_LONGEST_TEXT` characters, because a device can send a long text."""
    text = entry.source or ""
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"
