"""The `grapevine` command.

Exit codes: 0 done; 1 it failed, and the message on stderr says why and what to do; 2 the command
line is wrong, and nothing was done; 3 no agent is running to answer; 4 the key is not the one that the
state folder belongs to; 130 ended by Ctrl-C.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

from grapevine_agent.cli import (
    agent_commands,
    app_commands,
    broker_commands,
    dashboard_commands,
    data_commands,
    doctor_commands,
    event_commands,
    governor_commands,
    init_commands,
    merge_commands,
    owner_commands,
    peer_commands,
    profile_commands,
    review_commands,
    service_commands,
    task_commands,
    trust_commands,
)
from grapevine_agent.cli.acting_as import hint_of_user
from grapevine_agent.cli.command_line import CommandLine
from grapevine_agent.cli.output import complain
from grapevine_agent.control.protocol import NoServiceError
from grapevine_agent.units import unit_name_of
from grapevine_proto import distribution
from grapevine_proto.errors import GrapevineError, RequestError

EXIT_FAILED, EXIT_WRONG, EXIT_NO_SERVICE, EXIT_IDENTITY, EXIT_INTERRUPTED = 1, 2, 3, 4, 130


def build_app() -> typer.Typer:
    """The command with all its sub-commands, the installed extensions' included."""
    app = typer.Typer(
        name="grapevine",
        cls=CommandLine,
        help="Devices learn together over the MQTT brokers that they already have.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    app.callback()(_all)
    for commands in (
        agent_commands,
        doctor_commands,
        event_commands,
        service_commands,
        init_commands,
        owner_commands,
        profile_commands,
        governor_commands,
        peer_commands,
        task_commands,
        review_commands,
        trust_commands,
        app_commands,
        merge_commands,
        broker_commands,
        data_commands,
        dashboard_commands,
    ):
        commands.register(app)
    # By name: an installation from before the distribution was renamed may have left the same ones behind.
    extensions = {point.name: point for point in entry_points(group="grapevine.commands")}
    attached = set()
    for name, extension in sorted(extensions.items()):
        try:
            register = extension.load()
        except ImportError:
            continue  # its extra is not installed: the device path does without
        register(app)
        attached.add(name)
    app.info.epilog = _first_step(has_demo="demo" in attached)
    return app


def _first_step(*, has_demo: bool) -> str:
    """What stands below the list of commands."""
    if has_demo:
        return "Start with [bold]grapevine demo[/], or with [bold]grapevine init[/] on a device."
    return "Start with [bold]grapevine init[/], or with [bold]sudo grapevine status[/] where the service runs already."


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"grapevine {distribution.version()}")
        raise typer.Exit


def _all(
    _version: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", callback=_tell_version, is_eager=True)
    ] = False,
) -> None:
    """What stands before every command."""


def _how_to_start(state_dir: Path | None) -> str:
    """For who finds no agent on this folder: the unit that works on it, if there is one."""
    if state_dir is None:
        return ""
    unit = unit_name_of(state_dir=state_dir)
    return f"; start it with `{f'sudo systemctl start {unit}' if unit else 'grapevine agent run'}`"


def main() -> None:
    """Run the command line."""
    try:
        build_app()()
    except NoServiceError as error:
        complain(str(error) + _how_to_start(error.state_dir))
        sys.exit(EXIT_NO_SERVICE)
    except RequestError as error:
        complain(str(error))
        sys.exit(EXIT_WRONG)
    except GrapevineError as error:
        from grapevine_agent.identity import IdentityError

        complain(str(error))
        sys.exit(EXIT_IDENTITY if isinstance(error, IdentityError) else EXIT_FAILED)
    except OSError as error:  # of a path that was named, mostly: too long, not ours to read, on a full disk
        what = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        complain(what + (hint_of_user() if isinstance(error, PermissionError) else ""))
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
