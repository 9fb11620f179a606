"""The table of README.md, made of figures that are kept: `python -m grapevine_lab.bench.readme`, or `make bench-table`.

`ROWS` says which figure of which benchmark stands where; values, targets and whether they are met come from the file.
With --measure the benchmarks of the table are run first, and their figures kept.

Exit codes: 0 the table is written, and has every figure; 1 some are not measured, or a file cannot be used; 2 the
command line is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from grapevine_lab.bench import kept, merging, server_folding, service, training_step, updates
from grapevine_lab.bench.figures import Figure
from grapevine_lab.bench.kept import Entry, Made
from grapevine_lab.bench.table import number, target_text
from grapevine_proto.errors import ConfigError, GrapevineError

RESULTS: Final = Path("docs/results/bench.json")
BEGIN: Final = "<!-- bench: written by `make bench-table` from docs/results/bench.json -->"
END: Final = "<!-- /bench -->"
NOT_MEASURED: Final = "not measured"
BUSY: Final = 0.5  # processes that wanted to run before the measuring began


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A figure in a row. The patterns' `{}` is the number; `target` shows its bound."""

    name: str
    what: str
    value: str = "{}"
    target: str = "{}"


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of the table."""

    text: str
    shown: tuple[Shown, ...]
    between: str = "; "


_OF_SERVICE: Final = f"{service.NUM_PEERS} peers, one task"
_FOLDED: Final = f"{max(server_folding.SIZES):,}"
ROWS: Final = (
    Line(
        text=f"memory of the service, connected, {service.NUM_PEERS} known peers, one task: idle / learning",
        shown=(
            Shown(name=service.MEMORY, what=f"RSS, idle, {_OF_SERVICE} known", target="{} MB"),
            Shown(name=service.MEMORY, what=f"RSS, learning, {_OF_SERVICE}", value="{} MB", target="{} MB"),
        ),
        between=" / ",
    ),
    Line(
        text="its CPU when idle",
        shown=(
            Shown(name=service.IDLE_CPU, what=f"CPU, idle, {_OF_SERVICE} known", value="{} % of a core", target="{} %"),
        ),
    ),
    Line(
        text=f"an update of {updates.NUM_PARAMETERS:,} parameters, agent to agent over Mosquitto, against paho alone "
        "with the same bytes",
        shown=(Shown(name=updates.NAME, what=updates.WHAT, value="{} ×", target="{} ×"),),
    ),
    Line(
        text="a training step of a small CNN from a program, against eager PyTorch ([other models](docs/coverage.md))",
        shown=(Shown(name=training_step.NAME, what=training_step.WHAT, value="{} × as fast", target="{} ×"),),
    ),
    Line(
        text=f"merging {merging.NUM_MODELS} models of {merging.NUM_PARAMETERS / 1e6:g} million parameters: bytes "
        "touched per second against the machine's copy",
        shown=(Shown(name=merging.NAME, what=merging.WHAT),),
    ),
    Line(
        text=f"an update of {_FOLDED} parameters that a server folds in (`fedavg`): bytes moved per second against the "
        "machine's copy; against Flower's FedAvg",
        shown=(
            Shown(name=server_folding.NAME, what=f"{_FOLDED}: fedavg, least bytes / copy"),
            Shown(
                name=server_folding.NAME,
                what=f"{_FOLDED}: fedavg, folded / {server_folding.FASTEST}",
                value="{} ×",
                target="{} ×",
            ),
        ),
    ),
)


def main(
    results: Annotated[Path, typer.Argument(help="The figures that are kept.", dir_okay=False)] = RESULTS,
    readme: Annotated[Path, typer.Option(help="The page that is written.", dir_okay=False)] = Path("README.md"),
    measure: Annotated[bool, typer.Option("--measure", help="Measure what the table shows first.")] = False,
) -> None:
    """Write README.md's table of what was measured."""
    say = partial(Console(stderr=True, highlight=False, soft_wrap=True).print, markup=False)
    try:
        if measure:
            from grapevine_lab.bench import suite  # noqa: PLC0415 - the table alone needs no benchmark

            names = list(dict.fromkeys(shown.name for line in ROWS for shown in line.shown))
            kept.read(results)  # before it takes minutes
            made = kept.made_here()
            for name in kept.add(results, suite.measure(names), made):
                say(f"{name}: nothing was measured; what {results} has of it stays")
        entries = kept.read(results)
        page = readme.read_text(encoding="utf-8")
        readme.write_text(with_table(page, entries), encoding="utf-8")
    except OSError as error:
        say(f"error: {readme}: {error.strerror}; run it in the checkout's folder, or give --readme")
        raise typer.Exit(1) from None
    except GrapevineError as error:
        say(f"error: {error}")
        raise typer.Exit(1) from None
    for why in (missed := missing(entries)):
        say(why)
    if missed:
        raise typer.Exit(1)


