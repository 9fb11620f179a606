import re
from pathlib import Path

import pytest

from grapevine_agent.config.agent_toml import (
    AgentConfig,
    Config,
    Limits,
    check_files,
    default_state_dir,
    find_config,
    load_config,
)
from grapevine_agent.config.example import EXAMPLE_CONFIG
from grapevine_proto.errors import ConfigError

ALICE = "aaaaaaaaaaaaaaaaaaaa"
BOB = "bbbbbbbbbbbbbbbbbbbb"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path / "home")}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> str:
    """What is said of a file with a mistake in it."""
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ or {})
    return str(caught.value)


def test_an_empty_file_works(tmp_path: Path, environ: dict[str, str]) -> None:
    path = write(tmp_path, "")
    config = load_config(path, environ)
    assert config == Config(agent=AgentConfig(name=config.agent.name, state_dir=config.agent.state_dir), path=path)
    assert config.agent.name
    assert config.agent.state_dir.is_absolute()
    assert config.mqtt.brokers == ("mqtt://localhost:1883",)
    assert config.review.approvals == 2


def test_the_example_says_what_the_defaults_are(tmp_path: Path, environ: dict[str, str]) -> None:
    path = write(tmp_path, EXAMPLE_CONFIG)
    assert load_config(path, environ) == load_config(write(tmp_path, ""), environ)


def test_every_setting_of_the_example_can_be_switched_on(tmp_path: Path, environ: dict[str, str]) -> None:
    text = re.sub(r"^#(?! |$)", "", EXAMPLE_CONFIG, flags=re.MULTILINE)
    config = load_config(write(tmp_path, text), environ)
    assert config.agent.name == "kitchen"
    assert config.mqtt.key_file == tmp_path / "agent.key"
    assert config.data[0].kind == "digits-8x8"
    assert config.review.trusted == (ALICE, BOB)
    assert config.limits == Limits(
        memory_mb=700,
        cores=4,
        threads=3,
        max_batch=64,
        max_parameters=5_000_000,
        chunk_window=4,
        state_mb=2000,
        save_mb_per_day=1000,
        encoding="auto",
        can_train=True,
    )
    # What the example shows as a default is the default.
    defaults = load_config(write(tmp_path, ""), environ)
    for key in ("brokers", "version", "root", "max_packet_bytes", "heartbeat_s"):
        assert getattr(config.mqtt, key) == getattr(defaults.mqtt, key), key
    for key in ("profile", "consent", "log_level"):
        assert getattr(config.agent, key) == getattr(defaults.agent, key), key


