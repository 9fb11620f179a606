"""`python -m peer_code.quinkgl_run PLAN`: QuinkGL's nodes over IPv8 (UDP), each a process."""

from __future__ import annotations

import sys

from .crew import run_crew
from .learner import Harness, read_plan


def main(path: str) -> None:
    """Run the plan at `path`."""
    harness, plan = Harness(), read_plan(path)
    run_crew("quinkgl_node", path, num_nodes=plan.num_nodes, num_rounds=plan.num_rounds, harness=harness)


if __name__ == "__main__":
    main(sys.argv[1])