def with_table(page: str, entries: Mapping[str, Entry]) -> str:
    """The page with the table made anew between its marks. Raises ConfigError unless it has both, once."""
    parts = re.split(f"{re.escape(BEGIN)}|{re.escape(END)}", page)
    if len(parts) != 3 or page.index(BEGIN) > page.index(END):
        raise ConfigError(f"the page needs a line {BEGIN} and after it a line {END}, each once")
    return f"{parts[0]}{BEGIN}\n{table(entries)}{END}{parts[2]}"


def table(entries: Mapping[str, Entry]) -> str:
    """The table, and below it on which days, by which machines and versions it was made."""
    rows = [_row(line, entries) for line in ROWS]
    names = dict.fromkeys(shown.name for line in ROWS for shown in line.shown)
    return "\n".join(
        [
            "| | median | target |",
            "|---|---|---|",
            *rows,
            "",
            _made([entries[n].made for n in names if n in entries]),
            "",
        ]
    )


def missing(entries: Mapping[str, Entry]) -> list[str]:
    """What the table shows and the entries lack, with what to run."""
    return [
        f"{shown.name}: {shown.what!r} is not measured: "
        f"`python -m grapevine_lab.bench --only {shown.name} --out {RESULTS}`"
        for line in ROWS
        for shown in line.shown
        if _find(shown, entries) is None
    ]


def _find(shown: Shown, entries: Mapping[str, Entry]) -> Figure | None:
    figures = entries[shown.name].figures if shown.name in entries else ()
    return next((figure for figure in figures if figure.what == shown.what), None)


def _row(line: Line, entries: Mapping[str, Entry]) -> str:
    values: list[str] = []
    targets: dict[str, str] = {}
    for shown in line.shown:
        figure = _find(shown, entries)
        values.append(NOT_MEASURED if figure is None else shown.value.format(number(figure.median)))
        if figure is not None and figure.target is not None:
            bound = shown.target.format(target_text(figure.target))
            targets[bound] = ", missed" if figure.verdict == "missed" else targets.get(bound, "")
    median = line.between.join(values) if set(values) != {NOT_MEASURED} else NOT_MEASURED
    said = "; ".join(f"{bound}{verdict}" for bound, verdict in targets.items())
    return f"| {line.text} | {median} | {said} |"


def _made(all_made: Sequence[Made]) -> str:
    if not all_made:
        return "Nothing is measured yet."
    days = sorted({made["date"] for made in all_made})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    machines = dict.fromkeys("{cores} cores of {processor}, {system}".format_map(made["machine"]) for made in all_made)
    versions: dict[str, list[str]] = {}
    for made in all_made:
        for name, version in made["versions"].items():
            versions[name] = list(dict.fromkeys([*versions.get(name, []), version]))
    by = ", ".join(f"{name} {' and '.join(found)}" for name, found in versions.items())
    load = max(float(made["load"]) for made in all_made)
    busy = f", busy with other work (load {load:g})" if load >= BUSY else ""
    return f"Measured {when} with {'; '.join(machines)}{busy}: {by}. [Quartiles, and the commit of each]({RESULTS})."


if __name__ == "__main__":
    typer.run(main)
