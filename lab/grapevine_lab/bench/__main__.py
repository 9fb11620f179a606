"""`python -m grapevine_lab.bench`.

Exit codes: 0 it was measured, and the table says which targets are met; 1 something could not be
measured; 2 the command line is wrong.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from grapevine_lab.bench import kept
from grapevine_lab.bench.figures import Skipped
from grapevine_lab.bench.suite import NAMES, measure, names_of
from grapevine_lab.bench.table import as_json, print_table
from grapevine_proto.errors import ConfigError


def main(
    only: Annotated[
        list[str] | None, typer.Option(help=f"Only this one; may be repeated. One of {', '.join(NAMES)}.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Keep the figures in this file (JSON), in place of earlier ones of the same benchmarks."),
    ] = None,
    as_json_: Annotated[bool, typer.Option("--json", help="Answer with JSON.")] = False,
) -> None:
    """Measure what Grapevine promises about speed and memory."""
    names = names_of(only or NAMES)
    messages = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        if out is not None:
            kept.read(out)  # what is no file of ours is found before it takes minutes
        made = kept.made_here()
        findings = measure(names)
        if as_json_:
            sys.stdout.write(json.dumps(as_json(findings), indent=2) + "\n")
        else:
            print_table(findings, Console(highlight=False))
        for name in kept.add(out, findings, made) if out is not None else ():
            messages.print(f"{name}: nothing was measured; what {out} has of it stays", markup=False)
    except ConfigError as error:
        messages.print(f"error: {error}", markup=False)
        raise typer.Exit(2) from None
    if any(isinstance(finding, Skipped) and finding.failed for finding in findings):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
