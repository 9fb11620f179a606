"""`grapevine task new`: a folder to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grapevine_agent.cli.output import JsonOption, answer, escaped


def register(task: typer.Typer) -> None:
    """Attach the command to `grapevine task`."""

    @task.command()
    def new(
        name: Annotated[str, typer.Argument(help="The task's name, and its folder's.")],
        catalogue: Annotated[
            str, typer.Option("--from", help="Start from a task of the catalogue, such as digits.")
        ] = "",
        into: Annotated[Path, typer.Option("--dir", help="Where to make the folder.", file_okay=False)] = Path(),
        as_json: JsonOption = False,
    ) -> None:
        """Make a folder with a task.toml, a model.py and a README.md that can be built as they are."""
        from grapevine_tasks.new_task import new_task

        folder = new_task(name, into=into, catalogue=catalogue)
        answer(
            {"name": name, "folder": str(folder)},
            as_json=as_json,
            text=f"made [bold]{escaped(str(folder))}[/]: edit task.toml and model.py\n"
            f"next: grapevine task build {escaped(str(folder))}",
        )
