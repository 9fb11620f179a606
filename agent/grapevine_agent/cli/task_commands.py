"""`grapevine task`: what a model engineer does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from grapevine_agent.cli import check_commands
from grapevine_agent.cli.asking import ask_or_connect
from grapevine_agent.cli.output import ConfigOption, JsonOption, answer, configuration, tell
from grapevine_agent.merge.plan import check_merge_plan
from grapevine_agent.service import AgentService
from grapevine_proto.errors import TaskError

Folder = Annotated[Path, typer.Argument(help="The task's folder, with task.toml and model.py.", file_okay=False)]


def register(app: typer.Typer) -> None:
    """Attach these commands."""
    task = typer.Typer(help="Build and publish learning tasks.", no_args_is_help=True)
    app.add_typer(task, name="task")
    check_commands.register(task)

    @task.command()
    def build(folder: Folder, as_json: JsonOption = False) -> None:
        """Turn the model into a code-free program, check it, and write both into FOLDER/build."""
        try:
            from grapevine_tasks.authoring.build import build_task  # noqa: PLC0415 - it needs torch
        except ImportError as error:
            raise TaskError(f"building needs PyTorch ({error}): pip install 'grapevine[train]'") from None
        built = build_task(folder, check_merging=check_merge_plan)
        draft = built.draft
        result = {
            "name": draft.name,
            "folder": str(folder),
            "nodes": len(draft.program.train.nodes),
            "weights_bytes": len(built.weights),
        }
        answer(
            result,
            as_json=as_json,
            text=f"built [bold]{draft.name}[/]: {result['nodes']} nodes, {result['weights_bytes']} bytes of weights\n"
            f"next: grapevine task publish {folder}",
        )

    @task.command()
    def publish(
        folder: Folder,
        server: Annotated[
            list[str] | None, typer.Option(help="A peer that may act as a server of this task; may be repeated.")
        ] = None,
        wait: Annotated[
            bool, typer.Option(help="Without a running agent: stay until a member has fetched the initial weights.")
        ] = True,
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Sign a built task and announce it on the overlay."""
        loaded = configuration(config)
        result = ask_or_connect(
            loaded,
            "publish",
            {"folder": str(folder.absolute()), "servers": server or []},
            linger=_UntilAMemberHasIt() if wait else None,
        )
        answer(
            result,
            as_json=as_json,
            text=f"published [bold]{result['name']}[/] as {result['task']}\n"
            f"next: reviewers run  grapevine review approve {result['task'][:12]}",
        )


class _UntilAMemberHasIt:
    """Says whether the command may go: somebody else can hand out the initial weights now."""

    def __init__(self) -> None:
        self._told = False

    def __call__(self, service: AgentService, published: dict[str, Any]) -> bool:
        if service.core.members.of_task(published["task"], time.monotonic()):
            return True
        if not self._told:
            self._told = True
            tell(
                f"{published['name']} is announced as {published['task']}; waiting until a first member has fetched "
                "its initial weights from here (--no-wait to leave at once; an agent on this machine would serve them)"
            )
        return False
