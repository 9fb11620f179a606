"""`grapevine task pull`: the model that the members have learned, as files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from grapevine_agent.cli.asking import opened
from grapevine_agent.cli.command_line import finite
from grapevine_agent.cli.output import ConfigOption, JsonOption, answer, counted, escaped, shown
from grapevine_agent.cli.owner_commands import TaskArgument
from grapevine_proto.errors import TaskError

FEW_SAMPLES = 30  # by which an accuracy is known to a tenth or two


def register(task: typer.Typer) -> None:
    """Attach the command to `grapevine task`."""

    @task.command()
    def pull(
        task: TaskArgument,
        output: Annotated[
            Path | None,
            typer.Option(
                "--output",
                "-o",
                help="Where the weights go; without it a name that tells versions apart: wine-v2-1a2b3c4d.safetensors.",
                dir_okay=False,
            ),
        ] = None,
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
        latest: Annotated[bool, typer.Option("--latest", help="The newest model, and not the best one.")] = False,
        within: Annotated[float, typer.Option(help="Give up after so many seconds.", min=1, callback=finite)] = 30.0,
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Fetch the best model that a member has had, by its own samples: of several members' the most typical one."""
        for path in (output, pt2):
            if path is not None:
                check_place(path)
        with opened(config) as grapevine:
            model = grapevine.pull(task, peer=peer, server=server, cluster=cluster, latest=latest, within_s=within)
        output = output if output is not None else Path(file_name(model.facts))
        model.save(output)
        if pt2 is not None:
            model.save_pt2(pt2)
        facts = model.facts
        doubts = f"\n[yellow]warning:[/] {shown(told)}" if (told := doubts_of(facts)) else ""
        files = ", ".join(escaped(str(path)) for path in (output, output.with_suffix(".json"), pt2) if path is not None)
        answer(
            {**facts, "file": str(output), "pt2": str(pt2) if pt2 else ""},
            as_json=as_json,
            text=f"[bold]{shown(facts['name'])}[/] version {facts['task_version']} ({facts['task'][:12]}): the "
            f"{facts['which']} model of {facts['kind']} {facts['model_of']}, age {facts['age']}, with the work of "
            f"{counted(len(facts['contributors']), 'member')}\n{quality_of(facts)}{doubts}\nwrote {files}",
        )


def check_place(path: Path) -> None:
    """Before anybody is asked: can a file be written there? Raises TaskError with the remedy."""
    folder = path.parent
    if not folder.is_dir():
        raise TaskError(f"{path}: there is no folder {folder}; make it first, as in mkdir -p {folder}")
    if not os.access(folder, os.W_OK | os.X_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise TaskError(f"{path} cannot be written: check the permissions of {path if path.exists() else folder}")


def file_name(facts: Mapping[str, Any]) -> str:
    """What a pulled model's file is called: the task, its version and the beginning of its id."""
    name = re.sub(r"[^a-z0-9]+", "-", str(facts["name"]).lower()).strip("-")[:40] or "model"
    return f"{name}-v{facts['task_version']}-{str(facts['task'])[:8]}.safetensors"


def doubts_of(facts: Mapping[str, Any]) -> str:
    """In one line why the giver's figures say little of the model; empty where they may be taken."""
    doubts = []
    if facts["age"] == 0:
        since = ", and nothing that was learned has done better" if facts["which"] == "best" else ""
        doubts.append(f"this model is not trained: its age is 0{since}")
    if facts["metric"] is not None and facts["num_evaluated"] < FEW_SAMPLES:
        doubts.append(
            f"its figures are of {counted(facts['num_evaluated'], 'held-out sample')}: too few to tell models apart"
        )
    return "; ".join(doubts)


def quality_of(facts: Mapping[str, Any]) -> str:
    """How the best model, the latest one and none at all have done, as far as the giver says so."""
    name = facts["metric_name"]
    parts = [
        f"{which}: {name} {figure['metric']:.3f} at age {figure['age']}, version {figure['version']}"
        for which in ("best", "latest")
        if (figure := facts[which]) is not None
    ]
    if not parts and facts["metric"] is not None:
        parts.append(f"{name} {facts['metric']:.3f} at age {facts['age']}")
    if not parts:
        return f"{name} —: nobody has measured it"
    if facts["baseline"] is not None:
        parts.append(f"{shown(facts['baseline_name'])}: {facts['baseline']:.3f}")
    return f"{'; '.join(parts)} (on {counted(facts['num_evaluated'], 'held-out sample')}, by its own account)"
