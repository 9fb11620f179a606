"""What classes of devices can do: `profile list`, `profile show`, `profile check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grapevine_agent.cli.output import ConfigOption, JsonOption


def register(app: typer.Typer) -> None:
    """Attach these commands."""
    group = typer.Typer(no_args_is_help=True, help="Firmware profiles: what a class of devices can do, and may.")
    app.add_typer(group, name="profile")

    @group.command("list")
    def show_all(as_json: JsonOption = False) -> None:
        """List the profiles that ship with Grapevine, and mark the one that fits this machine."""
        from grapevine_agent.cli.profiles import list_profiles

        list_profiles(as_json=as_json)

    @group.command("show")
    def show_one(
        name: Annotated[
            str | None,
            typer.Argument(help="A profile's name, or the path of your own; without one, this device's as configured."),
        ] = None,
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Show all of a profile, each number with its source.

        A named profile is shown as its file has it; this device's own with the memory that it has and its [limits].
        """
        from grapevine_agent.cli.profiles import show_profile

        show_profile(name, config, as_json=as_json)

    @group.command("check")
    def check(
        file: Annotated[Path, typer.Argument(help="A profile of your own, a .toml file.")],
        as_json: JsonOption = False,
    ) -> None:
        """Check a profile of your own: all mistakes at once, or what it comes to on this machine.

        Exits with 1 if it cannot be used.
        """
        from grapevine_agent.cli.profiles import check_profile

        check_profile(file, as_json=as_json)
