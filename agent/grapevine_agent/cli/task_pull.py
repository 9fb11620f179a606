"""`grapevine task pull`: the model that the members have learned, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from grapevine_agent.api import Grapevine
from grapevine_agent.cli.command_line import finite
from grapevine_agent.cli.output import ConfigOption, JsonOption, answer, configuration, shown, tell
from grapevine_agent.cli.owner_commands import TaskArgument


def register(task: typer.Typer) -> None:
    """Attach the command to `grapevine task`."""

    @task.command()
    def pull(
        task: TaskArgument,
        output: Annotated[Path, typer.Option("--output", "-o", help="Where the weights go.", dir_okay=False)] = Path(
            "model.safetensors"
        ),
        pt2: Annotated[
            Path | None, typer.Option(help="Also a program that plain PyTorch runs: torch.export.load.", dir_okay=False)
        ] = None,
        peer: Annotated[
            str | None, typer.Option("--from", help="Whose model: a member's id, the beginning (4 or more), or name.")
        ] = None,
        server: Annotated[bool, typer.Option("--server", help="A server's model, or none.")] = False,
        cluster: Annotated[
            int | None, typer.Option(help="Which of the models of a server that holds clusters.", min=0, max=65_535)
        ] = None,
        within: Annotated[float, typer.Option(help="Give up after so many seconds.", min=1, callback=finite)] = 30.0,
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Fetch the released model of a task: a server's if there is one, else the best informed member's."""
        with Grapevine(configuration(config), tell=tell) as grapevine:
            model = grapevine.pull(task, peer=peer, server=server, cluster=cluster, within_s=within)
        model.save(output)
        if pt2 is not None:
            model.save_pt2(pt2)
        facts = model.facts
        quality = (
            f", {facts['metric_name']} {facts['metric']:.3f} by its own account" if facts["metric"] is not None else ""
        )
        files = ", ".join(escape(str(path)) for path in (output, output.with_suffix(".json"), pt2) if path is not None)
        answer(
            {**facts, "file": str(output), "pt2": str(pt2) if pt2 else ""},
            as_json=as_json,
            text=f"[bold]{shown(facts['name'])}[/] version {facts['task_version']}: the model of "
            f"{facts['kind']} {facts['model_of']}, age {facts['age']}, with the work of "
            f"{len(facts['contributors'])} members{quality}\nwrote {files}",
        )
