"""The DDI face gives the same answers before and after a restart of the gateway."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.gateway.faces.test_ddi import IMAGE, DdiClient, serve
from tests.support.gateway import FakeCore, device_offer


def test_a_restart_between_any_two_steps_of_a_cancellation_changes_nothing(tmp_path: Path) -> None:
    """Each step of a cancellation works with a restarted gateway.

    The restarted gateway cancels actions that it offered before, and rejects feedback on ended actions.
    """
    core = FakeCore()
    core.now_offered[256] = [device_offer(tmp_path, IMAGE)]
    links: dict[str, str] = {}

    def expect(name: str, job: int) -> Callable[[DdiClient], None]:
        def check(client: DdiClient) -> None:
            found = {one: link for one, link in client.poll().items() if one != "configData"}
            assert list(found) == [name]
            assert found[name].endswith(f"/{job}")
            links.update(found)

        return check

    def open_action(client: DdiClient) -> None:
        client.artifact()

    def ask_to_cancel(client: DdiClient) -> None:
        assert json.loads(client.ask(links["cancelAction"])[1]) == {"id": "7", "cancelAction": {"stopId": "7"}}

    def feedback(link: str, *words: str) -> Callable[[DdiClient], None]:
        def send(client: DdiClient) -> None:
            assert client.feedback(links[link], *words) == 200

        return send

    def end_old_action(client: DdiClient) -> None:
        old = links["deploymentBase"].replace("/8", "/7")
        assert client.feedback(old, "closed", "success") == 200  # it had not stopped
        assert client.feedback(old, "closed", "success") == 200  # repeated
        assert client.feedback(old, "closed", "failure", "another word") == 410
        assert client.ask(links["cancelAction"])[0] == 404

    serve(tmp_path, core, expect("deploymentBase", 7))
    serve(tmp_path, core, open_action)
    core.now_offered[256] = [device_offer(tmp_path, IMAGE + b"2", version="1.2.0", job=8)]
    for step in (
        expect("cancelAction", 7),
        ask_to_cancel,
        ask_to_cancel,
        expect("cancelAction", 7),
        feedback("cancelAction", "rejected", "none"),
        feedback("cancelAction", "rejected", "none"),
        expect("deploymentBase", 8),
        end_old_action,
        expect("deploymentBase", 8),
    ):
        serve(tmp_path, core, step)
    assert not [call for call in core.calls if call[0] in ("outcome", "reported")]


def test_a_success_of_a_withdrawn_update_is_logged(tmp_path: Path) -> None:
    """A success of a withdrawn update is logged as a warning.

    The warning is not evidence of the running image, but explains why the release may be offered again.
    """
    core = FakeCore()
    core.now_offered[256] = [device_offer(tmp_path, IMAGE)]

    def install(client: DdiClient) -> None:
        link = client.poll()["deploymentBase"]
        client.artifact()
        core.now_offered[256] = []
        for _ in range(2):
            assert client.feedback(link, "closed", "success") == 200

    serve(tmp_path, core, install)
    assert [call for call in core.calls if call[0] in ("outcome", "reported")] == []
    [(_, number, text)] = [call for call in core.calls if call[0] == "warn"]
    assert (number, "withdrawn update" in text) == (256, True)
