"""`python -m grapevine_lab.bench_simulator.our_agents SCENARIO`: real agents over Mosquitto that tell of rounds.

Each node is `grapevine agent run` as it is installed, with its trainer beside it. What they say is overheard at the
broker itself, past the line that counts.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from grapevine_lab.bench_simulator.ours import LEAST_INTERVAL_S
from grapevine_lab.bench_simulator.peer_code.crew import LISTEN_VARIABLE, MEET_VARIABLE, ports
from grapevine_lab.bench_simulator.peer_code.learner import Harness
from grapevine_lab.fidelity.onlooker import Notes
from grapevine_lab.fidelity.real import Setting, run_real
from grapevine_lab.simulator.experiment import prepare
from grapevine_lab.simulator.scenario import read_scenario


def models_in(notes: Notes) -> int:
    """How often a model has crossed a line: to the broker, and from it to its receiver."""
    return 2 * sum(1 for passed in notes.passed if passed.versions)


def main(scenario: Path) -> None:
    """Run the scenario with real agents."""
    harness = Harness()
    (port,), (meet,) = ports(LISTEN_VARIABLE), ports(MEET_VARIABLE)
    prepared = prepare(read_scenario(scenario))
    setting = Setting(
        port=port,
        meet_port=meet,
        shortest_round_s=LEAST_INTERVAL_S,
        started=lambda pids: harness.nodes(list(pids)),
        round_ended=lambda number, notes: harness.round_ended(number, models=models_in(notes)),
    )
    with tempfile.TemporaryDirectory(prefix="gv-agents-") as folder:
        found = run_real(
            prepared, prepared.scenario.seed, say=lambda text: print(text, file=sys.stderr), keep_logs=Path(folder),
            setting=setting,
        )  # fmt: skip
    last = {passed.sender: passed.metrics.metric for passed in found.passed if passed.metrics is not None}
    known = [metric for metric in last.values() if metric is not None]
    if known:
        harness.learned(statistics.mean(known))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
