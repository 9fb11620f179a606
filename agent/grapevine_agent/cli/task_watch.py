"""`grapevine task watch`: how the members of a task are doing, live."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grapevine_agent.cli.asking import opened
from grapevine_agent.cli.command_line import finite
from grapevine_agent.cli.output import ConfigOption, JsonOption, console, counted, escaped, shown, tell
from grapevine_agent.cli.owner_commands import TaskArgument
from grapevine_agent.printable import printable
from grapevine_proto.errors import RequestError, TaskError

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from grapevine_agent.api import Grapevine

QUIET_ROUNDS = 40  # in which no member improves, before that is said
QUIET_S = 15.0  # without a reading, say what is waited for
MAX_POINTS = 600
PLOT_WIDTH = 60
LEAST_OF_ID = 12  # of a member that has a name; of others it is shown whole
LONGEST_NAME = 20
BARS = "▁▂▃▄▅▆▇█"


@dataclass
class Board:
    """The newest reading of each member, and the members' mean metric over time."""

    about: dict[str, Any] = field(default_factory=dict)
    newest: dict[str, dict[str, Any]] = field(default_factory=dict)
    means: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_POINTS))

    def take(self, reading: dict[str, Any]) -> None:
        """One more reading."""
        self.newest[reading["peer"]] = reading
        known = self.measured()
        if known:
            self.means.append(sum(known) / len(known))

    def measured(self) -> list[float]:
        """The newest metrics of those members that have one."""
        return [each["metric"] for each in self.newest.values() if each["metric"] is not None]

    def has_reached(self, target: Target | None) -> bool:
        """Whether every member that is heard has come to the target.

        Who has no held-out samples has no figure, and is not waited for; but somebody must have one.
        """
        if target is None:
            return False
        heard = [each for each in self.newest.values() if target.key == "round" or each["num_evaluated"]]
        if not heard or any(each[target.key] is None for each in heard):
            return False
        from_above = target.key == "loss" or (target.key == "metric" and not self.about["higher_is_better"])
        return all(
            (each[target.key] <= target.value) if from_above else (each[target.key] >= target.value) for each in heard
        )

    def warnings(self) -> dict[str, str]:
        """By kind what an engineer should know, as plain text: nobody improves, or nobody beats the baseline."""
        name = self.about.get("metric_name", "metric")
        told: dict[str, str] = {}
        bests = [each["best"] for each in self.newest.values() if each.get("best")]
        if bests and (rounds := min(best["rounds_since"] for best in bests)) >= QUIET_ROUNDS:
            best = (max if self.about["higher_is_better"] else min)(bests, key=lambda each: each["metric"])
            told["stalled"] = (
                f"no member has improved for {rounds} rounds; best was {name} {best['metric']:.3f} at age "
                f"{best['age']} (patience in [training] ends a task then; `task pull` takes the best)"
            )
        held = [each for each in self.newest.values() if each.get("best") and each.get("baseline") is not None]
        if held and all(_is_worse(each, higher_is_better=self.about["higher_is_better"]) for each in held):
            baseline = held[0]
            told["no better"] = (
                f"no member does better than {printable(baseline['baseline_name'])}, which needs no learning "
                f"({name} {baseline['baseline']:.3f} at {baseline['peer']})"
            )
        return told

    def table(self) -> Table:
        """The members, two lines each: so ids and figures fit a narrow terminal whole."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        name = self.about.get("metric_name", "metric")
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("member", min_width=LEAST_OF_ID, overflow="fold")
        for heading in ("round\nage", "loss\nbaseline", f"{name}\nbest", "staleness\nenergy", "server\nheard"):
            table.add_column(heading, no_wrap=True, justify="right")
        names, now_ms = self.about.get("names", {}), time.time() * 1000
        for peer, reading in sorted(self.newest.items()):
            staleness, energy = reading["staleness"], reading["energy_j"]
            table.add_row(
                f"{shown(names[peer], LONGEST_NAME)}\n{peer[:LEAST_OF_ID]}" if names.get(peer) else escaped(peer),
                f"{reading['round']}\n{reading['age']}",
                ("—" if reading["loss"] is None else f"{reading['loss']:.4f}")
                + f"\n{_figure_cell(reading.get('baseline'))}",
                f"{_metric_cell(reading)}\n{_figure_cell((reading.get('best') or {}).get('metric'))}",
                ("—" if staleness is None else f"{staleness:.1f}") + ("\n—" if energy is None else f"\n{energy:.0f} J"),
                f"{reading['server']}\n{max(0.0, now_ms - reading['at_ms']) / 1000:.0f} s ago",
            )
        return table

    def view(self, note: str = "") -> Group:
        """Table, plot and a note."""
        from rich.console import Group
        from rich.text import Text

        about = self.about
        title = (
            f"[bold]{shown(about['name'])}[/] version {about['version']} ({about['task'][:12]}), {about['standing']}"
        )
        parts: list[Any] = [Text.from_markup(title), self.table()]
        if self.means:
            of = f"{len(self.measured())} of {len(self.newest)}"
            parts.append(Text(f"mean {about['metric_name']} {plot(self.means)} {self.means[-1]:.3f}, mean of {of}"))
        parts += [Text.assemble(("warning:", "yellow"), f" {warning}") for warning in self.warnings().values()]
        return Group(*parts, *([Text(note, style="dim")] if note else []))


def _is_worse(reading: dict[str, Any], *, higher_is_better: bool) -> bool:
    best, baseline = reading["best"]["metric"], reading["baseline"]
    return bool(best <= baseline if higher_is_better else best >= baseline)


def _figure_cell(figure: float | None) -> str:
    return "—" if figure is None else f"{figure:.3f}"


def _metric_cell(reading: dict[str, Any]) -> str:
    """The metric, and in the units of the member's data where that is another number."""
    units = reading.get("metric_in_units")
    return _figure_cell(reading["metric"]) + (f" ({units:.3g})" if units is not None else "")


