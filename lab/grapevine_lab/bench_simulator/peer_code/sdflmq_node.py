"""`python -m peer_code.sdflmq_node PLAN NUMBER`: one client of SDFLMQ. The first one opens the session, all join it.

A round is over for a client when it has the new model of all.
"""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import Any

from sdflmq import SDFLMQ_Client  # type: ignore[import-not-found]  # it lives in the peer's environment

from .crew import MEET_VARIABLE, ports
from .learner import Harness, LocalTraining, accuracy, read_plan, read_samples

SESSION = "session"
LATER_S = 3.0  # the others join a session that is there


class CountingClient(SDFLMQ_Client):  # type: ignore[misc]
    """SDFLMQ's own client that counts the models that it sends and gets."""

    num_models = 0

    def publish(self, topic: str, func_name: str, msg: str) -> None:
        """Send."""
        self.num_models += func_name in ("receive_global", "receive_local")
        super().publish(topic, func_name, msg)

    def execute_on_msg(self, header_parts: list[str], body: str) -> None:
        """Receive."""
        self.num_models += header_parts[2] in ("receive_global", "receive_local")
        super().execute_on_msg(header_parts, body)


def main(path: str, number: int) -> None:
    """Run one client of the plan at `path`."""
    harness, plan = Harness(), read_plan(path)
    (port,) = ports(MEET_VARIABLE)
    training = LocalTraining(plan, number)
    name = f"client_{number}"
    if number:
        time.sleep(LATER_S)
    client = CountingClient(
        myID=name, broker_ip="127.0.0.1", broker_port=port, preferred_role="aggregator", loop_forever=False
    )
    session: dict[str, Any] = {
        "session_id": SESSION,
        "fl_rounds": plan.num_rounds,
        "model_name": plan.model,
        "preferred_role": "aggregator",
    }
    if number:
        client.join_fl_session(**session)
    else:
        client.create_fl_session(
            **session,
            session_time=timedelta(hours=1),
            session_capacity_min=plan.num_nodes,
            session_capacity_max=plan.num_nodes,
            waiting_time=timedelta(minutes=10),
        )
    harness.ready()
    for round_ in range(plan.num_rounds):
        training.train()
        client.set_model(SESSION, training.model)
        client.send_local(SESSION)
        client.wait_global_update()
        harness.round_ended(round_ + 1, models=client.num_models)
    harness.learned(accuracy(training.model, read_samples(plan.samples)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
