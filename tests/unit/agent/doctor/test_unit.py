"""What systemd says of the service comes to: words of systemctl and journalctl, as version 252 prints them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.doctor import configured
from grapevine_agent.doctor.checks import checks_of
from grapevine_agent.doctor.situation import Situation
from grapevine_agent.doctor.unit import Unit, findings, unit_of

CONFIG = Path("/etc/grapevine/agent.toml")
SHOWN = """\
LoadState=loaded
ActiveState={active}
Result={result}
ExecMainStatus={status}
NRestarts={restarts}
ExecStart={{ path=/usr/bin/grapevine ; argv[]=/usr/bin/grapevine agent run --config /etc/grapevine/agent.toml ; \
ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }}
User=grapevine
ProtectSystem=strict
StateDirectory=grapevine
ReadWritePaths=/mnt/disk
"""
LOG = "made a new identity\nerror: mqtt.password_file = '/etc/grapevine/x': cannot be read\nlast words\n"


def saying(
    active: str, result: str = "success", status: int = 0, restarts: int = 0, log: str = LOG
) -> Callable[[Sequence[str]], str]:
    def say(command: Sequence[str]) -> str:
        if command[0] == "journalctl":
            assert "_SYSTEMD_UNIT=grapevine-agent.service" in command
            return log
        if command[2] != "grapevine-agent":
            return "LoadState=not-found\n"
        return SHOWN.format(active=active, result=result, status=status, restarts=restarts)

    return say


def found(say: Callable[[Sequence[str]], str], folder: Path, config: Path = CONFIG) -> Unit | None:
    return unit_of(config, say, systemd=folder)


@pytest.mark.parametrize(
    ("say", "says"),
    [
        (saying("active"), ""),
        (saying("inactive"), ""),
        (saying("activating"), ""),  # the first start
        (saying("failed", "exit-code", 4), "(exit code 4): error: mqtt.password_file"),
        (saying("activating", "exit-code", 1, 3), "(exit code 1): error: mqtt.password_file"),  # waits for the next
        (saying("activating", "success", 1, 3), "(exit code 1): error: mqtt.password_file"),
        (saying("failed", "watchdog", 6, log="stands\n"), "(watchdog): stands"),
        (saying("failed", "exit-code", 1, log=""), "(exit code 1)"),
    ],
)
def test_a_start_that_failed_is_told_with_why(tmp_path: Path, say: Callable[[Sequence[str]], str], says: str) -> None:
    unit = found(say, tmp_path)
    assert unit is not None
    told = findings(unit, Path("/var/lib/grapevine"))
    assert [each.level for each in told] == ["fail"] * bool(says)
    for each in told:
        assert f"the service's last start failed {says}" in each.says
        assert "grapevine-agent" in each.remedy


def test_a_unit_of_another_configuration_and_a_machine_without_systemd_say_nothing(tmp_path: Path) -> None:
    failed = saying("failed", "exit-code", 1)
    assert found(failed, tmp_path, Path("/etc/grapevine/agent.tom")) is None
    assert found(failed, tmp_path / "none") is None
    assert found(lambda _: "", tmp_path) is None
    assert findings(None, tmp_path) == []


def test_a_state_folder_behind_the_units_walls_is_a_failure_with_the_line_to_write(tmp_path: Path) -> None:
    unit = found(saying("inactive"), tmp_path)
    assert unit is not None
    for well in ("/var/lib/grapevine", "/mnt/disk/gv"):
        assert findings(unit, Path(well)) == []
    (line,) = findings(unit, Path("/srv/gv"))
    assert (line.level, "[Service] ReadWritePaths=/srv/gv" in line.remedy) == ("fail", True)
    assert findings(replace(unit, writes=None), Path("/srv/gv")) == []


def test_the_doctor_says_that_the_start_failed_and_not_that_it_may_be_tried(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text('[agent]\nstate_dir = "/var/lib/grapevine"\n')
    unit = found(saying("failed", "exit-code", 1), tmp_path)
    situation = Situation(path=path, config=load_config(path, {}), agent="none", unit=unit)
    assert [each.level for each in configured.agent(situation)] == ["fail"]
    waits = replace(situation, unit=found(saying("inactive"), tmp_path))
    assert [(each.level, each.remedy) for each in configured.agent(waits)] == [
        ("warn", "start it: sudo systemctl start grapevine-agent")
    ]


async def test_who_is_the_services_user_is_not_told_to_be_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "agent.toml"
    path.write_text('[mqtt]\npassword_file = "credentials/none"\n')
    situation = Situation(path=path, config=load_config(path, {"HOME": "/"}))
    for is_services, remedy in ((True, "sudo grapevine doctor"), (False, "run this as the agent's user")):
        monkeypatch.setattr("grapevine_agent.doctor.checks.is_user", lambda _name, is_it=is_services: is_it)
        (broker,) = [each for each in checks_of(situation) if each.name == "broker"]
        (line,) = await broker.look()
        assert remedy in line.remedy


def test_a_password_that_the_service_may_not_read_is_a_failure_unless_systemd_hands_it_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "agent.toml"
    (tmp_path / "credentials").mkdir()
    unit = found(saying("inactive"), tmp_path)
    monkeypatch.setattr("grapevine_agent.doctor.configured.is_user", lambda name: name == "grapevine")
    for name, levels in (("mqtt-password", ["ok", "fail"]), ("credentials/mqtt-password", ["ok"])):
        (tmp_path / name).write_text("secret\n")
        (tmp_path / name).chmod(0o600)
        path.write_text(f'[mqtt]\npassword_file = "{name}"\n')
        situation = Situation(path=path, config=load_config(path, {"HOME": "/"}), agent="none", unit=unit)
        with monkeypatch.context() as patch:
            patch.setattr("os.access", lambda *_: False)
            found_here = configured.configuration(situation)
        assert [each.level for each in found_here] == levels
        assert all("write credentials/mqtt-password" in each.remedy for each in found_here[1:])
