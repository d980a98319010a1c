"""The command line shows the next step of a delivery, and until when the gateway waits for this step."""

from __future__ import annotations

import pytest

from blockota.cli.gateway_devices import next_step
from blockota.model.delivery import Delivery, Stage, Target
from blockota.model.release import show_time
from tests.support.receipts import RELEASE

TIME = 1_800_000_000
STEPS = {
    Stage.SETTLED: "",
    Stage.OFFERED: "the device fetches the image; if it does not begin until {}, an event is logged",
    Stage.TRANSFER: "the device fetches and starts the image; without progress until {}, the try fails",
    Stage.TRIAL: "the device confirms the image; without its report until {}, the try fails",
    Stage.POSTPONED: "the device gets the offer again at {}",
    Stage.PAUSED: "the next try begins at {}",
    Stage.STOPPED: "nothing, until `blockota gateway retry 256`",
}


@pytest.mark.parametrize("stage", Stage)
def test_each_stage_has_a_next_step(stage: Stage) -> None:
    """For each delivery stage, the next step is shown.

    If the step has a timeout, the end of the timeout is shown too.
    """
    delivery = Delivery(stage, Target(RELEASE, bytes(32)), wake=TIME)
    assert next_step(256, "", delivery) == STEPS[stage].format(show_time(TIME))


def test_a_step_without_a_timeout_has_no_time() -> None:
    """An offer without a timeout is shown without a time.

    A withheld target is also shown without a time.
    """
    offered = Delivery(Stage.OFFERED, Target(RELEASE, bytes(32)))
    assert next_step(256, "", offered) == "the device fetches the image"
    withheld = Delivery(Stage.OFFERED, Target(RELEASE, bytes(32)), is_withheld=True)
    assert next_step(256, "", withheld) == "the target is offered when its obstacle is removed"


def test_the_retry_of_a_configuration_names_its_product() -> None:
    """The command can be copied."""
    stopped = Delivery(Stage.STOPPED, Target(RELEASE, bytes(32)))
    assert next_step(256, "berlin-cfg", stopped) == "nothing, until `blockota gateway retry 256 --product berlin-cfg`"
