"""All that is wrong with a file is told at once, each with its line, and where it belongs."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.config.mistakes import MistakesError
from grapevine_proto.errors import ConfigError

ALICE = "aaaaaaaaaaaaaaaaaaaa"


def mistakes(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> MistakesError:
    path = tmp_path / "agent.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(MistakesError) as caught:
        load_config(path, {"GRAPEVINE_STATE_DIR": str(tmp_path / "state"), **(environ or {})})
    return caught.value


def places(error: MistakesError) -> list[tuple[int, str]]:
    return [(mistake.line, mistake.key) for mistake in error.mistakes]


FILE = """\
# The kitchen.
[agent]
consent = "asc"
profile = "raspbery-pi-4b"
brokers = ["mqtt://hub.local"]

[mqtt]
keepalive_s = 3
root = "a/b/c"
[mqtt.scope]
within_miles = 5

[[data]]
kind = "digits-8x8"
path = "digits.txt"

[[data]]
kind = "Digits"
path = "digits.npz"
lable = 1

[review]
approvals = 2
veto = "nobody"

[limits]
memory_mb = 0
"""


def test_every_mistake_is_told_in_one_go_with_its_line_key_value_and_what_is_nearest(tmp_path: Path) -> None:
    error = mistakes(tmp_path, FILE, {"GRAPEVINE_MQTT_HEARTBEAT_S": "soon"})
    assert places(error) == [
        (3, "agent.consent"),
        (4, "agent.profile"),
        (5, "agent.brokers"),
        (8, "mqtt.keepalive_s"),
        (9, "mqtt.root"),
        (11, "mqtt.scope.within_miles"),
        (15, "data[1].path"),
        (18, "data[2].kind"),
        (20, "data[2].lable"),
        (24, "review.veto"),
        (27, "limits.memory_mb"),
        (0, "mqtt.heartbeat_s"),
    ]
    head, *lines = str(error).splitlines()
    assert head == f"{tmp_path / 'agent.toml'}: 12 mistakes"
    for line, says in (
        (0, 'line 3: agent.consent = \'asc\': must be one of "auto", "ask", "never"; did you mean \'ask\'?'),
        (1, "line 4: agent.profile = 'raspbery-pi-4b': there is no such firmware profile; did you mean "),
        (2, "line 5: agent.brokers: unknown key; did you mean brokers in [mqtt] or [mqtt.scope]?"),
        (3, "line 8: mqtt.keepalive_s = 3: must be a whole number from 5 to 65535; the nearest is 5"),
        (11, "environment: GRAPEVINE_MQTT_HEARTBEAT_S = 'soon': must be a number from 0.05 to 3600"),
    ):
        assert says in lines[line], lines[line]


def test_one_mistake_is_one_line_and_each_mistake_alone_is_told_the_same(tmp_path: Path) -> None:
    error = mistakes(tmp_path, "[mqtt]\nroot = 'a/b/c'\n")
    assert str(error).startswith(f"{tmp_path / 'agent.toml'}, line 2: mqtt.root = 'a/b/c': ")
    assert "\n" not in str(error)
    assert [m.said for m in mistakes(tmp_path, FILE).mistakes if m.key == "mqtt.root"] == [error.mistakes[0].said]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[agent]\nscope = 'site'", "agent.scope: unknown key; did you mean [mqtt] scope?"),
        ("[agent]\nonline_s = 300", "agent.online_s: unknown key; did you mean [mqtt] online_s?"),
        ("brokers = ['mqtt://a']", "brokers: unknown key; did you mean [mqtt] brokers?"),
        ("[mqtt]\nname = 'kitchen'", "mqtt.name: unknown key; did you mean name in [agent], [[data]] or [[consent]]?"),
        ("[mqtt]\nmemory_mb = 700", "mqtt.memory_mb: unknown key; did you mean memory_mb in [limits] or [engine]?"),
        (
            "[agent]\nupload_mb_per_sec = 1",
            "agent.upload_mb_per_sec: unknown key; did you mean [limits] upload_mb_per_s?",
        ),
        ("[review]\npublishers = []", "review.publishers: unknown key; did you mean [trust] publishers?"),
        (
            "[agent]\nallow_remote = true",
            "agent.allow_remote: unknown key; did you mean allow_remote in [metrics] or [[trainer]]?",
        ),
        ("[agent]\nkeep_days = 3", "agent.keep_days: unknown key; did you mean [[data]] keep_days?"),
        ("[agent]\nanswer = 'auto'", "agent.answer: unknown key; did you mean [[consent]] answer?"),
        ("[scope]\nsite = true", "scope: unknown table; did you mean [mqtt.scope]?"),
        ("[agent.scope]\nsite = true", "agent.scope: unknown table; did you mean [mqtt.scope]?"),
        ("[mqtt]\nbroker = ['mqtt://a']", "mqtt.broker: unknown key; did you mean 'brokers'?"),  # near, and at home
    ],
)
def test_a_key_in_the_wrong_table_is_shown_where_it_belongs(tmp_path: Path, text: str, says: str) -> None:
    (mistake,) = mistakes(tmp_path, text).mistakes
    assert mistake.said == says


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        # What comes only of a wrong value beside it is not told.
        ("[mqtt]\ngateway = true\nconnect = 'al'\n", ["mqtt.connect"]),
        ("[mqtt]\nhost_broker = true\ndiscover = 7\n", ["mqtt.discover"]),
        ("[mqtt]\nonline_s = 300\nevery_s = 'hour'\n", ["mqtt.every_s"]),
        ("[review]\nrejections = 3\nveto = 'non'\n", ["review.veto"]),
        ("[[consent]]\nanswer = 'auto'\nkind = 'Digits'\n", ["consent[1].kind"]),
        ("[mqtt]\nbrokers = ['tcp://a']\n[mqtt.scope]\nbrokers = ['mqtt://b']\n", ["mqtt.brokers"]),
        ("[mqtt]\nbrokers = []\ngateway = true\nconnect = 'all'\n", ["mqtt.brokers"]),
        ("[agent]\nsite = 3\n[mqtt]\nscope = 'site'\n", ["agent.site"]),
        ("[agent]\nlocation = 3\n[mqtt.scope]\nwithin_km = 5\n", ["agent.location"]),
        # And one key is told of once.
        ("[mqtt]\npassword = 'hunter2'\n", ["mqtt.password"]),
        (f"[trust]\npublishers = ['{ALICE}']\ndeny_publishers = ['{ALICE}', 'Bob']\n", ["trust.deny_publishers"]),
    ],
)
def test_what_only_follows_from_a_mistake_is_none(tmp_path: Path, text: str, keys: list[str]) -> None:
    assert [mistake.key for mistake in mistakes(tmp_path, text).mistakes] == keys


def test_the_mistakes_of_every_table_are_told_together(tmp_path: Path) -> None:
    text = """
