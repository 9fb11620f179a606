"""`grapevine events`: what happens on the running agent, as it happens."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grapevine_agent.cli.asking import ask
from grapevine_agent.cli.command_line import finite
from grapevine_agent.cli.output import ConfigOption, configuration, console, shown, tell
from grapevine_agent.control.protocol import SOCKET_FILE, NoServiceError
from grapevine_agent.printable import printable
from grapevine_proto.errors import RequestError
from grapevine_tasks.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_STYLES = {"warning": "yellow", "debug": "dim"}


def register(app: typer.Typer) -> None:
    """Attach the command."""
    app.command("events")(show_events)


def show_events(
    kinds: Annotated[
        list[str] | None, typer.Option("--kind", help="Only of this kind, such as merged; may be repeated.")
    ] = None,
    task: Annotated[str, typer.Option(help="Only of this task: its name, or how its id begins.")] = "",
    after: Annotated[
        int | None, typer.Option(help="First what came after this number; 0: all that the agent has kept.", min=0)
    ] = None,
    for_s: Annotated[
        float | None, typer.Option("--for", help="End after so many seconds.", min=0, callback=finite)
    ] = None,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each as a JSON object, one a line.")] = False,
) -> None:
    """Show what happens on the running agent, one line each, until Ctrl-C."""
    wanted = _known(kinds or ())
    settings = configuration(config)
    task_id = ask(settings, "manifest", {"task": task})["task"] if task else ""
    path = settings.agent.state_dir / SOCKET_FILE
    deadline = None if for_s is None else time.monotonic() + for_s
    if not as_json and console().is_terminal:
        tell(f"listening to {path}; Ctrl-C ends")
    try:
        _follow(path, after, deadline, wanted=wanted, task=task_id, as_json=as_json)
    except KeyboardInterrupt:
        pass  # the owner has seen enough
    except BrokenPipeError:  # so has `head`; what is left in the buffer has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _follow(
    path: Path, after: int | None, deadline: float | None, *, wanted: Collection[str], task: str, as_json: bool
) -> None:
    from grapevine_agent.control.client import stream

    with stream(path, "events", {"after": after}) as events:
        while deadline is None or time.monotonic() < deadline:
            try:
                event = events.read(None if deadline is None else deadline - time.monotonic())
            except EOFError:
                raise NoServiceError(f"{path}: the agent has ended, and its events with it") from None
            if event is None:
                continue
            is_wanted = (not wanted or event["event"] in wanted) and (not task or event.get("task") == task)
            if is_wanted or event["event"] == "missed":
                _show(event, as_json=as_json)


def _show(event: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()
        return
    at = time.strftime("%H:%M:%S", time.localtime(event["at_ms"] / 1000))
    style = _STYLES.get(event["level"])
    text = shown(event["text"], 1_000)
    console().print(f"{at} {shown(event['event']):<14} {f'[{style}]{text}[/]' if style else text}")


def _known(kinds: Collection[str]) -> frozenset[str]:
    """The kinds that are asked for. Raises RequestError for a word that is none."""
    from grapevine_agent.core.events import KINDS

    for each in kinds:
        if each not in KINDS:
            raise RequestError(f"--kind {printable(each)[:80]}: {did_you_mean(each, KINDS)}")
    return frozenset(kinds)
