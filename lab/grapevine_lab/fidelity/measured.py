"""From what was overheard of a real run to the same measurements as a simulation makes.

A simulation notes a model, and how its node stands, at the moment when a round begins. A real agent says how its model
of that moment does once its trainer has trained and then evaluated it, so that time is taken off again: how long it
trained is told by the energy that it says it took. Rounds are counted as the simulator does, by those that a node has
behind it: an agent's `round` is the one that it is in. Staleness is counted from everybody's own versions, as the
simulator counts it; what agents say of it themselves rests on heartbeats that are many rounds apart. What the engineer
and the reviewers say is left out of the traffic, since a simulation has neither.

At several brokers a message counts at each where it is said, for whoever listens there. Which gateway has carried one
is not written on it: those at its broker are taken to do so in turn, so that the mean over nodes is right, and what a
single gateway has is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from grapevine_lab.fidelity.onlooker import Passed
from grapevine_lab.fidelity.real import RealRun
from grapevine_lab.simulator.measurements import MODELS, Measurements, Reading, Row, Rows, Sample, columns_of
from grapevine_proto.messages import Metrics

RECORDS = ("announcement", "state", "manifest", "review", "server")


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What a run's task and device say about time."""

    num_rounds: int  # later ones are left out
    num_steps: int  # of the optimiser in a round
    watts_training: float  # 0: not known, and neither is how long agents train
    watts_of: tuple[float, ...] = ()  # of each node, where they are not the same


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One round of one agent. `trained_s` is how long it trained: in the first round with the trainer's start."""

    began_s: float
    trained_s: float
    said_s: float
    metrics: Metrics


def turns_of(peer: str, passed: Sequence[Passed], pace: Pace) -> list[Turn]:
    """An agent's rounds in their order. One whose message was lost is missing."""
    once = {each.metrics.round: each for each in passed if each.sender == peer and each.metrics is not None}
    said = sorted(
        ((each.t_s, each.metrics) for each in once.values() if each.metrics is not None),
        key=lambda item: item[1].round,
    )
    assert not pace.watts_training or all(metrics.energy_j is not None for _, metrics in said), "it is told"
    turns: list[Turn] = []
    spent_j, before = 0.0, 0
    for t_s, metrics in said:
        # The energy of rounds that were not heard of is shared out evenly.
        energy_j = metrics.energy_j or 0.0
        drawn_j = max(0.0, energy_j - spent_j)  # one that was restarted may have forgotten what it drew
        trained_s = drawn_j / pace.watts_training / max(1, metrics.round - before) if pace.watts_training else 0.0
        turns.append(Turn(began_s=t_s - trained_s, trained_s=trained_s, said_s=t_s, metrics=metrics))
        spent_j, before = energy_j, metrics.round
    return turns


def measurements_of(run: RealRun, pace: Pace) -> Measurements:
    """The readings of the released models, and the samples, of a real run. Times are by the clock on the wall."""
    paces = [replace(pace, watts_training=watts) for watts in pace.watts_of] or [pace] * len(run.peers)
    turns = {peer: turns_of(peer, run.passed, own) for peer, own in zip(run.peers, paces, strict=True)}
    measured = Measurements()
    carried = _carried(run)
    for node, peer in enumerate(run.peers):
        traffic = _Traffic.of(peer, run, carried.get(node, ((), ())))
        heard = _heard_by(peer, run.passed)
        for turn in turns[peer]:
            done = turn.metrics.round - 1
            if done > pace.num_rounds:
                break
            measured.add(_reading(run.seed, node, turn))
            others = [_versions_at(turns[other], turn.began_s) for other in run.peers if other != peer]
            held = [_newest(heard, other, turn.began_s) for other in run.peers if other != peer]
            lags = [max(0, version - have) for version, have in zip(others, held, strict=True)]
            staleness = float(np.mean(lags)) if lags else math.nan
            watts = paces[node].watts_training
            spent_s = (turn.metrics.energy_j or 0.0) / watts - turn.trained_s if watts else math.nan
            measured.add(_sample(run.seed, node, turn, pace, staleness, traffic.until(turn.began_s), spent_s))
    return measured


def from_first_round(measurements: Measurements) -> Measurements:
    """The same with times that count, in each seed, from the moment when the first node had a round behind it.

    How long a real agent takes to fetch its task and to start its trainer is thereby left out.
    """
    readings = measurements.readings
    rounds, times, seeds = (readings.column(name) for name in ("round", "time_s", "seed"))
    zero_s = {int(seed): float(times[(seeds == seed) & (rounds == 1)].min()) for seed in np.unique(seeds)}
    return earlier(measurements, zero_s)


def earlier(measurements: Measurements, zero_s: Mapping[int, float]) -> Measurements:
    """The same with times that count, in each seed, from a moment of its own."""
    shifted = Measurements()
    shifted.readings = _earlier(measurements.readings, zero_s)
    shifted.samples = _earlier(measurements.samples, zero_s)
    return shifted


def until_round(measurements: Measurements, num_rounds: int) -> Measurements:
    """The released models, and the samples, up to a number of rounds."""
    cut = Measurements()
    readings, samples = measurements.readings, measurements.samples
    released = readings.column("model") == MODELS.index("released")
    cut.readings = readings.where(released & (readings.column("round") <= num_rounds))
    cut.samples = samples.where(samples.column("round") <= num_rounds)
    return cut


