"""`[homeassistant]` and `[metrics]`: both off, and what an owner may write."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.agent.config.test_config import refusal, write

from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.config.homeassistant import HomeAssistantConfig
from grapevine_agent.config.metrics import MetricsConfig


def test_both_are_off_unless_the_owner_asks_for_them(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, ""), {})
    assert (config.homeassistant, config.metrics) == (HomeAssistantConfig(), MetricsConfig())
    assert not config.homeassistant.enabled
    assert not config.metrics.enabled
    assert config.metrics.listen == "127.0.0.1:9464"


def test_the_environment_has_its_say(tmp_path: Path) -> None:
    environ = {"GRAPEVINE_HOMEASSISTANT_ENABLED": "true", "GRAPEVINE_METRICS_LISTEN": "localhost:9000"}
    config = load_config(write(tmp_path, ""), environ)
    assert config.homeassistant.enabled
    assert (config.metrics.host, config.metrics.port) == ("127.0.0.1", 9000)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prefix = 'home assistant'", ["homeassistant.prefix = 'home assistant'", 'prefix = "homeassistant"']),
        ("prefix = 'a/#'", ["homeassistant.prefix = 'a/#'", "right form"]),
        ("root = 'grapevine/v1'", ["homeassistant.root", "mqtt.root = 'grapevine/v1'", "write another one"]),
        ("root = 'grapevine/v1/home'", ["homeassistant.root", "mqtt.root = 'grapevine/v1'"]),
        ("root = 'grapevine'", ["homeassistant.root", "mqtt.root = 'grapevine/v1'"]),
        ("root = 'homeassistant'", ["homeassistant.root", "prefix = 'homeassistant'"]),
        ("status = 'grapevine/v1/x'", ["homeassistant.status", "mqtt.root"]),
        ("every_s = 1", ["homeassistant.every_s = 1", "from 5 to 3600"]),
        ("enabled = 'yes'", ["homeassistant.enabled = 'yes'", "true or false"]),
        ("enable = true", ["homeassistant.enable", "did you mean 'enabled'?"]),
    ],
)
def test_a_mistake_about_home_assistant_is_told_with_its_remedy(tmp_path: Path, text: str, says: list[str]) -> None:
    said = refusal(tmp_path, f"[homeassistant]\n{text}")
    for part in says:
        assert part in said


def test_roots_that_only_begin_alike_are_two(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "[homeassistant]\nroot = 'grapevine/v1-home'"), {})
    assert config.homeassistant.root == "grapevine/v1-home"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("listen = '9464'", ["metrics.listen = '9464'", 'listen = "127.0.0.1:9464"']),
        ("listen = '127.0.0.1:0'", ["metrics.listen", "an address and a port"]),
        ("listen = '127.0.0.1:70000'", ["metrics.listen", "an address and a port"]),
        ("listen = 'hub.local:9464'", ["'hub.local' is no IP address", 'listen = "127.0.0.1:9464"']),
        ("listen = '0.0.0.0:9464'", ["would let other machines", "write 127.0.0.1:9464", "allow_remote = true"]),
        ("listen = '[::]:9464'", ["would let other machines", "allow_remote = true"]),
    ],
)
def test_a_mistake_about_metrics_is_told_with_its_remedy(tmp_path: Path, text: str, says: list[str]) -> None:
    said = refusal(tmp_path, f"[metrics]\n{text}")
    for part in says:
        assert part in said


@pytest.mark.parametrize(
    ("listen", "host"), [("[::1]:9464", "::1"), ("localhost:9464", "127.0.0.1"), ("127.1.2.3:80", "127.1.2.3")]
)
def test_loopback_needs_no_word(tmp_path: Path, listen: str, host: str) -> None:
    assert load_config(write(tmp_path, f"[metrics]\nlisten = '{listen}'"), {}).metrics.host == host


def test_other_machines_are_let_in_where_the_owner_says_so(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "[metrics]\nlisten = '0.0.0.0:9464'\nallow_remote = true"), {})
    assert config.metrics.listen == "0.0.0.0:9464"
