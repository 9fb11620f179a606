"""`python -m peer_code.p2pfl_run PLAN`: p2pfl's nodes over gRPC, each a process, all of them neighbours."""

from __future__ import annotations

import sys

from .crew import run_crew
from .learner import Harness, read_plan


def main(path: str) -> None:
    """Run the plan at `path`."""
    harness, plan = Harness(), read_plan(path)
    run_crew("p2pfl_node", path, num_nodes=plan.num_nodes, num_rounds=plan.num_rounds, harness=harness)


if __name__ == "__main__":
    main(sys.argv[1])
