"""A configuration with mistakes is read as far as it can be."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from grapevine_agent.config.agent_toml import LISTS, TABLES, Config, load_config
from grapevine_agent.doctor import configured
from grapevine_agent.doctor.situation import find_out
from grapevine_agent.identity import IDENTITY_FILE, first_identity

GOOD = '[agent]\nstate_dir = "state"\n[mqtt]\nbrokers = ["mqtt://hub.local:1883"]\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "without", "says"),
    [
        (GOOD, (), ""),
        (GOOD + "[review]\napprovals = -1\n", ("review",), "approvals"),
        (GOOD + "[limits]\nmemory = 5\n[trust]\nserver = 1\n", ("limits", "trust"), "limits.memory and trust.server"),
        (GOOD.replace("brokers", "broker"), ("mqtt",), "did you mean"),
        ("nonsense = 1\n" + GOOD + "[mqt]\nroot = 5", ("mqt", "nonsense"), "mqt and nonsense"),
    ],
    ids=["good", "one", "two", "a key", "strays"],
)
def test_what_is_wrong_in_one_table_costs_that_table_alone(
    tmp_path: Path, text: str, without: tuple[str, ...], says: str
) -> None:
    situation = find_out(written(tmp_path, text), {})
    assert situation.without == without
    assert len(situation.mistakes) == len(without)
    assert all(each in "".join(situation.mistakes) for each in says.split(" and "))
    assert situation.config is not None
    assert situation.config.agent.state_dir == tmp_path / "state"
    assert situation.knows("agent", "data")
    assert situation.knows(*without) == (not without)
    if "mqtt" not in without:
        assert situation.config.mqtt.brokers == ("mqtt://hub.local:1883",)
    (line, *_) = configured.configuration(situation)
    assert line.level == ("fail" if without else "ok")


@pytest.mark.parametrize(
    ("environ", "without"),
    [
        ({"GRAPEVINE_LIMITS_MEMORY_MB": "abc"}, ("limits",)),
        ({"GRAPEVINE_HOMEASSISTANT_EVERY_S": "1", "GRAPEVINE_METRICS_LISTEN": "x"}, ("homeassistant", "metrics")),
        ({"GRAPEVINE_GOVERNOR_PAUSE_ABOVE_C": "hot"}, ("governor",)),
        ({"GRAPEVINE_MQTT_BROKERS": "mqtt://me:secret@hub.local"}, ("mqtt",)),
        ({"GRAPEVINE_ENGINE_CPUS": "many"}, ("engine",)),
    ],
    ids=lambda each: next(iter(each), "") if isinstance(each, dict) else None,
)
def test_a_variable_that_is_wrong_costs_its_table_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], without: tuple[str, ...]
) -> None:
    num_read = 0

    def counted(*words: Any, **more: Any) -> Config:
        nonlocal num_read
        num_read += 1
        return load_config(*words, **more)

    monkeypatch.setattr("grapevine_agent.doctor.situation.load_config", counted)
    path = written(tmp_path, GOOD + "[governor]\npause_above_c = 70\n")
    situation = find_out(path, environ)
    assert situation.without == without
    assert len(situation.mistakes) == len(without)
    assert situation.knows("agent", "data", *({"mqtt", "governor", "limits"} - set(without)))
    assert situation.config is not None
    assert situation.config.agent.state_dir == tmp_path / "state"
    assert num_read < 6
    lines = configured.configuration(situation)
    assert {each.level for each in lines} == {"fail"}
    assert not any("secret" in each.says for each in lines)
    if "limits" in without:
        (line,) = lines
        assert "GRAPEVINE_LIMITS_MEMORY_MB" in line.says
        assert line.remedy == "mend the environment, then run this again; until then nothing is known of [limits]"


def test_every_table_that_there_is_can_be_wrong_by_itself(tmp_path: Path) -> None:
    for table in TABLES:
        path = written(tmp_path, f"[{table}]\nnonsense = 1\n")
        assert find_out(path, {"HOME": str(tmp_path)}).without == (table,)
    for table in LISTS:
        path = written(tmp_path, GOOD + f"[[{table}]]\nnonsense = 1\n")
        assert find_out(path, {}).without == (table,)


@pytest.mark.parametrize("text", ["[agent\n", "\x00", None])
def test_of_a_file_that_cannot_be_read_nothing_is_guessed(tmp_path: Path, text: str | None) -> None:
    path = written(tmp_path, text) if text is not None else tmp_path / "not there.toml"
    situation = find_out(path, {})
    assert situation.config is None
    assert not situation.knows("agent")
    assert situation.agent == "not known"
    (line,) = configured.configuration(situation)
    assert line.level == "fail"
    assert str(path) in line.remedy


def test_a_variable_that_is_no_setting_is_a_warning_and_a_missing_file_a_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, GOOD)
    lines = configured.configuration(find_out(path, {"GRAPEVINE_LIMITS_MEMROY_MB": "5"}))
    assert [each.level for each in lines] == ["ok", "warn"]
    assert "GRAPEVINE_LIMITS_MEMROY_MB" in lines[1].says
    path = written(tmp_path, GOOD + 'ca_file = "ca.pem"\n')
    (line,) = configured.configuration(find_out(path, {}))
    assert line.level == "fail"
    assert "mqtt.ca_file" in line.says
    assert capsys.readouterr().err == ""  # not on the terminal


def test_a_trust_file_that_is_wrong_costs_trust_alone(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "trust.toml").write_text("[[peer]\n")
    situation = find_out(written(tmp_path, GOOD), {})
    assert situation.without == ("review", "trust")
    assert "trust.toml" in situation.mistakes[0]
    assert situation.knows("agent", "mqtt")
    situation = find_out(written(tmp_path, GOOD + "[limits]\nmemory = 5\n"), {})
    assert situation.without == ("limits", "review", "trust")
    assert ["limits.memory" in each for each in situation.mistakes] == [True, False]


def test_who_this_device_is_is_known_from_its_folder_and_nothing_is_changed(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    (line,) = configured.identity(find_out(path, {}))
    assert (line.level, line.remedy) == ("warn", "the first start makes one; or grapevine init")
    peer = first_identity(tmp_path / "state").peer_id
    situation = find_out(path, {})
    assert situation.peer == peer
    assert situation.agent == "none"
    (line,) = configured.identity(situation)
    assert line.level == "ok"
    assert peer in line.says
    key = tmp_path / "state" / IDENTITY_FILE
    key.chmod(0o644)
    (line,) = configured.identity(situation)
    assert line.level == "fail"
    assert "chmod 600" in line.remedy
    assert key.stat().st_mode & 0o777 == 0o644
    key.chmod(0o600)
    key.write_text("no key")
    (line,) = configured.identity(situation)
    assert line.level == "fail"
    assert "holds no key" in line.says


def test_a_password_that_others_can_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    os.chmod(tmp_path / "secret", 0o644)  # noqa: PTH101
    lines = configured.configuration(find_out(written(tmp_path, GOOD + 'password_file = "secret"\n'), {}))
    assert [each.level for each in lines] == ["ok", "warn"]
    assert lines[1].remedy == f"chmod 600 {tmp_path / 'secret'}"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose file it is")
def test_a_password_of_root_for_the_group_of_the_service_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "secret").chmod(0o640)
    situation = find_out(written(tmp_path, GOOD + 'password_file = "secret"\n'), {})
    assert [each.level for each in configured.configuration(situation)] == ["ok", "warn"]
    monkeypatch.setattr(os, "geteuid", lambda: 65534)  # the service's user, in its group
    assert [each.level for each in configured.configuration(situation)] == ["ok"]


def test_a_profile_of_another_board_is_told_unless_the_owner_wrote_one(tmp_path: Path) -> None:
    generic = find_out(written(tmp_path, GOOD), {})
    (line,) = configured.profile(generic, guessed="raspberry-pi-4b")
    assert (line.level, line.remedy) == ("warn", 'write profile = "raspberry-pi-4b" into [agent]')
    (line,) = configured.profile(generic, guessed="generic")
    assert line.level == "ok"
    named = find_out(written(tmp_path, GOOD.replace("[mqtt]", 'profile = "raspberry-pi-5"\n[mqtt]')), {})
    assert configured.profile(named, guessed="generic")[0].level == "ok"
    wrong = find_out(written(tmp_path, GOOD.replace("[mqtt]", 'profile = "raspbery"\n[mqtt]')), {})
    (line,) = configured.profile(wrong)
    assert line.level == "skip"  # the configuration's own line says why
    assert any("there is no such firmware profile" in each.says for each in configured.configuration(wrong))
