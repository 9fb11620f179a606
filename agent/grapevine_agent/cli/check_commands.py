"""`grapevine task check`: what a task costs and where it fits, before anybody else sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grapevine_agent.cli.output import JsonOption

TaskPath = Annotated[
    Path,
    typer.Argument(help="A task's folder, its task.toml, or a manifest's file.", exists=True, show_default=False),
]
ProfileOption = Annotated[
    list[str] | None,
    typer.Option(
        "--profile",
        help="Only this firmware profile: its name, or the path of a .toml; may be repeated.",
        show_default=False,
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="Of a device with data for it: say what its samples give without any learning, too."
    ),
]


def register(task: typer.Typer) -> None:
    """Attach this command to `grapevine task`."""

    @task.command()
    def check(
        path: TaskPath, profile: ProfileOption = None, config: DataOption = None, as_json: JsonOption = False
    ) -> None:
        """Say what a built task costs, and which devices can train it. Fails if none of them can."""
        from grapevine_agent.cli.checked import check_task

        check_task(path, profile, config, as_json=as_json)
