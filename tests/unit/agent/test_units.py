"""The units that are written, held against what the service and its trainer need."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from grapevine_agent.cli import build_app, main
from grapevine_agent.units import KINDS, Kind, Unit, unit_name_of
from grapevine_proto.errors import ConfigError

MOST_EXPOSED = 2.0


def unit(kind: Kind, *, for_user: bool = False, command: str = "/usr/bin/grapevine") -> Unit:
    return Unit(kind=kind, command=Path(command), config=Path("/etc/grapevine/agent.toml"), for_user=for_user)


@pytest.mark.parametrize("kind", KINDS)
def test_a_unit_has_no_gaps_and_runs_as_its_own_user(kind: Kind) -> None:
    text = unit(kind).text()
    assert not re.search(r"@[A-Z]+@", text)
    assert f"ExecStart=/usr/bin/grapevine {kind} run" in text
    for line in (
        "Type=notify",
        "User=grapevine",
        "NoNewPrivileges=yes",
        "SystemCallErrorNumber=EPERM",
        "KillMode=mixed",
    ):
        assert line in text.splitlines()
    assert f"StateDirectory={'grapevine' if kind == 'agent' else f'grapevine-{kind}'}" in text.splitlines()
    assert "ExecReload=" in text, "all three read again what may change"
    assert ("MemoryDenyWriteExecute=yes" in text.splitlines()) == (kind != "agent")


def test_a_unit_of_a_user_asks_for_nothing_that_only_the_system_gives() -> None:
    text = unit("agent", for_user=True).text()
    assert "WantedBy=default.target" in text
    for word in (
        "User=",
        "StateDirectory=",
        "LoadCredential=",
        "ProtectSystem=",
        "network-online.target",
        "PrivateTmp=",
    ):
        assert word not in text


def test_a_state_folder_elsewhere_can_be_written() -> None:
    elsewhere = Unit(
        kind="agent", command=Path("/g"), config=Path("/etc/grapevine/agent.toml"), writes=Path("/srv/grapevine")
    )
    assert "ReadWritePaths=/srv/grapevine" in elsewhere.text().splitlines()
    assert "ReadWritePaths" not in unit("agent").text()


def test_what_would_not_start_is_not_installed_and_its_folder_is_where_its_file_says(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(f'[agent]\nstate_dir = "{tmp_path / "state"}"\n')
    shown = CliRunner().invoke(build_app(), ["service", "show", "--config", str(path)])
    assert f"ReadWritePaths={tmp_path / 'state'}" in shown.stdout.splitlines()
    path.write_text('[agent]\nnmae = "kitchen"\n')
    refused = CliRunner().invoke(build_app(), ["service", "install", "--user", "--config", str(path)])
    assert isinstance(refused.exception, ConfigError)


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemd that runs, and its folder of units."""
    (tmp_path / "units").mkdir()
    monkeypatch.setattr("grapevine_agent.units.SYSTEMD", tmp_path)
    monkeypatch.setattr("grapevine_agent.units.UNITS", (tmp_path / "none", tmp_path / "units"))
    return tmp_path / "units"


