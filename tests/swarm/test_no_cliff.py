"""A server is lost and comes back, and nobody falls; and a server alone, whose clients send each other nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.swarm.simulations import LEARNING, outcome_of

from grapevine_lab.no_cliff.runs import Asked, run_one
from grapevine_lab.no_cliff.table import AGENT_FALL, MEAN_FALL

PLAIN = ("task.merging.strategy=follow-server", "server.present=[[0, inf]]", "scenario.rounds=30")


def test_nobody_falls_when_the_server_is_lost_and_when_it_is_back() -> None:
    found = run_one(Asked(task="digits-4", arrangement="lost", seed=0, rounds=60))
    loss, back = found.falls()
    assert (loss.event, back.event) == ("loss", "return")
    assert max(loss.mean, back.mean) <= MEAN_FALL
    assert max(loss.agent, back.agent) <= AGENT_FALL
    assert found.final > 0.9


@pytest.mark.parametrize(
    ("server_strategy", "sending"),
    [
        ("fedavg", "log-n"),
        ("fedasync", "log-n"),
        ("fedbuff", "log-n"),
        ("fedavg", "every-round"),
        ("fedavg", "token-account"),
    ],
)
def test_clients_of_a_plain_server_send_each_other_nothing_and_learn_by_its_model(
    tmp_path: Path, server_strategy: str, sending: str
) -> None:
    changes = [f"task.merging.server_strategy={server_strategy}", f"task.merging.send_rate={sending}"]
    if server_strategy == "fedbuff":
        changes.append("task.merging.server_constants={ buffer = 3 }")  # of five clients, not ten
    outcome = outcome_of(tmp_path, LEARNING, *PLAIN, *changes)
    assert (outcome.num_between_members, outcome.bytes_between_members) == (0, 0)
    assert outcome.server["messages_received"] > 5 * 20  # each client's rounds
    readings = outcome.measurements.readings
    last = (readings.column("round") == 30) & (readings.column("model") == 1)
    assert readings.column("metric")[last].min() > 0.8  # of four classes alone: 0.4
    assert np.ptp(readings.column("metric")[last]) < 0.1
