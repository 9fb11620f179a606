"""`mqtt.online_s` and `mqtt.every_s`: both or neither, and what goes with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.agent.config.test_config import refusal

from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.core.settings import SleepPlan
from grapevine_agent.identity import first_identity
from grapevine_agent.service.assembly import assembled
from grapevine_proto.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("online_s = 300", ["mqtt.online_s = 300", "needs every_s too", "every_s = 3600"]),
        ("every_s = 3600", ["mqtt.every_s = 3600", "needs online_s too"]),
        ("online_s = 3600\nevery_s = 3600", ["mqtt.online_s = 3600", "every_s = 3600", "write 3240 or less"]),
        ("online_s = 4000\nevery_s = 3600", ["mqtt.online_s = 4000", "write 3240 or less"]),
        ("online_s = 0\nevery_s = 3600", ["mqtt.online_s = 0", "from 1 to 77760"]),
        ("online_s = 300\nevery_s = 86401", ["mqtt.every_s = 86401", "from 2 to 86400"]),
        ("online_s = 'long'\nevery_s = 3600", ["mqtt.online_s = 'long'", "must be a number"]),
        (
            "online_s = 300\nevery_s = 3600\ngateway = true\nconnect = 'all'\nbrokers = ['mqtt://a', 'mqtt://b']",
            ["mqtt.online_s = 300", "gateway = true", "leave out one"],
        ),
        (
            "online_s = 300\nevery_s = 3600\nhost_broker = true\ndiscover = true",
            ["mqtt.online_s = 300", "host_broker = true"],
        ),
    ],
)
def test_a_mistake_is_told_with_its_remedy(tmp_path: Path, text: str, says: list[str]) -> None:
    said = refusal(tmp_path, f"[mqtt]\n{text}")
    for part in says:
        assert part in said


def configured(tmp_path: Path, more: str) -> Path:
    first_identity(tmp_path / "state")
    path = tmp_path / "agent.toml"
    path.write_text(f'[agent]\nstate_dir = "{tmp_path / "state"}"\n[mqtt]\n{more}')
    return path


async def test_the_core_is_told_of_it_and_commands_do_not_sleep(tmp_path: Path) -> None:
    config = load_config(configured(tmp_path, "online_s = 300\nevery_s = 3600"), {})
    with assembled(config, guest=True) as service:
        assert service.core.settings.sleep is None
    with assembled(config) as service:
        assert service.core.settings.sleep == SleepPlan(online_s=300.0, every_s=3600.0)
        assert service.core.sleep.plan == service.core.settings.sleep


def test_the_environment_can_say_it_as_well(tmp_path: Path) -> None:
    config = load_config(configured(tmp_path, ""), {"GRAPEVINE_MQTT_ONLINE_S": "300", "GRAPEVINE_MQTT_EVERY_S": "3600"})
    assert (config.mqtt.online_s, config.mqtt.every_s) == (300.0, 3600.0)


@pytest.mark.parametrize(("online_s", "is_warned_of"), [(19, True), (20, False)])
async def test_a_window_of_few_heartbeats_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, online_s: int, is_warned_of: bool
) -> None:
    config = load_config(configured(tmp_path, f"online_s = {online_s}\nevery_s = 3600"), {})
    with assembled(config):
        assert ("write at least 20, which is 4 heartbeats" in caplog.text) == is_warned_of


async def test_a_server_does_not_sleep(tmp_path: Path) -> None:
    config = load_config(configured(tmp_path, "online_s = 300\nevery_s = 3600"), {})
    with pytest.raises(ConfigError, match="a server does not sleep"), assembled(config, role="server"):
        pass
