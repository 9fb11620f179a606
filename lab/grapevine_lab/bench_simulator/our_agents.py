"""`python -m grapevine_lab.bench_simulator.our_agents SCENARIO ROUNDS`: real agents over Mosquitto that tell of rounds.

Each node is `grapevine agent run` as it is installed, with its trainer beside it. What they say is overheard at the
broker itself, past the line that counts. No agent waits for another, and some are up before others, so there are two
runs. The first is for the speed: it begins when the last agent has trained once, and a round of all is over when the
slowest has had one more. The second is for the accuracy: nobody trains for more than so many rounds.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from grapevine_lab.bench_simulator.ours import LEAST_INTERVAL_S
from grapevine_lab.bench_simulator.peer_code.crew import LISTEN_VARIABLE, MEET_VARIABLE, ports
from grapevine_lab.bench_simulator.peer_code.learner import Harness
from grapevine_lab.fidelity.onlooker import Notes, Passed
from grapevine_lab.fidelity.real import RealRun, Setting, run_real
from grapevine_lab.simulator.experiment import Prepared, prepare
from grapevine_lab.simulator.scenario import read_scenario

Tell = Callable[[int, int, float], None]  # of a round, how many models had crossed a line when it ended, and that time


@dataclass(kw_only=True)
class Window:
    """Counts the rounds of all from the moment on when each has trained once.

    A time is that on the wall when the message was made which shows it: it may be heard late, and many at once.
    """

    num_agents: int
    num_rounds: int
    begun: Callable[[float], None]  # told when
    tell: Tell
    _trained: dict[str, int] = field(default_factory=dict)  # by whom, and how often
    _before: dict[str, int] = field(default_factory=dict)  # … when the window began
    _num_heard: int = 0
    _num_models: int = 0
    _num_told: int = 0

    def is_over(self, notes: Notes) -> bool:
        """Take what was heard since; whether there have been enough rounds."""
        for passed in notes.passed[self._num_heard :]:
            self._num_heard += 1
            self._take(passed)
            self._tell_of_rounds(passed.t_s)
        return self._num_told == self.num_rounds

    def _tell_of_rounds(self, now_s: float) -> None:
        if not self._before:
            if len(self._trained) < self.num_agents:
                return
            self._before = dict(self._trained)
            self.begun(now_s)
        ended = min(self._trained[peer] - before for peer, before in self._before.items())
        while self._num_told < min(ended, self.num_rounds):
            self._num_told += 1
            self.tell(self._num_told, self._num_models, now_s)

    def _take(self, passed: Passed) -> None:
        if version := passed.versions.get(passed.sender, 0):
            self._num_models += 2  # to the broker, and from it
            self._trained[passed.sender] = max(version, self._trained.get(passed.sender, 0))
        if passed.metrics is not None and passed.metrics.round > 1:  # the round that has begun is not behind it
            self._trained[passed.sender] = max(passed.metrics.round - 1, self._trained.get(passed.sender, 0))


def main(scenario: Path, num_rounds: int) -> None:
    """Run the scenario with real agents, twice."""
    harness = Harness()
    (port,), (meet,) = ports(LISTEN_VARIABLE), ports(MEET_VARIABLE)
    setting = Setting(port=port, meet_port=meet, shortest_round_s=LEAST_INTERVAL_S)
    prepared = prepare(read_scenario(scenario))
    window = Window(
        num_agents=prepared.scenario.nodes.num,
        num_rounds=num_rounds,
        begun=lambda at_s: harness.ready(at_s=_steady(at_s)),
        tell=lambda number, models, at_s: harness.round_ended(number, models=models, at_s=_steady(at_s)),
    )
    _run(prepared, replace(setting, started=lambda pids: harness.nodes(list(pids)), enough=window.is_over))
    limited = prepare(read_scenario(scenario, changes=[f"task.training.num_rounds={num_rounds}"]))
    if (reached := accuracy(_run(limited, setting))) is not None:
        harness.learned(reached)


def accuracy(found: RealRun) -> float | None:
    """The mean of what the agents said last of their models; None: nobody said anything."""
    last = {passed.sender: passed.metrics.metric for passed in found.passed if passed.metrics is not None}
    known = [metric for metric in last.values() if metric is not None]
    return statistics.mean(known) if known else None


def _run(prepared: Prepared, setting: Setting) -> RealRun:
    with tempfile.TemporaryDirectory(prefix="gv-agents-") as folder:
        return run_real(prepared, prepared.scenario.seed, say=_say, keep_logs=Path(folder), setting=setting)


def _steady(wall_s: float) -> float:
    """The same moment by the clock that the harness goes by."""
    return wall_s - time.time() + time.monotonic()


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
