"""`python -m grapevine_lab.coverage`.

Exit codes: 0 all models are covered; 1 one of them is not, or trains otherwise than eager PyTorch; 2 the command line
is wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from grapevine_proto.errors import GrapevineError

TOLERANCE = 1e-6  # of gradients, relative to the largest; outputs are of the order of 1, and get tenfold


def main(
    only: Annotated[
        list[str] | None, typer.Option(help="Only models whose name holds this; may be repeated. Writes nothing.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="How long steps of each model are timed; 0: not at all.", min=0)] = 5.0,
    out: Annotated[Path, typer.Option(help="The page that is written.", dir_okay=False)] = Path("docs/coverage.md"),
) -> None:
    """Build and train named models beside eager PyTorch, and write what was found as a page."""
    import torch  # noqa: PLC0415 - --help answers without all this

    from grapevine_lab.coverage.measure import Coverage, cover  # noqa: PLC0415
    from grapevine_lab.coverage.models import MODELS  # noqa: PLC0415
    from grapevine_lab.coverage.page import page  # noqa: PLC0415
    from grapevine_lab.coverage.refused import REFUSED, refusal  # noqa: PLC0415

    console = Console(highlight=False)
    torch.set_num_threads(1)
    chosen = [name for name in MODELS if not only or any(part.lower() in name.lower() for part in only)]
    if not chosen:
        msg = f"there is no such model: choose of {', '.join(MODELS)}"
        raise typer.BadParameter(msg, param_hint="--only")
    covered: dict[str, Coverage] = {}
    failed = False
    for name in chosen:
        try:
            covered[name] = found = cover(MODELS[name], seconds=seconds)
        except GrapevineError as error:
            failed = True
            console.print(f"{name}: {error}", markup=False)
            continue
        good = found.gradient_difference <= TOLERANCE and found.output_difference <= 10 * TOLERANCE
        failed = failed or not good
        speed = f", {found.speed:.2f} of eager's speed" if found.pairs else ""
        console.print(
            f"{name}: {found.num_nodes} nodes, gradients differ by {found.gradient_difference:.0e}{speed}"
            f"{'' if good else ': TOO FAR'}",
            markup=False,
        )
    if not only and not failed:
        text = page(covered, {name: refusal(build) for name, build in REFUSED.items()})
        out.write_text(text, encoding="utf-8")
        console.print(f"written: {out}", markup=False)
    if failed:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
