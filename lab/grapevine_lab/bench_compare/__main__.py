"""`python -m grapevine_lab.bench_compare BASE`, or `make bench-compare BASE=COMMIT`.

Exit codes: 0 both builds were measured; 1 the base does not build, or one of them could not be measured; 2 the command
line is wrong; 130 interrupted, by Ctrl-C, SIGTERM or a terminal that was closed.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from grapevine_lab.bench.figures import Skipped
from grapevine_lab.bench.suite import BENCHMARKS, NAMES, names_of
from grapevine_lab.bench_compare.builds import build_here, built
from grapevine_lab.bench_compare.table import as_json, print_table
from grapevine_lab.bench_compare.taking import Builds, known_benchmarks, take_benchmarks, take_command, words_of
from grapevine_lab.bench_compare.turns import Row, in_turns
from grapevine_lab.bench_simulator.peers import Say, environments_folder
from grapevine_lab.commits import CHECKOUT, full_commit
from grapevine_proto.errors import ConfigError, GrapevineError


def main(
    base: Annotated[str, typer.Argument(help="A commit: its hash, a branch, a tag, HEAD~10.")],
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only this benchmark; may be repeated. Else all, unless --command is given."),
    ] = None,
    command: Annotated[
        list[str] | None,
        typer.Option(
            help="A command that both run, as 'grapevine --help': its time, CPU time and memory. May be repeated. "
            "{folder} in it is an empty folder."
        ),
    ] = None,
    turns: Annotated[int, typer.Option(min=1, help="How often each of them is measured.")] = 5,
    as_json_: Annotated[bool, typer.Option("--json", help="Answer with JSON.")] = False,
    out: Annotated[Path | None, typer.Option(help="A file for the JSON as well.", dir_okay=False)] = None,
) -> None:
    """Measure a commit and what is checked out, in turns, each with its own benchmarks in its own environment."""
    if out is not None and not out.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {out.parent}; make it", param_hint="--out")
    names = names_of(only or ([] if command else NAMES))
    messages = Console(stderr=True, highlight=False, soft_wrap=True)
    say = partial(messages.print, markup=False)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # processes are ended in any case
    try:
        now = build_here(CHECKOUT)
        with built(CHECKOUT, full_commit(CHECKOUT, base), environments_folder(), say) as before:
            say(f"base: {before.commit}, now: {now.commit}; {turns} turns each")
            found = compare({"base": before, "now": now}, names, command or [], turns, say)
        rows = {"base": before.commit, "now": now.commit, "rows": as_json(found)}
        if as_json_:
            sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        else:
            print_table(found, Console(highlight=False))
        if out is not None:
            out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    except ConfigError as error:
        say(f"error: {error}")
        raise typer.Exit(2) from None
    except (GrapevineError, OSError) as error:  # also: no make, a folder or a file that cannot be written
        say(f"error: {error}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if any(isinstance(each, Skipped) and each.failed for each in found):
        raise typer.Exit(1)


def compare(
    builds: Builds, names: Sequence[str], commands: Sequence[str], num_turns: int, say: Say
) -> list[Row | Skipped]:
    """Measure benchmarks and commands in both builds. Raises ConfigError for a command that one of them lacks."""
    words = {command: words_of(command, builds) for command in commands}
    known = known_benchmarks(builds["base"]) if names else []
    found: list[Row | Skipped] = []
    for benchmark in BENCHMARKS:
        wanted = [name for name in benchmark.names if name in names]
        found += [Skipped(name=name, reason="the base has no such benchmark") for name in wanted if name not in known]
        if both := [name for name in wanted if name in known]:
            say(f"{', '.join(both)} …")
            found += in_turns(partial(take_benchmarks, builds, both), num_turns)
    for command, given in words.items():
        say(f"{command} …")
        found += in_turns(partial(take_command, builds, command, given), num_turns, warm_up=True)
    return found


if __name__ == "__main__":
    typer.run(main)
