"""`grapevine task`: what a model engineer does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grapevine_agent.cli import check_commands, publications, task_new, task_pull, task_watch
from grapevine_agent.cli.asking import opened
from grapevine_agent.cli.output import ConfigOption, JsonOption, answer, counted, escaped, shown, shown_task, tell
from grapevine_agent.cli.owner_commands import ActedTaskArgument

if TYPE_CHECKING:
    from grapevine_agent.api import Published
    from grapevine_tasks.built import BuiltTask

Folder = Annotated[Path, typer.Argument(help="The task's folder, with task.toml and model.py.", file_okay=False)]
ServerOption = Annotated[
    list[str] | None, typer.Option(help="A peer that may act as a server of this task; may be repeated.")
]
WaitOption = Annotated[
    bool, typer.Option(help="Without a running agent: stay until a member has fetched the initial weights.")
]
BuildOption = Annotated[bool, typer.Option("--build", help="Build the folder first.")]


def register(app: typer.Typer) -> None:
    """Attach these commands."""
    task = typer.Typer(help="Make, publish and follow learning tasks.", no_args_is_help=True)
    app.add_typer(task, name="task")
    task_new.register(task)
    task.command()(build)
    check_commands.register(task)
    task.command()(publish)
    task.command()(revise)
    task.command()(retract)
    task_watch.register(task)
    task_pull.register(task)


def build(folder: Folder, as_json: JsonOption = False) -> None:
    """Turn the model into a code-free program, check it, and write both into FOLDER/build."""
    from grapevine_agent.api import build as build_folder

    built = build_folder(folder).task
    draft = built.draft
    result = {
        "name": draft.name,
        "folder": str(folder),
        "nodes": len(draft.program.train.nodes),
        "weights_bytes": len(built.weights),
        "warnings": list(built.warnings),
    }
    _warn(built)
    answer(
        result,
        as_json=as_json,
        text=f"built [bold]{escaped(draft.name)}[/]: {counted(len(draft.program.train.nodes), 'node')}, "
        f"{result['weights_bytes']} bytes of weights\nnext: grapevine task publish {escaped(str(folder))}",
    )


def _warn(built: BuiltTask) -> None:
    for warning in built.warnings:
        tell(f"warning: {warning}")


def publish(
    folder: Folder,
    server: ServerOption = None,
    wait: WaitOption = True,
    build_first: BuildOption = False,
    another: Annotated[
        bool, typer.Option("--another", help="A second task of the same name, though nothing has changed.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a built task and announce it on the overlay. Unchanged since the last time, it stays the same task."""
    _ready(folder, build_first=build_first)
    before = publications.published_as(folder)
    if other := publications.copied_from(folder):
        tell(
            f"{folder} seems to be a copy: its {publications.FILE} is that of {other}. It is published as a task "
            "of its own, and noted there instead"
        )
        before = []
    with opened(config) as grapevine:
        published = grapevine.publish(
            folder, servers=server or [], another=another, wait=wait, on_announced=_noting(folder, before)
        )
    how = "nothing has changed: announced again" if published.answer["again"] else "published"
    answer(
        published.answer,
        as_json=as_json,
        text=f"{how} [bold]{shown(published.name)}[/] as {published.id}\n"
        f"next: reviewers run  grapevine review approve {published.id[:12]}",
    )


def _noting(folder: Path, before: Sequence[dict[str, Any]] = ()) -> Callable[[Published], None]:
    """What to do once it is announced; `before`: what the folder was published as, where this may be another task."""

    def note(published: Published) -> None:
        is_again = published.answer.get("again")
        if is_again and published.id in {each["task"] for each in publications.published_as(folder)}:
            return
        if before and not is_again:
            parent = before[-1]["task"][:12]
            tell(
                f"{folder} was published before, as {parent}: this is another task of the same name. As its next "
                f"version it would have been: grapevine task revise {folder} --parent {parent}"
            )
        version = int(published.answer.get("version", 1))
        if trouble := publications.note(folder, task=published.id, name=published.name, version=version):
            tell(trouble)

    return note


def _ready(folder: Path, *, build_first: bool) -> None:
    """Build the folder if that is asked for, and see whether it can be published before connecting to anybody."""
    from grapevine_agent.api import build as build_folder
    from grapevine_tasks.built import load_built

    if build_first:
        _warn(build_folder(folder).task)
    load_built(folder)


def revise(
    folder: Folder,
    parent: Annotated[
        str,
        typer.Option(
            help="The version before: id, its beginning (8 or more), its name, or the folder it is published from.",
            callback=publications.meant,
        ),
    ],
    reason: Annotated[str, typer.Option(help="What is new; it is added to the description.")] = "",
    server: ServerOption = None,
    fork: Annotated[bool, typer.Option("--fork", help="Even though the parent has a newer version already.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Members leave their model behind and begin with these weights, at age 0.")
    ] = False,
    wait: WaitOption = True,
    build_first: BuildOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a built task as the next version of one of yours; members that approve it bring their model along."""
    _ready(folder, build_first=build_first)
    with opened(config) as grapevine:
        revised = grapevine.revise(
            folder,
            parent=parent,
            reason=reason,
            servers=server or [],
            fork=fork,
            fresh=fresh,
            wait=wait,
            on_announced=_noting(folder),
        )
    keeps = _what_members_bring(revised.answer)
    answer(
        revised.answer,
        as_json=as_json,
        text=f"published [bold]{shown(revised.name)}[/] version {revised.answer['version']} as {revised.id}\n"
        f"{keeps}; members stay with version {revised.answer['version'] - 1} until this one is approved\n"
        f"next: reviewers run  grapevine review approve {revised.id[:12]}",
    )


def _what_members_bring(answer: dict[str, Any]) -> str:
    """What becomes of the members' models, and how old these are as far as that is known here."""
    if answer["fresh"]:
        return "members that move leave their model behind, and begin with the new initial weights at age 0"
    if not answer["keeps_model"]:
        return "its parameters differ: members that move begin from the new initial weights, at age 0"
    ages = answer["member_ages"]
    known = f"{ages[0]:,}" if ages and ages[0] == ages[-1] else f"{ages[0]:,} to {ages[-1]:,}" if ages else ""
    told = (
        f" ({known} steps in those of {counted(len(ages), 'member')} known here)"
        if ages
        else " (how old, nobody here knows)"
    )
    return f"members that move keep their model and its age{told}; --fresh would have them begin anew"


def retract(
    task: ActedTaskArgument,
    reason: Annotated[str, typer.Option(help="Why; everybody will see it.")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a task of yours back, for good: whoever hears of it stops training it."""
    with opened(config) as grapevine:
        result = grapevine.retract(task, reason=reason)
    answer(
        result,
        as_json=as_json,
        text=f"retracted [bold]{shown(result['name'])}[/]; its members stop as they hear of it\n{shown_task(result)}",
    )
