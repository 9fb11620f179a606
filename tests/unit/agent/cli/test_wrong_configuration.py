"""What an agent would not start with is told by `status` too, in the same words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from grapevine_agent import serve
from grapevine_agent.cli import build_app
from grapevine_agent.control.protocol import NoServiceError
from grapevine_proto.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "profile = 'raspbery-pi-4b'",
            ["agent.profile = 'raspbery-pi-4b': there is no such firmware profile", "'raspberry-pi-4b'"],
        ),
        ("profile = 'mine.toml'", ["mine.toml"]),
        ("[mqtt]\npassword_file = 'secret'", ["mqtt.password_file = ", "secret'", "is not there; correct the path"]),
        ("[mqtt]\nca_file = 'ca.pem'", ["mqtt.ca_file = ", "ca.pem'", "is not there; correct the path"]),
    ],
)
def test_status_and_run_tell_the_same_mistake(
    text: str, says: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(f"[agent]\nstate_dir = 'state'\n{text}\n")
    status = CliRunner().invoke(build_app(), ["status", "--config", str(path)])
    assert isinstance(status.exception, ConfigError)
    assert serve.main(["member", "1.0", str(path)]) == serve.EXIT_FAILED
    ran = capsys.readouterr().err.splitlines()[-1]
    assert ran == f"error: {status.exception}"
    for part in says:
        assert part in ran


def test_status_reads_its_configuration_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("[agent]\nstate_dir = 'state'\n")
    monkeypatch.setenv("GRAPEVINE_LIMITS_MEMROY_MB", "5")
    done = CliRunner().invoke(build_app(), ["status", "--config", str(path)])
    assert isinstance(done.exception, NoServiceError)
    assert sum("GRAPEVINE_LIMITS_MEMROY_MB is no setting" in each for each in caplog.messages) == 1


@pytest.mark.parametrize("role", ["agent", "server"])
def test_what_a_configuration_is_warned_of_is_told_once_by_the_service(tmp_path: Path, role: str) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("[agent]\nstate_dir = 'state'\n[mqtt]\nbrokers = ['mqtt://127.0.0.1:9']\n")
    environ = {**os.environ, "GRAPEVINE_LIMITS_MEMROY_MB": "5", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "grapevine_agent", role, "run", "--config", str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if "cannot reach" in line:
                process.terminate()
    assert sum("GRAPEVINE_LIMITS_MEMROY_MB is no setting" in each for each in said) == 1


@pytest.mark.parametrize("key", ["password_file", "ca_file"])
def test_a_missing_file_is_told_before_anything_is_connected_to(tmp_path: Path, key: str) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(f"[agent]\nstate_dir = 'state'\n[mqtt]\n{key} = 'secret'\n")
    done = CliRunner().invoke(build_app(), ["review", "list", "--config", str(path)])
    assert isinstance(done.exception, ConfigError)
    assert f"mqtt.{key} = " in str(done.exception)
    assert "connecting" not in done.stderr
