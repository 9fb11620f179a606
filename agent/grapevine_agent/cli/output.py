"""How commands speak: results on stdout, for people or as JSON; everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grapevine_agent.cli.acting_as import act_as_service
from grapevine_agent.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

    from grapevine_agent.config.agent_toml import Config

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="The configuration file.", show_default=False, dir_okay=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer with JSON.")]


@cache
def console() -> Console:
    """Where results for people are drawn. Rich is loaded by who draws: an answer in JSON needs none of it."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True, emoji=False)


@cache
def errors() -> Console:
    """The same on stderr: what is no result."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def answer(result: Any, *, as_json: bool, text: str) -> None:
    """Print a result: as JSON, or the text for people (Rich markup)."""
    if as_json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        console().print(text)


def shown(text: str, most: int = 500) -> str:
    """A stranger's text as Rich markup that shows it: one line, nothing that a terminal or Rich would obey."""
    from rich.markup import escape

    # A backslash at the end would escape whatever markup comes next.
    text = printable(text).replace("\\", "\N{FULLWIDTH REVERSE SOLIDUS}")
    return escape(text if len(text) <= most else text[: most - 1] + "…")


def escaped(text: str) -> str:
    """A text of our own or the owner's as Rich markup that shows it as it is."""
    from rich.markup import escape

    return escape(text)


def counted(num: int, noun: str) -> str:
    """How many there are: `1 source`, `2,000 sources`."""
    return f"{num:,} {noun}" if num == 1 else f"{num:,} {noun}s"


def time_here(at_s: float, *, to_the_second: bool = False) -> str:
    """A time by this device's clock, with its date where it is not of these hours: `12:03`, `2026-03-01 12:03`.

    `to_the_second`: so exactly, where it comes within a minute.
    """
    ahead_s = at_s - time.time()
    day = "%Y-%m-%d " if abs(ahead_s) >= 86_400 / 2 else ""
    seconds = ":%S" if to_the_second and ahead_s < 60 else ""
    return time.strftime(f"{day}%H:%M{seconds}", time.localtime(at_s))


def shown_task(result: dict[str, Any]) -> str:
    """Which task something was done to, beyond doubt, as lines of Rich markup (see `requests.naming.meant`)."""
    return f"  task       {result['task']}\n  publisher  {result['publisher']}, version {result['version']}"


def complain(text: str) -> None:
    """Say what went wrong."""
    errors().print("[bold red]error:[/] ", end="")
    errors().print(printable(text, lines=True), markup=False, emoji=False)


def tell(text: str) -> None:
    """Say what is going on, without being part of the result."""
    errors().print(printable(text, lines=True), markup=False, emoji=False)


def configuration(path: Path | None) -> Config:
    """The owner's configuration."""
    from grapevine_agent.config.agent_toml import load_config

    config = load_config(path, os.environ)
    act_as_service(config.agent.state_dir)
    return config
