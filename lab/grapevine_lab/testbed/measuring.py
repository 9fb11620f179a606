"""What a lab has learned, as the tables of a simulation; and the same scenario simulated, to lay beside it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from grapevine_lab.fidelity.compare import Comparison, compare
from grapevine_lab.fidelity.measured import Pace, earlier, from_first_round, measurements_of, until_round
from grapevine_lab.fidelity.real import RealRun
from grapevine_lab.simulator.experiment import Prepared
from grapevine_lab.simulator.measurements import Measurements, series_of
from grapevine_lab.simulator.run import run_seed
from grapevine_lab.testbed.recording import read_passed
from grapevine_lab.testbed.store import PASSED, TIMELINE, Lab, entries
from grapevine_proto.errors import RequestError

MANY: Final = 1 << 40
FEWEST_ROUNDS: Final = 3  # of which curves can be compared


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One lab's run: times count from `Lab.began_s`."""

    run: RealRun
    real: Measurements
    simulated: tuple[Measurements, ...] = ()  # of the same seed, and of further ones
    num_rounds: int = 0  # that are compared
    comparison: Comparison | None = None


def measure(lab: Lab, prepared: Prepared) -> Measured:
    """Read what a lab has written down. Raises `RequestError` if nobody has a round behind it."""
    run = _run_of(lab)
    training = prepared.built.draft.training
    watts = tuple(prepared.profile_of(node).power.training_w for node in range(prepared.scenario.nodes.num))
    pace = Pace(
        num_rounds=prepared.scenario.rounds or MANY,
        num_steps=training.steps_per_round,
        watts_training=prepared.profile.power.training_w,
        watts_of=watts,
    )
    real = earlier(measurements_of(run, pace), {lab.seed: lab.began_s})
    if not (real.readings.column("round") >= 1).any():
        raise RequestError(
            f"lab {lab.name}: no peer has a round behind it, so there is nothing to report; of a lab that is up, "
            "grapevine lab status tells why"
        )
    return Measured(run=run, real=real)


def beside_simulated(measured: Measured, prepared: Prepared, seed: int, *, say: Callable[[str], None]) -> Measured:
    """The same with the scenario simulated for two seeds, and how far apart all three are, where that can be said."""
    sets = []
    for own in (seed, seed + 1):
        say(f"simulated: seed {own}")
        sets.append(until_round(run_seed(prepared, own).measurements, prepared.scenario.rounds or MANY))
    simulated = tuple(sets)
    num_rounds = min(_rounds_of_all(each) for each in (measured.real, *simulated))
    comparison = None
    if num_rounds >= FEWEST_ROUNDS and len({_num_series(each) for each in (measured.real, *simulated)}) == 1:
        shifted = [from_first_round(until_round(each, num_rounds)) for each in (*simulated, measured.real)]
        comparison = compare(
            shifted[:-1],
            shifted[-1],
            num_rounds=num_rounds,
            interval_s=prepared.built.draft.training.round_interval_s,
        )
    return Measured(
        run=measured.run, real=measured.real, simulated=simulated, num_rounds=num_rounds, comparison=comparison
    )


def _run_of(lab: Lab) -> RealRun:
    scenario = lab.scenario
    passed = [
        each
        for each in read_passed(lab.folder / PASSED)
        if each.metrics is None or not lab.task or each.metrics.task == lab.task
    ]
    noted: dict[str, Any] = {entry["what"]: entry for entry in entries(lab.folder / TIMELINE)}
    ended = noted.get("ended", {})
    peers = tuple(lab.peer_ids[each.name] for each in lab.peers)
    rounds = [0] * len(peers)
    for each in passed:
        if each.metrics is not None and each.sender in peers:
            node = peers.index(each.sender)
            rounds[node] = max(rounds[node], each.metrics.round - 1)
    last_s = max((each.t_s for each in passed), default=lab.began_s)
    return RealRun(
        seed=lab.seed,
        peers=peers,
        passed=tuple(passed),
        rounds=tuple(rounds),
        rejected=ended.get("rejected", {}),
        load_before=float(ended.get("load_before", math.nan)),
        load_after=float(ended.get("load_after", math.nan)),
        num_cores=len(os.sched_getaffinity(0)),
        wall_s=last_s - lab.began_s,
        reached_limit=not ended.get("in_time", True),
        places=scenario.nodes.brokers,
        gateways=scenario.nodes.gateways,
        servers=tuple(lab.server_ids),
    )


def _rounds_of_all(measured: Measurements) -> int:
    """The most rounds that every node has behind it."""
    readings = measured.readings
    if not len(readings):
        return 0
    series, rounds = series_of(readings), readings.column("round")
    return int(min(rounds[series == each].max() for each in np.unique(series)))


def _num_series(measured: Measurements) -> int:
    return len(np.unique(series_of(measured.readings)))