[agent]
labels = { "A b" = "x" }
[governor]
slow_above_c = 80
pause_above_c = 70
quiet_hours = ["25:00-26:00", "22:00-22:00"]
on_battery = "stop"
power_sensor = "ina"
[homeassistant]
root = "homeassistant/x"
every_s = 0
[metrics]
listen = "0.0.0.0:9464"
enabled = "yes"
[engine]
enabled = true
allow_images = ["nginx:latest"]
allow_ports = [0]
[limits]
memory_mb = 0
"""
    assert [(mistake.key, mistake.line) for mistake in mistakes(tmp_path, text).mistakes] == [
        ("agent.labels", 3),
        ("governor.slow_above_c", 5),
        ("governor.quiet_hours", 7),
        ("governor.on_battery", 8),
        ("governor.power_sensor", 9),
        ("homeassistant.root", 11),
        ("homeassistant.every_s", 12),
        ("metrics.listen", 14),
        ("metrics.enabled", 15),
        ("engine.allow_images", 18),
        ("engine.allow_ports", 19),
        ("limits.memory_mb", 21),
    ]


def test_secrets_stay_out_of_all_of_them(tmp_path: Path) -> None:
    text = (
        "[mqtt]\npassword = 'hunter2'\npasword = 'hunter2'\nbrokers = 'mqtt://me:hunter2@hub'\nkeepalive_s = 1\n"
        "[mqtt.scope]\nbrokers = ['mqtt://me:hunter2@hub']\n[agent]\nbrokers = ['mqtt://me:hunter2@hub']\n"
    )
    error = mistakes(tmp_path, text, {"GRAPEVINE_MQTT_BROKERS": "mqtt://me:hunter2@hub"})
    assert len(error.mistakes) == 6
    assert "hunter2" not in str(error)


def test_a_damaged_trust_file_is_told_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    trust = tmp_path / "state" / "trust.toml"
    trust.write_text(f"[[peer]]\nid = '{ALICE}'\nas = 'freind'\n[[peer]]\nid = 'Bob'\n")
    error = mistakes(tmp_path, f"[review]\ntrusted = ['{ALICE}']\nveto = 'non'\n")
    assert [(mistake.source, mistake.line) for mistake in error.mistakes] == [
        (str(tmp_path / "agent.toml"), 3),
        (str(trust), 3),
        (str(trust), 5),
    ]
    assert str(error).startswith("3 mistakes\n")


def test_lines_are_those_of_the_file_whatever_form_its_tables_have(tmp_path: Path) -> None:
    text = (
        'agent = { name = "kitchen", consent = "asc" }\n'
        'mqtt.root = "a/b/c"\n'
        "[limits]\n"
        "#memory_mb = 0\n"
        '"threads" = 0\n'
        'cores = """\n'
        "max_batch = 0\n"
        '"""\n'
        "max_batch = 0 # and more\n"
    )
    assert places(mistakes(tmp_path, text)) == [
        (1, "agent.consent"),
        (2, "mqtt.root"),
        (5, "limits.threads"),
        (6, "limits.cores"),
        (9, "limits.max_batch"),
    ]


