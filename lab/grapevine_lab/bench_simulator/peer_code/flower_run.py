"""`python -m peer_code.flower_run PLAN`: federated averaging in Flower's simulation engine.

All clients train in every round, and are not evaluated. Flower's engine, Ray, runs as many of them at a
time as there are cores, in processes that stay.
"""

from __future__ import annotations

import sys

from flwr.app import Context  # type: ignore[import-not-found]  # it lives in the peer's environment
from flwr.serverapp import Grid, ServerApp  # type: ignore[import-not-found]
from flwr.simulation import run_simulation  # type: ignore[import-not-found]

from .flower_client import app as client_app
from .flower_strategy import serve
from .learner import Harness, read_plan


def main(path: str) -> None:
    """Run the plan at `path`."""
    harness, plan = Harness(), read_plan(path)
    server_app = ServerApp()

    @server_app.main()  # type: ignore[untyped-decorator]
    def _serve(grid: Grid, _context: Context) -> None:
        serve(grid, path, harness)

    run_simulation(
        server_app=server_app,
        client_app=client_app,
        num_supernodes=plan.num_nodes,
        backend_config={
            "init_args": {"num_cpus": plan.num_cores, "include_dashboard": False, "log_to_driver": False},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )


if __name__ == "__main__":
    main(sys.argv[1])
