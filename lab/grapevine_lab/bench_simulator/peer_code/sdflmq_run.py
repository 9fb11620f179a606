"""`python -m peer_code.sdflmq_run PLAN`: SDFLMQ, federated averaging over an MQTT broker, each client a process.

Its coordinator is a process too, and so is the broker, Mosquitto: the program of `BENCH_MOSQUITTO`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .crew import LISTEN_VARIABLE, ports, run_crew, started, wait_for
from .learner import Harness, read_plan

MOSQUITTO_VARIABLE = "BENCH_MOSQUITTO"
_COORDINATOR = """
import sys
from sdflmq import DFLMQ_Coordinator
DFLMQ_Coordinator(
    myID="coordinator", broker_ip="127.0.0.1", broker_port=int(sys.argv[1]), loop_forever=True, plot_stats=False
)
"""


def main(path: str) -> None:
    """Run the plan at `path`."""
    harness, plan = Harness(), read_plan(path)
    (port,) = ports(LISTEN_VARIABLE)
    config = Path("mosquitto.conf").absolute()
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n", encoding="utf-8")
    with started([[os.environ[MOSQUITTO_VARIABLE], "-c", str(config)]]) as (broker,):
        wait_for(port)
        with started([[sys.executable, "-c", _COORDINATOR, str(port)]]) as (coordinator,):
            run_crew(
                "sdflmq_node",
                path,
                num_nodes=plan.num_nodes,
                num_rounds=plan.num_rounds,
                harness=harness,
                beside={"the broker": broker, "the coordinator": coordinator},
            )


if __name__ == "__main__":
    main(sys.argv[1])
