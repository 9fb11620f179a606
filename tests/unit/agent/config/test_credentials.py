"""Secrets that systemd hands over, and how open a secret is."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from grapevine_agent.config.agent_toml import check_files, load_config
from grapevine_agent.config.changes import changes
from grapevine_agent.config.credentials import handed_over, is_open_to_others
from grapevine_proto.errors import ConfigError


@pytest.fixture
def handed(tmp_path: Path) -> Path:
    """What systemd makes of LoadCredential=credentials:FOLDER/credentials."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "credentials_mqtt-password").write_text("secret\n")
    return folder


def test_the_service_reads_its_copy_and_a_command_the_file(tmp_path: Path, handed: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text('[mqtt]\npassword_file = "credentials/mqtt-password"\n')
    service = load_config(config, {"CREDENTIALS_DIRECTORY": str(handed), "HOME": "/"})
    assert service.mqtt.read_password() == "secret"
    command = load_config(config, {"HOME": "/"})
    assert command.mqtt.password_file == tmp_path / "credentials/mqtt-password"


def test_what_is_new_among_the_credentials_waits_for_a_start_and_elsewhere_is_a_mistake(
    tmp_path: Path, handed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the service runs it gets no copy of a new file; a start that finds none, or a file elsewhere, fails."""
    environ = {"CREDENTIALS_DIRECTORY": str(handed), "HOME": "/"}
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(handed))
    (tmp_path / "credentials").mkdir()
    new, elsewhere = tmp_path / "credentials/new", tmp_path / "mqtt-password"
    new.touch()
    elsewhere.touch()
    monkeypatch.setattr("os.access", lambda path, _mode: Path(path) not in (new, elsewhere))
    config = tmp_path / "agent.toml"
    config.write_text('[mqtt]\npassword_file = "credentials/new"\n')
    wanted = load_config(config, environ)
    check_files(wanted, running_with=environ)
    with pytest.raises(ConfigError, match=r"cannot be read; check its permissions$"):
        check_files(wanted)
    assert changes(load_config(None, environ), wanted).restart == ("mqtt.password_file",)
    config.write_text('[mqtt]\npassword_file = "credentials/none"\n')
    with pytest.raises(ConfigError, match="is not there"):
        check_files(load_config(config, environ), running_with=environ)
    config.write_text('[mqtt]\npassword_file = "mqtt-password"\n')
    with pytest.raises(ConfigError, match=r'or put it into /.*/credentials and write "credentials/mqtt-password"$'):
        check_files(load_config(config, environ), running_with=environ)


def test_a_password_that_is_not_read_is_named_once(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text('[mqtt]\npassword_file = "nothing"\n')
    with pytest.raises(ConfigError, match=r"nothing': cannot be read \(No such file or directory\)$"):
        load_config(config, {"HOME": "/"}).mqtt.read_password()


def test_only_files_in_that_folder_are_taken_from_there(tmp_path: Path, handed: Path) -> None:
    given = {"CREDENTIALS_DIRECTORY": str(handed)}
    for path in (
        tmp_path / "mqtt-password",
        tmp_path / "credentials/other",
        Path("/elsewhere/credentials/mqtt-password"),
    ):
        assert handed_over(path, tmp_path, given) == path
    inside = tmp_path / "credentials/mqtt-password"
    assert handed_over(inside, tmp_path, {}) == inside
    assert handed_over(inside, tmp_path, given) == handed / "credentials_mqtt-password"


def test_a_file_that_others_can_read_is_warned_of_and_a_copy_of_systemds_is_not(
    tmp_path: Path, handed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = handed / "credentials_mqtt-password"
    copy.chmod(0o440)  # the mask of the list by which systemd lets the service in
    assert not is_open_to_others(copy.stat(), copy, {"CREDENTIALS_DIRECTORY": str(handed)})
    assert is_open_to_others(copy.stat(), copy, {}) == (os.geteuid() == 0 or copy.stat().st_uid != 0)
    copy.chmod(0o644)
    assert is_open_to_others(copy.stat(), copy, {})
    config = tmp_path / "agent.toml"
    config.write_text(f'[mqtt]\npassword_file = "{copy}"\n')
    with caplog.at_level(logging.WARNING):
        assert load_config(config, {"HOME": "/"}).mqtt.read_password() == "secret"
    assert "chmod 600" in caplog.text
