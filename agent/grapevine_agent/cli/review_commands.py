"""`grapevine review`: what a reviewer does."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grapevine_agent.cli.asking import ask_or_connect
from grapevine_agent.cli.command_line import finite
from grapevine_agent.cli.output import (
    ConfigOption,
    JsonOption,
    answer,
    configuration,
    console,
    counted,
    escaped,
    shown,
    shown_task,
)
from grapevine_agent.cli.owner_commands import ActedTaskArgument, TaskArgument
from grapevine_agent.core.spans import LEAST_DAYS, MOST_DAYS, REVIEW_VALID_DAYS
from grapevine_agent.printable import date_of
from grapevine_proto.errors import RequestError, StoreError
from grapevine_proto.manifest_fields import labelled

if TYPE_CHECKING:
    from rich.table import Table

DaysOption = Annotated[
    float, typer.Option(help="How long the verdict holds, in days.", min=LEAST_DAYS, max=MOST_DAYS, callback=finite)
]
LEAST_OF_PEER = 22  # columns: a mark, and a whole peer id
GraphOption = Annotated[str, typer.Option("--graph", help="Which graph to show: train or eval.")]


def register(app: typer.Typer) -> None:
    """Attach these commands."""
    review = typer.Typer(help="Judge learning tasks.", no_args_is_help=True)
    app.add_typer(review, name="review")
    _register_looking(review)
    _register_saying(review)
    _register_auditing(review)


def _register_looking(review: typer.Typer) -> None:
    @review.command("list")
    def show_all(config: ConfigOption = None, as_json: JsonOption = False) -> None:
        """List the tasks and applications that are known here, and what was said of them."""
        tasks = ask_or_connect(configuration(config), "reviews", {})
        answer(tasks, as_json=as_json, text=_how_many(tasks))
        if tasks and not as_json:
            console().print(_table(tasks))

    @review.command()
    def show(
        task: TaskArgument,
        graph: GraphOption = "train",
        every_node: Annotated[bool, typer.Option("--all", help="Show every node of a long graph.")] = False,
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Show all that can be known of a task without running it: manifest, model, data, costs, reviews."""
        from grapevine_agent.cli.review_show import application_lines, check_graph, print_task, task_as_json

        check_graph(graph)
        found = ask_or_connect(configuration(config), "records", {"task": task})
        if found.get("kind") == "application":
            answer(found, as_json=as_json, text=application_lines(found))
        elif as_json:
            answer(task_as_json(found), as_json=True, text="")
        else:
            print_task(found, graph=graph, every_node=every_node)