def test_paths_start_at_the_folder_of_the_file(tmp_path: Path, environ: dict[str, str]) -> None:
    text = '[agent]\nstate_dir = "~/state"\nprofile = "mine.toml"\n[[data]]\nkind = "k"\npath = "sub/d.npz"\n'
    config = load_config(write(tmp_path, text), environ)
    assert config.data[0].path == tmp_path / "sub/d.npz"
    assert config.data[0].name == "d"
    assert config.agent.state_dir == tmp_path / "home/state"
    assert config.agent.profile == str(tmp_path / "mine.toml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[mqtt]\nbroker = ['mqtt://a']", ["mqtt.broker", "unknown key", "did you mean 'brokers'?"]),
        ("[mqqt]\n", ["mqqt", "unknown table", "did you mean 'mqtt'?"]),
        ("[trust]\nzzz = 1", ["trust.zzz", "known here: approvals, deny_publishers, publishers, servers"]),
        ("[agent]\nconsent = 'asc'", ["agent.consent = 'asc'", "did you mean 'ask'?"]),
        ("[agent]\nname = 3", ["agent.name = 3", 'write name = "3"']),
        ("agent = 3", ["agent = 3", "write [agent]"]),
        ("[data]\nkind = 'x'", ["data", "write [[data]]"]),
        ("[[data]]\nkind = 'x'", ["data[1].path is missing", "digits.npz"]),
        ("[[data]]\nkind = 'x'\npath = 'x.txt'", ["data[1].path = 'x.txt'", ".npz"]),
        ("[[data]]\nkind = 'x'\npath = 'x.npz'\nlabel = 1", ["data[1].label", "unknown key"]),
        ("[[data]]\nkind='x'\npath='a.npz'\n[[data]]\nkind='y'\npath='b/a.npz'", ["data[2].name", "two sources"]),
        ("[mqtt]\nkeepalive_s = 'soon'", ["mqtt.keepalive_s = 'soon'", "from 5 to 65535"]),
        ("[mqtt]\nkeepalive_s = true", ["mqtt.keepalive_s = True", "whole number"]),
        ("[mqtt]\nheartbeat_s = nan", ["mqtt.heartbeat_s = nan", "0.05 to 3600"]),
        ("[mqtt]\nmax_packet_bytes = 1000", ["mqtt.max_packet_bytes = 1000", "4096"]),
        ("[mqtt]\nbrokers = []", ["mqtt.brokers", "at least one"]),
        ("[mqtt]\nbrokers = 'mqtt://a'", ["mqtt.brokers", "must be a list of strings"]),
        ("[mqtt]\nbrokers = ['tcp://a']", ["'tcp://a' is no broker URL", "mqtt://"]),
        ("[mqtt]\nbrokers = ['mqtt://a:99999']", ["mqtt://a:99999", "Port out of range"]),
        ("[mqtt]\nbrokers = ['mqtt://a:0']", ["mqtt://a:0"]),
        ("[mqtt]\nbrokers = ['mqtt://']", ["'mqtt://' is no broker URL"]),
        ("[mqtt]\nconnect = 'both'", ["mqtt.connect = 'both'", 'must be one of "first", "all"']),
        ("[mqtt]\ngateway = true", ["mqtt.gateway", "two or more in brokers", 'connect = "all"']),
        ("[mqtt]\ngateway = true\nconnect = 'all'", ["mqtt.gateway", "two or more in brokers"]),
        ("[mqtt]\nroot = 'a/b/c'", ["mqtt.root = 'a/b/c'", "one or two levels"]),
        ("[mqtt]\ncert_file = 'c.pem'", ["mqtt.cert_file", "needs key_file"]),
        ("[review]\napprovals = -1", ["review.approvals = -1", "from 0"]),
        ("[review]\ntrusted = ['Bob']", ["review.trusted", "'Bob'", "20 characters"]),
        (f"[review]\ntrusted = ['{ALICE}']", ["review.trusted", "can never give 2", "approvals = 1"]),
        ("[limits]\nchunk_window = 3", ["limits.chunk_window = 3", "1 (slow links) or 4"]),
        ("[limits]\ncan_train = 'yes'", ["limits.can_train = 'yes'", "can_train = true"]),
        ("name = kitchen", ["not TOML", "line 1"]),
    ],
)
def test_a_mistake_is_told_with_file_key_value_and_remedy(tmp_path: Path, text: str, says: list[str]) -> None:
    said = refusal(tmp_path, text)
    for part in [str(tmp_path), *says]:
        assert part in said


@pytest.mark.parametrize(
    "text",
    [
        "[mqtt]\npassword = 'hunter2'",
        "[mqtt]\nbrokers = ['mqtt://me:hunter2@host']",
        "[mqtt]\nbrokers = ['mqtt://me:hunter2@host:zz']",
        "[mqtt]\nbrokers = ['tcp://a', 'mqtt://me:hunter2@host']",
    ],
)
def test_a_password_in_the_file_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    said = refusal(tmp_path, text)
    assert "password_file" in said
    assert "GRAPEVINE_MQTT_PASSWORD" in said
    assert "hunter2" not in said


def test_passwords_come_from_a_file_or_the_environment(
    tmp_path: Path, environ: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from file\n")
    secret.chmod(0o600)
    path = write(tmp_path, "[mqtt]\npassword_file = 'secret'")
    mqtt = load_config(path, environ).mqtt
    assert mqtt.read_password() == "from file"
    assert not caplog.records
    secret.chmod(0o644)
    mqtt.read_password()
    assert "chmod 600" in caplog.text
    config = load_config(path, environ | {"GRAPEVINE_MQTT_PASSWORD": "from env"})
    assert config.mqtt.read_password() == "from env"
    assert "from env" not in repr(config)
    assert load_config(write(tmp_path, ""), environ).mqtt.read_password() is None


def test_a_password_file_that_is_empty_or_lost_is_told_when_it_is_needed(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    config = load_config(write(tmp_path, "[mqtt]\npassword_file = 'secret'"), environ)
    with pytest.raises(ConfigError, match=r"secret.*cannot be read"):
        config.mqtt.read_password()
    (tmp_path / "secret").write_text("\n")
    with pytest.raises(ConfigError, match="empty"):
        config.mqtt.read_password()


def test_the_environment_overrides_the_file(tmp_path: Path, environ: dict[str, str]) -> None:
    path = write(tmp_path, "[agent]\nname = 'file'\nconsent = 'never'\n[mqtt]\nkeepalive_s = 20\n")
    overrides = {
        "GRAPEVINE_NAME": "environment",
        "GRAPEVINE_STATE_DIR": "/somewhere",
        "GRAPEVINE_MQTT_BROKERS": "mqtt://a, mqtts://b:8884",
        "GRAPEVINE_MQTT_KEEPALIVE_S": "40",
        "GRAPEVINE_MQTT_HEARTBEAT_S": "0.5",
        "GRAPEVINE_REVIEW_APPROVALS": "1",
        "GRAPEVINE_TRUST_SERVERS": f"{ALICE},{BOB}",
        "GRAPEVINE_LIMITS_CAN_TRAIN": "false",
        "GRAPEVINE_LIMITS_THREADS": "1",
    }
    config = load_config(path, environ | overrides)
    assert config.agent.name == "environment"
    assert config.agent.consent == "never"
    assert config.agent.state_dir == Path("/somewhere")
    assert config.mqtt.brokers == ("mqtt://a", "mqtts://b:8884")
    assert config.mqtt.keepalive_s == 40
    assert config.mqtt.heartbeat_s == 0.5
    assert config.review.approvals == 1
    assert config.trust.servers == (ALICE, BOB)
    assert config.limits.can_train is False
    assert config.limits.threads == 1


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GRAPEVINE_MQTT_KEEPALIVE_S", "soon"),
        ("GRAPEVINE_MQTT_HEARTBEAT_S", "soon"),
        ("GRAPEVINE_LIMITS_CAN_TRAIN", "perhaps"),
        ("GRAPEVINE_CONSENT", "maybe"),
        ("GRAPEVINE_REVIEW_TRUSTED", "Bob"),
    ],
)
def test_a_wrong_variable_is_named_in_the_error(tmp_path: Path, variable: str, value: str) -> None:
    said = refusal(tmp_path, "", {variable: value})
    assert f"environment: {variable} = {value!r}" in said


