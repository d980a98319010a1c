"""The table [gateway] of the settings file: groups, faces, and the refusal of invalid values."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from blockota.errors import UsageError
from blockota.gateway.settings import GatewaySettings, load_gateway
from blockota.model.target import DailyWindow, GroupPolicy, Mode

IDENTITY = UUID("8f14e45f-ceea-467f-a8a0-c2d5b1e7d301")
HEAD = f'[gateway]\nidentity = "{IDENTITY}"\n'
GROUPS = """
[gateway.groups.pumps]
models = ["pump3"]
policy = "ordered"
window = ["22:00-04:30"]
pauses = ["1m", "2h"]
postponements = 1
offers_after_rollback = true

[gateway.groups.pilot]
devices = [256]
configurations = ["acme-table"]
"""


def load(folder: Path, text: str) -> GatewaySettings:
    """Load a settings file with the given text."""
    path = folder / "blockota.toml"
    path.write_text(text)
    return load_gateway(path, environment={})


def test_defaults(tmp_path: Path) -> None:
    """Only the identity of a gateway is required."""
    found = load(tmp_path, HEAD)
    assert found == GatewaySettings(IDENTITY, tmp_path / ".blockota" / "gateway")
    assert (found.anchor_seconds, found.group_of(256, "pump3").policy) == (600, GroupPolicy())


def test_groups_and_faces(tmp_path: Path) -> None:
    """A device belongs to the group that names it, else to the group of its model, else to the default group."""
    faces = '[gateway.ddi]\nlisten = "0.0.0.0:8443"\ncertificate = "tls.pem"\n'
    faces += '[gateway.smp.devices]\n300 = "/dev/ttyACM0"\n'
    found = load(tmp_path, HEAD + 'listen = "127.0.0.1:9000"\nanchor_minutes = 1\n' + GROUPS + faces)
    assert found.group_of(256, "pump3").name == "pilot"
    pumps = found.group_of(257, "pump3")
    assert (pumps.name, pumps.policy.mode, pumps.policy.windows) == (
        "pumps",
        Mode.ORDERED,
        (DailyWindow(22 * 3600, 4 * 3600 + 1800),),
    )
    assert (pumps.policy.delivery.pauses, pumps.policy.delivery.postponements) == ((60, 7200), 1)
    assert pumps.policy.delivery.offers_after_rollback
    assert found.group_of(258, "lamp").name == "default"
    assert found.group_of(256, "").policy.is_configuration("acme-table")
    assert pumps.policy.is_configuration("acme-thermo2-cfg")
    assert not pumps.policy.is_configuration("acme-thermo2")
    assert (found.listen, found.anchor_seconds, list(found.faces)) == (("127.0.0.1", 9000), 60, ["ddi", "smp"])
    assert found.bound_devices == {300: ("smp", {"port": "/dev/ttyACM0"})}
    ddi = found.faces["ddi"]
    assert ddi.address("listen", "127.0.0.1:8443") == ("0.0.0.0", 8443)  # noqa: S104 - the operator's choice
    assert ddi.path("certificate") == tmp_path / "tls.pem"
    with pytest.raises(UsageError, match=r"\[gateway.ddi\] has an unknown setting 'certificate'"):
        ddi.known("listen")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('network = "local"', "have no gateway"),
        ("[gateway]\nanchor_minutes = 3", "has no identity"),
        ('[gateway]\nidentity = "7"', "'7' is not a UUID"),
        (HEAD + "anchor_minutes = 0", "is not a whole number from 1"),
        (HEAD + "listen = 'here'", "is not an address"),
        (HEAD + "ddi = 3", r"\[gateway.ddi\] cannot be used"),
        (HEAD + "[gateway.smp.devices]\npump = '/dev/ttyACM0'", "pump in .gateway.smp.devices. cannot be used"),
        (HEAD + "dddi = 3", "unknown setting 'dddi'"),
        (HEAD + "contracts = ['0x1']", "is not an address"),
        (HEAD + "[gateway.groups.a]\npolicy = 'push'", "'push' is not auto or ordered"),
        (HEAD + "[gateway.groups.a]\nwindow = ['25:00-26:00']", "is not a time of the day"),
        (HEAD + "[gateway.groups.a]\nwindow = ['02:00-02:00']", "is not a time of the day"),
        (HEAD + "[gateway.groups.a]\npauses = [60]", "is not a list of texts"),
        (HEAD + "[gateway.groups.a]\ntrial_time = 60", "is not a duration"),
        (HEAD + "[gateway.groups.a]\ndevices = [1]\n[gateway.groups.b]\ndevices = [1]", "1 is in the group a already"),
    ],
)
def test_an_unusable_setting_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    """The error names the setting that is missing, unknown or malformed."""
    with pytest.raises(UsageError, match=sentence):
        load(tmp_path, text)