@dataclass(frozen=True, kw_only=True)
class _Traffic:
    """A node's messages: when each was sent [k] and received [l], and the bytes up to and with it."""

    sent_s: NDArray[np.float64]
    bytes_sent: NDArray[np.int64]
    received_s: NDArray[np.float64]
    bytes_received: NDArray[np.int64]

    @classmethod
    def of(cls, peer: str, run: RealRun, carried: tuple[Sequence[Passed], Sequence[Passed]]) -> _Traffic:
        """`carried`: what it has sent, and received, as a gateway for others."""
        at = _brokers_of(run, peer)
        sent = [each for each in run.passed if each.sender == peer and not _is_said_again(run, each)]
        told = (*run.peers, *run.servers)
        received = [each for each in run.passed if each.sender in told and each.broker in at]
        received = [each for each in received if _reaches(peer, each)]
        sent, received = [*sent, *carried[0]], [*received, *carried[1]]
        columns = []
        for messages in (sent, received):
            times = np.array([each.t_s for each in messages], np.float64)
            order = np.argsort(times, kind="stable")
            sizes = np.array([each.num_bytes for each in messages], np.int64)
            columns += [times[order], np.concatenate([[0], np.cumsum(sizes[order])])]
        return cls(sent_s=columns[0], bytes_sent=columns[1], received_s=columns[2], bytes_received=columns[3])

    def until(self, t_s: float) -> tuple[int, int, int, int]:
        """Messages and bytes sent, messages and bytes received."""
        sent = int(np.searchsorted(self.sent_s, t_s, side="right"))
        received = int(np.searchsorted(self.received_s, t_s, side="right"))
        return sent, int(self.bytes_sent[sent]), received, int(self.bytes_received[received])


def _brokers_of(run: RealRun, peer: str) -> tuple[int, ...]:
    return run.places[run.peers.index(peer)] if run.places else (0,)


def _is_said_again(run: RealRun, passed: Passed) -> bool:
    """Whether a gateway or a bridge has said it, and not its sender, who is not at that broker."""
    return passed.hops > 0 or (passed.sender in run.peers and passed.broker not in _brokers_of(run, passed.sender))


def _carried(run: RealRun) -> dict[int, tuple[list[Passed], list[Passed]]]:
    """What each gateway has sent, and received, for others: see the module's docstring."""
    found: dict[int, tuple[list[Passed], list[Passed]]] = {node: ([], []) for node in run.gateways}
    for number, each in enumerate(run.passed):
        gateways = [node for node in run.gateways if each.broker in run.places[node]]
        if not gateways or each.sender not in run.peers:
            continue
        gateway = gateways[number % len(gateways)]
        if _is_said_again(run, each):
            found[gateway][0].append(each)
        if each.receiver in run.peers and each.broker not in _brokers_of(run, each.receiver):
            found[gateway][1].append(each)
    return found


def _reaches(peer: str, message: Passed) -> bool:
    """Whether a peer has subscribed to it: its inbox, the others' heartbeats in a small overlay, and all records."""
    if message.leaf == "inbox":
        return message.receiver == peer
    return message.leaf in (*RECORDS, "model") or (message.leaf == "heartbeat" and message.sender != peer)


def _heard_by(peer: str, passed: Sequence[Passed]) -> dict[str, list[tuple[float, int]]]:
    """For every source, when an update with a version of it came, and which."""
    heard: dict[str, list[tuple[float, int]]] = {}
    for each in passed:
        if each.receiver == peer:
            for source, version in each.versions.items():
                heard.setdefault(source, []).append((each.t_s, version))
    return heard


def _newest(heard: dict[str, list[tuple[float, int]]], source: str, t_s: float) -> int:
    return max((version for at_s, version in heard.get(source, ()) if at_s <= t_s), default=0)


def _versions_at(turns: Sequence[Turn], t_s: float) -> int:
    """How many of its own updates an agent had made: it says how it does right after each."""
    return max((turn.metrics.round for turn in turns if turn.said_s <= t_s), default=0)


def _reading(seed: int, node: int, turn: Turn) -> Reading:
    metrics = turn.metrics
    return Reading(
        seed=seed,
        time_s=turn.began_s,
        round=metrics.round - 1,
        node=node,
        model="released",
        loss=math.nan if metrics.loss is None else metrics.loss,
        metric=math.nan if metrics.metric is None else metrics.metric,
        num_evaluated=metrics.num_evaluated,
    )


def _sample(
    seed: int,
    node: int,
    turn: Turn,
    pace: Pace,
    staleness: float,
    traffic: tuple[int, int, int, int],
    training_s: float,
) -> Sample:
    """What agents do not say (the bound, energy but for training) is not a number."""
    metrics = turn.metrics
    messages_sent, bytes_sent, messages_received, bytes_received = traffic
    return Sample(
        seed=seed,
        time_s=turn.began_s,
        round=metrics.round - 1,
        node=node,
        online=True,
        version=metrics.round - 1,
        age=max(0, metrics.age - pace.num_steps),
        staleness=staleness,
        staleness_bound=float("nan"),
        num_neighbours=metrics.num_peers,
        server=metrics.server,
        messages_sent=messages_sent,
        bytes_sent=bytes_sent,
        messages_received=messages_received,
        bytes_received=bytes_received,
        joules=float("nan"),
        training_s=training_s,
    )


def _earlier(rows: Rows[Row], zero_s: Mapping[int, float]) -> Rows[Row]:
    columns = {column.name: rows.column(column.name) for column in columns_of(rows.kind)}
    columns["time_s"] = columns["time_s"] - np.array([zero_s[int(seed)] for seed in columns["seed"]], np.float64)
    return Rows.from_columns(rows.kind, columns)