def _register_saying(review: typer.Typer) -> None:
    @review.command()
    def approve(
        task: ActedTaskArgument,
        reason: Annotated[str, typer.Option(help="What was looked at; everybody will see it.")] = "",
        days: DaysOption = REVIEW_VALID_DAYS,
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Sign an approval of a task."""
        params = {"task": task, "approved": True, "reason": reason, "days": days}
        _report(ask_or_connect(configuration(config), "review", params), as_json=as_json)

    @review.command()
    def reject(
        task: ActedTaskArgument,
        reason: Annotated[str, typer.Option(help="Why; everybody will see it.")],
        days: DaysOption = MOST_DAYS,
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Sign a rejection of a task: who trusts this reviewer will not train it."""
        params = {"task": task, "approved": False, "reason": reason, "days": days}
        _report(ask_or_connect(configuration(config), "review", params), as_json=as_json)

    @review.command()
    def revoke(
        task: ActedTaskArgument,
        reason: Annotated[str, typer.Option(help="Why; everybody will see it.")] = "",
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Take this peer's own verdict back, without putting another in its place."""
        result = ask_or_connect(configuration(config), "revoke", {"task": task, "reason": reason})
        text = f"took the {result['revoked']} of [bold]{shown(result['name'])}[/] back"
        answer(result, as_json=as_json, text=f"{text}\n{_signed(result)}")


def _register_auditing(review: typer.Typer) -> None:
    @review.command()
    def export(
        task: TaskArgument,
        folder: Annotated[Path, typer.Argument(help="Where the records go; made if need be.", file_okay=False)],
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Write a task's manifest and reviews as files, each the exact bytes that its author signed."""
        from grapevine_agent.requests.verifying import file_name

        found = ask_or_connect(configuration(config), "records", {"task": task})
        if found.get("kind") == "application":
            raise RequestError(
                f"{task} is an application, and tasks are exported; see it: grapevine review show {task}"
            )
        paths = {folder / file_name(topic): base64.b64decode(text) for topic, text in found["records"].items()}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path, content in paths.items():
                path.write_bytes(content)
        except OSError as error:
            raise StoreError(f"{folder}: cannot be written ({error.strerror}); name another folder") from None
        answer(
            {"task": found["task"], "files": [str(path) for path in paths]},
            as_json=as_json,
            text=f"wrote {counted(len(paths), 'record')} of [bold]{shown(found['name'])}[/] to {shown(str(folder))}\n"
            f"next, on any machine with a configuration: grapevine review verify {shown(str(folder))}",
        )

    @review.command()
    def verify(
        files: Annotated[list[Path], typer.Argument(help="Exported records, or folders of them.", exists=True)],
        at: Annotated[
            str, typer.Option(help="Judge as of this time (UTC), e.g. 2026-03-01 or 2026-03-01T12:00; default: now.")
        ] = "",
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Verify exported records by the configuration's policy, without a broker. Exit code 1: not approved."""
        from grapevine_agent.requests.verifying import time_of, verified

        results = verified(files, configuration(config), time_of(at))
        text = "\n".join(_verified_lines(each) for each in results)
        answer(results, as_json=as_json, text=text)
        if not results or any(each["standing"] != "approved" for each in results):
            raise typer.Exit(1)


def _verified_lines(result: dict[str, Any]) -> str:
    lines = [f"[bold]{shown(result['name'])}[/] ({result['task'][:12]}): {result['standing']}: {shown(result['why'])}"]
    lines += [
        f"  {_mark(each)} {each['reviewer']} {shown(each['ignored'] or each['reason'])}".rstrip()
        for each in result["reviews"]
    ]
    lines += [f"  [red]refused[/] {shown(each['file'])}: {shown(each['why'])}" for each in result["refused"]]
    return "\n".join(lines)


def _report(result: dict[str, Any], *, as_json: bool) -> None:
    verdict = "approved" if result["approved"] else "rejected"
    until = f"it holds until {date_of(result['valid_until_ms'])}"
    if result["renewed"]:
        until += ", and this agent renews it while it runs"
    elif result["approved"]:
        until += (
            "; owners count it for 7 days at most unless they say otherwise: approve again before that, or set "
            "[review] renew = true where an agent runs"
        )
    note = f"\n[yellow]note:[/] {shown(result['note'])}" if result["note"] else ""
    text = f"{verdict} [bold]{shown(result['name'])}[/]\n{_signed(result)}\n{shown(until)}{note}"
    answer(result, as_json=as_json, text=text)


def _signed(result: dict[str, Any]) -> str:
    reason = f"\n  reason     {shown(result['reason'])}" if result["reason"] else ""
    return f"{shown_task(result)}\n  signed by  {result['reviewer']}{reason}"


def _how_many(tasks: list[dict[str, Any]]) -> str:
    apps = sum(task.get("kind") == "application" for task in tasks)
    return counted(len(tasks) - apps, "task") + (f", {counted(apps, 'application')}" if apps else "")


def _labelled(task: dict[str, Any]) -> str:
    name = shown(task["name"], 60)
    return f"{name} (application)" if task.get("kind") == "application" else labelled(name, task["version"])


def _mark(review: dict[str, Any]) -> str:
    if review["withdrawn"]:
        return "–"
    return "✓" if review["approved"] else "✗"


def _table(tasks: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table()
    for name in ("task, id, publisher", "standing here", "reviews"):
        table.add_column(name, overflow="fold")
    table.columns[0].min_width = table.columns[2].min_width = LEAST_OF_PEER
    for task in tasks:
        lines = []
        for review in task["reviews"]:
            line = (
                f"{_mark(review)} {shown(review['name']) or review['reviewer']} {shown(review['reason'], 80)}".rstrip()
            )
            lines.append(line if review["counts"] else f"[dim]{line}[/]")
        table.add_row(
            f"{_labelled(task)}\n{task['task'][:12]}\n{escaped(task['publisher'])}",
            f"{task['standing']}: {shown(task['why'])}",
            "\n".join(lines),
        )
    return table
