"""`grapevine data`: what this device can learn from, and whether a task would take it."""

from __future__ import annotations

from typing import Annotated

import typer

from grapevine_agent.cli.output import ConfigOption, JsonOption


def register(app: typer.Typer) -> None:
    """Attach these commands."""
    data = typer.Typer(help="Look at the data that this device may learn from.", no_args_is_help=True)
    app.add_typer(data, name="data")

    @data.command("list")
    def show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
        """List the configured sources, and whether each can be read."""
        from grapevine_agent.cli.sources import list_sources

        list_sources(config, as_json=as_json)

    @data.command()
    def check(
        name: Annotated[str | None, typer.Argument(help="Of the source; all of them without it.")] = None,
        task: Annotated[str | None, typer.Option(help="A task's folder, id or name: does the data fit it?")] = None,
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Read the sources as a task would, and show what is in them. Exit code 1: one cannot be used."""
        from grapevine_agent.cli.sources import check_sources

        check_sources(name, task, config, as_json=as_json)