def plot(values: deque[float], width: int = PLOT_WIDTH) -> str:
    """Numbers over time as one line of bars from their smallest to their largest; the newest is on the right."""
    points = list(values)
    if len(points) > width:
        edges = [i * len(points) // width for i in range(width + 1)]
        points = [sum(points[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(points), max(points)
    span = high - low
    return "".join(BARS[int((value - low) / span * (len(BARS) - 1)) if span > 0 else 0] for value in points)


@dataclass(frozen=True, kw_only=True)
class Target:
    """What every member is to come to: `name` is as it was written, `key` where a reading has it."""

    name: str
    key: str
    value: float

    def check(self, about: dict[str, Any]) -> None:
        """Raise RequestError where the task has no such metric."""
        metrics = about["metrics"]
        if self.name not in ("", "round", "metric", *metrics):
            raise RequestError(
                f"--until {self.name}={self.value:g}: {about['name']} has no {self.name}; it has "
                f"{', '.join(f'{name}={_EXAMPLES.get(name, 0.1):g}' for name in metrics)} and round=40"
            )


_EXAMPLES = {"accuracy": 0.95, "top-5-accuracy": 0.95, "binary-accuracy": 0.95}


def target_of(until: str) -> Target | None:
    """`--until`: a round ("40", "round=40") or a metric of the task ("0.95", "accuracy=0.95"). Raises RequestError."""
    if not until:
        return None
    key, _, number = until.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    from grapevine_tasks.closed_sets import METRICS

    known = ("", "round", "metric", "loss", *METRICS)
    if not math.isfinite(value) or value < 0 or key not in known:
        raise RequestError(
            f"--until {until!r}: write round=40, or a metric of the task as in accuracy=0.95 (rmse=0.1, as every "
            "error, is reached from above)"
        )
    if key == "round" or (not key and value > 1):
        return Target(name=key, key="round", value=value)
    return Target(name=key, key="loss" if key == "loss" else "metric", value=value)


def register(task: typer.Typer) -> None:
    """Attach the command to `grapevine task`."""

    @task.command()
    def watch(
        task: TaskArgument,
        until: Annotated[str, typer.Option(help="End when every member is there: round=40, or accuracy=0.95.")] = "",
        for_s: Annotated[
            float | None, typer.Option("--for", help="End after so many seconds.", min=0, callback=finite)
        ] = None,
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Show how the members of a task are doing; one JSON line for each reading with --json, or in a pipe."""
        target, board = target_of(until), Board()
        lines = as_json or not console().is_terminal
        with opened(config) as grapevine:
            try:
                reached = _follow(grapevine, task, board, target, for_s, lines=lines)
            except KeyboardInterrupt:
                reached = True  # the owner has seen enough
            if not lines and board.about:
                console().print(board.view())
        if target is not None and not reached:
            raise TaskError(f"{board.about['name']}: not everybody came to {until} within {for_s} s")


def _follow(
    grapevine: Grapevine,
    task: str,
    board: Board,
    target: Target | None,
    for_s: float | None,
    *,
    lines: bool,
) -> bool:
    """Watch until there is a reason to end; whether the target was reached."""
    from rich.live import Live

    heard_s = time.monotonic()
    warned: set[str] = set()
    with Live(console=console(), refresh_per_second=4, transient=True, auto_refresh=not lines) as live:
        for readings, about in grapevine.polled(task, for_s=for_s):
            if not board.about and not about["members"]:
                tell(_waiting(about))
            if target is not None and not board.about:
                target.check(about)
            board.about = about
            for reading in readings:
                board.take(reading)
                if lines:
                    sys.stdout.write(json.dumps(reading) + "\n")
                    sys.stdout.flush()
            now_s = time.monotonic()
            if readings:
                heard_s = now_s
            if lines:
                for kind, warning in board.warnings().items():
                    if kind not in warned:  # each is said once
                        warned.add(kind)
                        tell(f"{about['name']}: {warning}")
            quiet = now_s - heard_s > QUIET_S
            if quiet and lines:
                tell(_waiting(about))
                heard_s = now_s
            if not lines:
                live.update(board.view(_waiting(about) if quiet or not board.newest else "Ctrl-C ends"))
            if board.has_reached(target):
                return True
            if about["retracted"]:
                tell(f"{about['name']} was retracted: its members stop")
                return False
    return False


def _waiting(about: dict[str, Any]) -> str:
    if about["retracted"]:
        return f"{about['name']} was retracted"
    if about["newer"]:
        return f"{about['name']}: waiting for readings; it has a newer version, {about['newer'][0][:12]}"
    num = len(about["members"])
    who = f"of its {counted(num, 'member')}" if num else "of a first member (none is here yet)"
    return f"{about['name']} ({about['standing']} here): waiting for a reading {who}"
