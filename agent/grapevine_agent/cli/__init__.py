"""The `grapevine` command.

Exit codes: 0 done; 1 it failed, and the message on stderr says why and what to do; 2 the command
line is wrong, and nothing was done; 3 no agent is running to answer; 4 the key is not the one that the
state folder belongs to; 130 ended by Ctrl-C.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from grapevine_agent.cli import tree
from grapevine_agent.cli.acting_as import hint_of_user
from grapevine_agent.cli.command_line import CommandLine
from grapevine_agent.cli.output import complain
from grapevine_agent.cli.values import spare
from grapevine_agent.control.protocol import NoServiceError
from grapevine_proto.errors import GrapevineError, RequestError

GARBAGE_AFTER = 50_000  # objects: what is imported is no garbage, and looking for some takes a tenth of a start
EXIT_FAILED, EXIT_WRONG, EXIT_NO_SERVICE, EXIT_IDENTITY, EXIT_INTERRUPTED = 1, 2, 3, 4, 130


def build_app(words: Sequence[str] | None = None) -> typer.Typer:
    """The command with its sub-commands: all, the installed extensions' included, or those that `words` can need."""
    app = typer.Typer(
        name="grapevine",
        cls=CommandLine,
        help="Devices learn together over the MQTT brokers that they already have.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    app.callback()(_all)
    _fill(app, words)
    spare(app)
    return app


def _fill(app: typer.Typer, words: Sequence[str] | None) -> None:
    """Attach commands: see `tree`."""
    if words and tree.is_ours(words[0]):
        tree.attach(app, words[0])
        tree.keep(app, words)
        return
    if words and not words[0].startswith("-"):
        _attach_extensions(app)
        if tree.has(app, words[0]):
            tree.keep(app, words)
        else:
            tree.attach(app)
            tree.outline(app)
        return
    tree.attach(app)
    app.info.epilog = _first_step(has_demo=_attach_extensions(app))
    if words is not None and tuple(words) in ((), ("--help",)):
        tree.outline(app)


def _attach_extensions(app: typer.Typer) -> bool:
    """Attach what is installed beside the agent. Returns whether the demo is among it."""
    from importlib.metadata import entry_points

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
    return "demo" in attached


def _first_step(*, has_demo: bool) -> str:
    """What stands below the list of commands."""
    if has_demo:
        return "Start with [bold]grapevine demo[/], or with [bold]grapevine init[/] on a device."
    return "Start with [bold]grapevine init[/], or with [bold]sudo grapevine status[/] where the service runs already."


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        from grapevine_proto import distribution

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
    from grapevine_agent.units import unit_name_of

    unit = unit_name_of(state_dir=state_dir)
    return f"; start it with `{f'sudo systemctl start {unit}' if unit else 'grapevine agent run'}`"


def main() -> None:
    """Run the command line."""
    gc.set_threshold(GARBAGE_AFTER)
    words = None if any(name.endswith("_COMPLETE") for name in os.environ) else sys.argv[1:]
    try:
        build_app(words)()
    except NoServiceError as error:
        complain(str(error) + _how_to_start(error.state_dir))
        sys.exit(EXIT_NO_SERVICE)
    except RequestError as error:
        complain(str(error))
        sys.exit(EXIT_WRONG)
    except GrapevineError as error:
        complain(str(error))
        sys.exit(EXIT_IDENTITY if _is_of_identity(error) else EXIT_FAILED)
    except OSError as error:  # of a path that was named, mostly: too long, not ours to read, on a full disk
        what = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        complain(what + (hint_of_user() if isinstance(error, PermissionError) else ""))
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _is_of_identity(error: GrapevineError) -> bool:
    """Whether it is an `IdentityError`. Who has not loaded its module, and cryptography with it, has not raised it."""
    identity = sys.modules.get("grapevine_agent.identity")
    return identity is not None and isinstance(error, identity.IdentityError)