def test_what_is_missing_has_the_line_of_its_table(tmp_path: Path) -> None:
    text = "[[data]]\nkind = 'a'\npath = 'a.npz'\n\n[[data]]\npath = 'b.npz'\n\n[[trainer]]\n"
    assert places(mistakes(tmp_path, text)) == [(5, "data[2].kind"), (8, "trainer[1].url"), (8, "trainer[1].task")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("host_after_s = 5", "line 3: mqtt.host_after_s has no effect without host_broker; write host_broker = true"),
        ("discover_on = '10.0.0.1'", "line 3: mqtt.discover_on has no effect without discover; write discover = true"),
    ],
)
def test_a_key_without_its_partner_is_warned_of(
    tmp_path: Path, text: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(f"\n[mqtt]\n{text}\n")
    with caplog.at_level(logging.WARNING):
        load_config(path, {"HOME": str(tmp_path)})
    assert says in caplog.text


def test_a_file_that_is_all_right_is_read_and_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("[mqtt]\ndiscover = true\ndiscover_on = '10.0.0.1'\nhost_broker = true\nhost_after_s = 5\n")
    load_config(path, {"HOME": str(tmp_path)})
    assert not caplog.records


def test_an_error_that_is_raised_still_ends_nothing_but_its_own_part(tmp_path: Path) -> None:
    """Columns of a recorded source are read until the first mistake; the rest of the file is not its business."""
    text = "[[data]]\nkind = 'a'\nsource = 'mqtt'\ntopic = 'x'\ncolumns = { a = 3 }\n[limits]\nthreads = 0\n"
    assert places(mistakes(tmp_path, text)) == [(5, "data[1].columns"), (7, "limits.threads")]


def test_who_reads_one_error_keeps_reading_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "lost.toml", {})
    assert str(caught.value).count("\n") == 0