def test_the_unit_is_known_by_its_configuration_and_by_its_folder(
    system: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Unit(kind="agent", command=Path("/g"), config=Path("/etc/grapevine/agent.toml"), writes=Path("/srv/gv"))
    server = Unit(kind="server", command=Path("/g"), config=Path("/etc/grapevine/server.toml"))
    for each in (elsewhere, server):
        (system / each.name).write_text(each.text())
    assert unit_name_of(config=Path("/etc/grapevine/agent.toml")) == "grapevine-agent"
    assert unit_name_of(config=Path("/etc/grapevine/server.toml")) == "grapevine-server"
    assert unit_name_of(state_dir=Path("/var/lib/grapevine-server")) == "grapevine-server"
    assert (
        unit_name_of(state_dir=Path("/var/lib/grapevine"))
        == unit_name_of(state_dir=Path("/srv/gv"))
        == "grapevine-agent"
    )
    assert not unit_name_of(config=tmp_path / "agent.toml")
    assert not unit_name_of(state_dir=tmp_path)
    edited = system / f"{server.name}.d" / "override.conf"  # where `systemctl edit` writes
    edited.parent.mkdir()
    edited.write_text("[Service]\nReadWritePaths=/mnt/disk\n")
    assert unit_name_of(state_dir=Path("/mnt/disk")) == "grapevine-server"
    monkeypatch.setattr("grapevine_agent.units.SYSTEMD", tmp_path / "none")
    assert not unit_name_of(state_dir=Path("/var/lib/grapevine"))


@pytest.mark.parametrize("kind", ["agent", "server"])
def test_where_there_is_a_unit_the_command_says_to_start_that(
    system: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: Kind
) -> None:
    path, state = tmp_path / f"{kind}.toml", tmp_path / "state"
    made = CliRunner().invoke(build_app(), ["init", "--config", str(path), "--state-dir", str(state)])
    assert f"then: grapevine {kind} run --config {path}" in made.stdout
    monkeypatch.setattr("sys.argv", ["grapevine", "status", "--config", str(path)])
    with pytest.raises(SystemExit, match="3"):
        main()
    assert "no agent is running here; start it with `grapevine agent run`" in capsys.readouterr().err
    path.unlink()
    (system / f"grapevine-{kind}.service").write_text(
        Unit(kind=kind, command=Path("/g"), config=path, writes=state).text()
    )
    made = CliRunner().invoke(build_app(), ["init", "--config", str(path), "--state-dir", str(state)])
    assert f"then: sudo systemctl enable --now grapevine-{kind}" in made.stdout
    with pytest.raises(SystemExit, match="3"):
        main()
    assert f"start it with `sudo systemctl start grapevine-{kind}`" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["/home/ada/my tools/grapevine", "/opt/50%/grapevine", "bin/grapevine", "/a$b/g", "/a\n/g"]
)
def test_a_path_that_systemd_would_read_otherwise_is_refused(command: str) -> None:
    with pytest.raises(ConfigError, match="choose another"):
        unit("agent", command=command).text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze: apt-get install systemd")
@pytest.mark.parametrize("kind", KINDS)
def test_little_is_exposed_and_systemd_knows_every_word(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / unit(kind).name
    path.write_text(unit(kind, command="/bin/true").text())
    command = ["systemd-analyze", "security", "--offline=yes", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    found = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found
    assert float(found[1]) <= MOST_EXPOSED
    assert "ignoring" not in done.stderr


def test_show_prints_the_unit_of_this_installation() -> None:
    said = CliRunner().invoke(build_app(), ["service", "show", "--kind", "server"])
    assert said.exit_code == 0
    assert "server run --config /etc/grapevine/server.toml" in said.stdout
    with pytest.raises(Exception, match="agent, server, broker"):
        CliRunner().invoke(build_app(), ["service", "show", "--kind", "demo"], catch_exceptions=False)


def test_install_for_oneself_writes_unit_and_configuration_and_uninstall_leaves_the_latter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("grapevine_agent.cli.service_commands.SYSTEMD", tmp_path / "none")
    written = tmp_path / "config/systemd/user/grapevine-agent.service"
    config = tmp_path / "config/grapevine/agent.toml"
    done = CliRunner().invoke(build_app(), ["service", "install", "--user"], catch_exceptions=False)
    assert done.exit_code == 0
    assert f"agent run --config {config}" in written.read_text()
    text = config.read_text() + "# mine\n"
    config.write_text(text)
    CliRunner().invoke(build_app(), ["service", "install", "--user"], catch_exceptions=False)
    assert config.read_text() == text, "what is there already stays"
    CliRunner().invoke(build_app(), ["service", "uninstall", "--user"], catch_exceptions=False)
    assert not written.exists()
    assert config.exists()
    with pytest.raises(Exception, match="nothing to uninstall"):
        CliRunner().invoke(build_app(), ["service", "uninstall", "--user"], catch_exceptions=False)