def test_an_unknown_variable_is_warned_of(
    tmp_path: Path, environ: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    load_config(write(tmp_path, ""), environ | {"GRAPEVINE_MQTT_BROKER": "mqtt://a", "GRAPEVINE_CONFIG": "x"})
    assert [record.getMessage() for record in caplog.records] == [
        "environment variable GRAPEVINE_MQTT_BROKER is no setting; did you mean 'GRAPEVINE_MQTT_BROKERS'?"
    ]


def test_files_are_searched_for_in_their_order(tmp_path: Path) -> None:
    system = tmp_path / "etc.toml"
    home = tmp_path / "xdg/grapevine/agent.toml"
    environ = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    assert find_config(None, environ, system_config=system) is None
    home.parent.mkdir(parents=True)
    home.touch()
    assert find_config(None, environ, system_config=system) == home
    system.touch()
    assert find_config(None, environ, system_config=system) == system
    environ["GRAPEVINE_CONFIG"] = "/named.toml"
    assert find_config(None, environ, system_config=system) == Path("/named.toml")
    assert find_config(Path("/given.toml"), environ, system_config=system) == Path("/given.toml")


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lost\.toml: there is no such file"):
        load_config(tmp_path / "lost.toml", {})
    with pytest.raises(ConfigError, match=r"lost\.toml: there is no such file"):
        load_config(None, {"GRAPEVINE_CONFIG": str(tmp_path / "lost.toml")})
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path, {})


def test_state_lives_where_the_system_has_it(tmp_path: Path) -> None:
    assert default_state_dir({}, is_root=True) == Path("/var/lib/grapevine")
    assert default_state_dir({"XDG_STATE_HOME": "/s", "HOME": "/h"}, is_root=False) == Path("/s/grapevine")
    assert default_state_dir({"HOME": "/h"}, is_root=False) == Path("/h/.local/state/grapevine")
    # The XDG specification has relative paths ignored.
    assert default_state_dir({"XDG_STATE_HOME": "s", "HOME": "/h"}, is_root=False) == Path("/h/.local/state/grapevine")


def test_missing_files_are_found_before_they_are_needed(tmp_path: Path, environ: dict[str, str]) -> None:
    text = "[mqtt]\nca_file = 'ca.pem'\n"
    config = load_config(write(tmp_path, text), environ)
    for by_owner in (True, False):
        with pytest.raises(ConfigError, match=r"mqtt\.ca_file = .*ca\.pem': is not there; correct the path"):
            check_files(config, by_owner=by_owner)
    (tmp_path / "ca.pem").touch()
    check_files(config)


def test_an_agent_starts_without_the_data_that_are_not_there(tmp_path: Path, environ: dict[str, str]) -> None:
    check_files(load_config(write(tmp_path, "[[data]]\nkind = 'k'\npath = 'd.npz'\n"), environ))


def test_a_secret_that_somebody_else_may_not_read_is_no_mistake_of_theirs(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(write(tmp_path, "[mqtt]\npassword_file = 'secret'\n"), environ)
    (tmp_path / "secret").touch()
    monkeypatch.setattr("os.access", lambda *_: False)
    check_files(config, by_owner=False)
    with pytest.raises(ConfigError, match=r"password_file = .* cannot be read; check its permissions"):
        check_files(config)


def test_a_file_that_is_not_utf_8_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_bytes(b'[agent]\nname = "K\xfcche"')
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(path, {})
