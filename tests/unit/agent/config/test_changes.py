"""What another configuration changes at once, and what it changes at the next start."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from grapevine_agent.config.agent_toml import AgentConfig, Config, Limits, MqttConfig, load_config
from grapevine_agent.config.changes import AT_START, LIVE_TOPICS, TRAINERS, changes
from grapevine_agent.config.firmware import device_profile, with_profile
from grapevine_agent.config.governor import GovernorConfig
from grapevine_agent.config.homeassistant import HomeAssistantConfig
from grapevine_agent.config.metrics import MetricsConfig

BEFORE = """
[agent]
name = "kitchen"
[mqtt]
brokers = ["mqtt://hub.local"]
[[data]]
kind = "digits"
path = "digits.npz"
[[data]]
kind = "climate"
source = "mqtt"
topic = "home/+"
columns = { warmth = "$.t" }
"""


def read(folder: Path, text: str, environ: dict[str, str] | None = None) -> Config:
    path = folder / "agent.toml"
    path.write_text(text)
    return load_config(path, {"HOME": str(folder), **(environ or {})})


def test_nothing_is_changed_by_the_same_file(tmp_path: Path) -> None:
    found = changes(read(tmp_path, BEFORE), read(tmp_path, BEFORE))
    assert (found.changed, found.restart) == ((), ())
    assert found.applied == read(tmp_path, BEFORE)


def test_what_can_change_is_applied_and_what_cannot_is_named_and_stays(tmp_path: Path) -> None:
    before = read(tmp_path, BEFORE)
    text = BEFORE.replace('"kitchen"', '"attic"\nconsent = "auto"\nlog_level = "debug"').replace("hub.local", "other")
    text = text.replace("[[data]]", '[[consent]]\nkind = "digits"\nanswer = "never"\n[[data]]', 1)
    text += "[review]\napprovals = 1\n[limits]\nmemory_mb = 300\nstate_mb = 99\n"
    wanted = read(tmp_path, text.replace('"digits.npz"', '"more.npz"').replace("home/+", "house/+"))
    found = changes(before, wanted)
    agent = {"agent.name", "agent.consent", "agent.log_level"}
    assert set(found.changed) == {*agent, "review.approvals", "limits.memory_mb", "[[consent]]", "[[data]]"}
    assert set(found.restart) == {"mqtt.brokers", "limits.state_mb", LIVE_TOPICS}
    applied = found.applied
    assert applied.mqtt == before.mqtt
    assert applied.limits == Limits(memory_mb=300)
    assert applied.agent == wanted.agent
    assert [source.path.name for source in applied.data if source.recording is None] == ["more.npz"]
    assert [source.recording.topic for source in applied.data if source.recording is not None] == ["home/+"]
    again = changes(applied, wanted)
    assert again.changed == ()
    assert set(again.restart) == set(found.restart), "what was not applied is named for as long as it is not"
    assert changes(applied, applied).restart == ()


def test_a_trainer_of_the_owners_and_a_password_need_a_restart(tmp_path: Path) -> None:
    before = read(tmp_path, BEFORE)
    text = BEFORE + '[[trainer]]\nkind = "digits"\nurl = "http://127.0.0.1:9"\n'
    found = changes(before, read(tmp_path, text, {"GRAPEVINE_MQTT_PASSWORD": "secret"}))
    assert set(found.restart) == {TRAINERS, "mqtt.password"}
    assert found.applied.trainers == ()
    assert "secret" not in repr(found)


def test_a_device_that_began_without_trainers_gets_them_at_the_next_start(tmp_path: Path) -> None:
    before = read(tmp_path, BEFORE)
    wanted = read(tmp_path, BEFORE + "[limits]\ncan_train = true\n")
    assert changes(before, wanted).changed == ("limits.can_train",)
    assert changes(before, wanted, trains=False).restart == ("limits.can_train",)


def test_other_limits_of_the_governor_hold_at_once_and_where_it_shows_itself_changes_at_the_next_start(
    tmp_path: Path,
) -> None:
    before = read(tmp_path, BEFORE)
    text = BEFORE + (
        "[governor]\npause_above_c = 70\n[homeassistant]\nenabled = true\n"
        '[metrics]\nenabled = true\nlisten = "127.0.0.2:9999"\nallow_remote = true\n'
    )
    found = changes(before, read(tmp_path, text))
    assert found.changed == ("governor.pause_above_c",)
    shown = ("homeassistant.enabled", "metrics.enabled", "metrics.listen", "metrics.allow_remote")
    assert found.restart == shown
    assert found.applied.governor.pause_above_c == 70
    assert not found.applied.metrics.enabled


def test_what_the_profile_fills_in_is_no_change(tmp_path: Path) -> None:
    config = read(tmp_path, BEFORE)
    holds = with_profile(config, device_profile(config))
    assert holds.mqtt.keepalive_s
    wanted = read(tmp_path, BEFORE)
    assert changes(holds, with_profile(wanted, device_profile(wanted))).restart == ()


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        ("agent", AgentConfig),
        ("mqtt", MqttConfig),
        ("limits", Limits),
        ("governor", GovernorConfig),
        ("homeassistant", HomeAssistantConfig),
        ("metrics", MetricsConfig),
    ],
)
def test_every_key_that_is_said_to_need_a_restart_exists(table: str, kind: type) -> None:
    assert set(AT_START[table]) <= {each.name for each in fields(kind)}


def test_the_trust_file_changes_what_it_is_about(tmp_path: Path) -> None:
    before = read(tmp_path, BEFORE)
    wanted = replace(before, trust=replace(before.trust, servers=("a" * 20,)))
    assert changes(before, wanted).changed == ("trust.servers",)
