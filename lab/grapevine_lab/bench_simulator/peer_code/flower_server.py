"""Flower's server app, which a SuperLink runs in a process of its own; it tells of rounds in a file."""

from __future__ import annotations

import os

from flwr.app import Context  # type: ignore[import-not-found]  # it lives in the peer's environment
from flwr.serverapp import Grid, ServerApp  # type: ignore[import-not-found]

from .flower_strategy import serve
from .learner import TOLD_VARIABLE, Harness

app = ServerApp()


@app.main()  # type: ignore[untyped-decorator]
def main(grid: Grid, context: Context) -> None:
    """Run the app's plan."""
    serve(grid, str(context.run_config["plan"]), Harness(os.environ[TOLD_VARIABLE]))
