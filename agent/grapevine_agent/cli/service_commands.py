"""`grapevine service`: a systemd unit for this installation, where no Debian package has brought one."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from grapevine_agent.cli.init_commands import write_config
from grapevine_agent.cli.output import ConfigOption, tell
from grapevine_agent.units import CREDENTIALS, KINDS, SYSTEM_FOLDER, SYSTEM_UNITS, SYSTEMD, USER, Unit
from grapevine_proto.errors import ConfigError, RequestError, StoreError

UserOption = Annotated[bool, typer.Option("--user", help="A unit of your own, which runs while you are logged in.")]
KindOption = Annotated[str, typer.Option(help="What it runs: agent, server or broker.")]


def register(app: typer.Typer) -> None:
    """Attach these commands."""
    service = typer.Typer(help="Run Grapevine as a service of systemd.", no_args_is_help=True)
    app.add_typer(service, name="service")

    @service.command()
    def install(for_user: UserOption = False, kind: KindOption = "agent", config: ConfigOption = None) -> None:
        """Write a unit, enable and start it. What is missing is made: the user, a configuration to start from."""
        unit = _with_state(_unit(kind, for_user=for_user, config=config))
        path = _place(unit)
        _check_may_install(unit)
        text = unit.text()
        if not for_user:
            _make_user()
            _make_folders(unit)
        if kind != "broker" and not unit.config.exists():
            state = None if for_user else Path("/var/lib") / unit.state
            from grapevine_agent.config.board import propose, read_board

            write_config(unit.config, propose(read_board()), state)
            tell(f"wrote {unit.config}, to be edited: brokers, data, whose reviews count")
        _write(path, text)
        tell(f"wrote {path}")
        if unit.writes is not None and not for_user:
            tell(f"the service runs as {USER}: {unit.writes} has to be its own (chown -R {USER}: {unit.writes})")
        manager = ["systemctl", *(["--user"] if for_user else [])]
        if not SYSTEMD.is_dir():
            tell(f"systemd does not run here; where it does: {' '.join(manager)} enable --now {unit.name}")
            return
        _run([*manager, "daemon-reload"])
        _run([*manager, "enable", unit.name])
        _run([*manager, "restart", unit.name])
        tell(f"{unit.name} is running; {' '.join(manager)} status {unit.name} says how it is")
        if for_user:
            tell("it ends when you log out, unless: loginctl enable-linger")

    @service.command()
    def uninstall(for_user: UserOption = False, kind: KindOption = "agent") -> None:
        """Stop the service and remove its unit. Configuration, state and the user stay."""
        unit = _unit(kind, for_user=for_user, config=None)
        path = _place(unit)
        if not path.exists():
            raise RequestError(f"{path} is not there: nothing to uninstall")
        if not for_user and os.geteuid() != 0:
            raise RequestError(f"{path} is root's: run this with sudo")
        manager = ["systemctl", *(["--user"] if for_user else [])]
        if SYSTEMD.is_dir():
            _run([*manager, "disable", "--now", unit.name])
        path.unlink()
        if SYSTEMD.is_dir():
            _run([*manager, "daemon-reload"])
        tell(f"removed {path}; configuration and state are as they were")

    @service.command()
    def show(for_user: UserOption = False, kind: KindOption = "agent", config: ConfigOption = None) -> None:
        """Print the unit that `install` would write."""
        typer.echo(_with_state(_unit(kind, for_user=for_user, config=config)).text(), nl=False)


def _unit(kind: str, *, for_user: bool, config: Path | None) -> Unit:
    if kind not in KINDS:
        raise RequestError(f"--kind {kind}: write one of {', '.join(KINDS)}")
    folder = _user_folder("XDG_CONFIG_HOME", ".config") / "grapevine" if for_user else SYSTEM_FOLDER
    name = "server.toml" if kind == "server" else "agent.toml"
    path = config.absolute() if config is not None else folder / name
    return Unit(kind=kind, command=_command(), config=path, for_user=for_user)


def _command() -> Path:
    """The `grapevine` of this installation, and no other that PATH may name."""
    return Path(sys.executable).parent / "grapevine"


def _place(unit: Unit) -> Path:
    folder = _user_folder("XDG_CONFIG_HOME", ".config") / "systemd" / "user" if unit.for_user else SYSTEM_UNITS
    return folder / unit.name


def _user_folder(variable: str, default: str) -> Path:
    named = Path(os.environ.get(variable, ""))
    return named if named.is_absolute() else Path.home() / default


def _with_state(unit: Unit) -> Unit:
    """The unit, which may write where its configuration says. Raises `ConfigError` for one with a fault."""
    if unit.kind == "broker" or not unit.config.exists():
        return unit
    from grapevine_agent.config.agent_toml import load_config

    state_dir = load_config(unit.config, os.environ).agent.state_dir
    is_its_own = state_dir.is_relative_to(Path("/var/lib") / unit.state)
    return unit if is_its_own else replace(unit, writes=state_dir)


def _check_may_install(unit: Unit) -> None:
    from grapevine_proto import distribution

    if distribution.installation().is_debian:
        scope = "--user " if unit.for_user else ""
        raise RequestError(f"the Debian package has brought this unit: systemctl {scope}enable --now {unit.name}")
    if not unit.command.exists():
        raise ConfigError(f"{unit.command} is not there: install Grapevine in this environment first")
    if unit.for_user:
        return
    if os.geteuid() != 0:
        raise RequestError("a service of the system is root's to install: run this with sudo, or with --user")
    for folder in unit.command.resolve().parents:
        if not folder.stat().st_mode & stat.S_IXOTH:
            raise ConfigError(
                f"{unit.command}: the user {USER} may not enter {folder}. Install it where everybody may: "
                "PIPX_HOME=/opt/pipx PIPX_BIN_DIR=/usr/local/bin pipx install grapevine-learning; or use --user"
            )


def _make_user() -> None:
    try:
        pwd.getpwnam(USER)
    except KeyError:
        shell = shutil.which("nologin", path="/usr/sbin:/sbin") or "/bin/false"
        _run(
            [
                "useradd",
                "--system",
                "--user-group",
                "--no-create-home",
                "--home-dir",
                "/nonexistent",
                "--shell",
                shell,
                USER,
            ]
        )
        tell(f"made the user {USER}")


def _make_folders(unit: Unit) -> None:
    """The folder of secrets, which only root and the service may enter."""
    account = pwd.getpwnam(USER)
    folder = unit.config.parent / CREDENTIALS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o750)
        os.chown(folder, 0, account.pw_gid)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be made ({error.strerror})") from None


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror}); check permissions") from None


def _run(command: list[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise ConfigError(f"{' '.join(command)} failed: {(done.stderr or done.stdout).strip()}")
