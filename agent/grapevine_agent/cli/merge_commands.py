"""`grapevine merge`: the agents' merge strategies, on files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grapevine_agent.cli.output import JsonOption, answer, escaped
from grapevine_proto.errors import RequestError

STRATEGY_NAMES = (
    *("average", "fedavg", "age-weighted", "doubly-weighted", "random-mix", "variance-corrected", "delta-sum"),
    *("cos-sim-dfl", "chisme", "trimmed-mean", "median", "krum", "follow-server"),
)


def register(app: typer.Typer) -> None:
    """Attach this command."""

    @app.command(epilog=f"Strategies: {', '.join(STRATEGY_NAMES)}.")
    def merge(
        local: Annotated[Path, typer.Option(help="The local model.", dir_okay=False)],
        out: Annotated[Path, typer.Option("--out", "-o", help="Where the merged model goes.", dir_okay=False)],
        strategy: Annotated[str, typer.Option(help="The name of a strategy.")] = "doubly-weighted",
        update: Annotated[
            list[Path] | None, typer.Option(help="A received model, in order of arrival; may be repeated.")
        ] = None,
        set_: Annotated[
            list[str] | None, typer.Option("--set", help="A constant, as key=value; may be repeated.")
        ] = None,
        as_json: JsonOption = False,
    ) -> None:
        """Merge models in safetensors files, as agents do.

        Tensors are the model, `base/…` what its delta is taken from. Metadata, as strings: age, experience,
        samples, epoch, kind (peer or server), contributors, silent_s, heartbeat_s, peer.
        """
        from grapevine_agent.model_files import merge_files

        settings: dict[str, str] = {}
        for text in set_ or []:
            key, equals, value = text.partition("=")
            if not equals:
                raise RequestError(f"--set {text}: write key=value")
            settings[key.strip()] = value.strip()
        shares = merge_files(strategy, local=local, updates=update or [], out=out, settings=settings)
        lines = "\n".join(f"  {share:7.4f}  {escaped(peer)}" for peer, share in shares.items())
        answer(
            {"out": str(out), "strategy": strategy, "shares": dict(shares)},
            as_json=as_json,
            text=f"wrote {escaped(str(out))} by {strategy}; what each model weighed:\n{lines}",
        )
