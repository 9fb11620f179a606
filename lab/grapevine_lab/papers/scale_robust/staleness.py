"""Gossip of versions alone: an event simulation of the scale-robust paper's section III.

Nothing is learned here and no message is encoded. Node i makes a new version of its model at the end of every wait of
Exp(μ) and training of c, which are renewals of rate 1/(c + 1/μ); sends are Poisson. A matrix holds N_j^i, the newest
version of node i's model that node j has, and staleness is S_j^i = N_i^i − N_j^i (eq. 2). It stands beside the
simulator, whose agents have no opportunistic sends, and which is slower by two orders of magnitude.

Two ways to send, both of n·λ sends a second in all:

    random          a node drawn at random sends to another one (Algorithm 1)
    opportunistic   the node that has made the newest version sends, until another one makes one (Theorem 2)

and two readings of what a send tells: all that the sender has mixed (eq. 1: relays count), or only its own version,
which is what the proof of Theorem 2 takes for granted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from grapevine_agent.core.learning.gossip import harmonic

Versions: TypeAlias = NDArray[np.int64]
Told: TypeAlias = Literal["highest", "random", "latest"]

SETTLED_SHARE = 0.25  # of a run, before which nothing is noted
NOTES_PER_UPDATE = 4  # of the staleness, in the mean time between two updates of a node
NUM_BATCHES = 20  # of a run's notes, whose means tell the standard error


@dataclass(frozen=True, kw_only=True)
class Gossip:
    """A complete graph of equal nodes. Rates in 1/s."""

    num_nodes: int
    send_rate: float  # λ: of each node
    update_rate: float = 1.0  # μ: of the exponential wait before a training
    training_s: float = 0.0  # c
    loss: float = 0.0  # share of the sends that do not arrive
    latency_s: float = 0.0
    opportunistic: bool = False
    relays_count: bool = True
    max_told: int = 0  # other nodes' versions in one send; 0: all of them
    told: Told = "highest"  # which ones: of the highest numbers, drawn at random, or those that were news last

    @property
    def effective_update_rate(self) -> float:
        """1/(c + 1/μ): new versions of one node per second."""
        return 1.0 / (self.training_s + 1.0 / self.update_rate)

    @property
    def bound(self) -> float:
        """Lemma 1's bound, with the rates of what is really done: (1/(c + 1/μ))/((1 − loss)·λ)·H_{n−1}.

        Latency is not in it: a version is told from node to node, and waits for it each time.
        """
        return self.effective_update_rate / ((1 - self.loss) * self.send_rate) * harmonic(self.num_nodes - 1)

    @property
    def first_hand_bound(self) -> float:
        """Expected staleness where relays do not count: a pair meets at the rate (1 − loss)·λ/(n − 1).

        It is the same for random and for opportunistic sends: there a pair meets n times as often, an n-th of the time.
        """
        return self.effective_update_rate * (self.num_nodes - 1) / ((1 - self.loss) * self.send_rate)

    @property
    def printed_bound(self) -> float:
        """Theorem 2's lower bound as eq. 15 prints it: 1/(1 − e^(−λ/(nμ)))."""
        return 1.0 / -math.expm1(-self.send_rate / (self.num_nodes * self.update_rate))

    @property
    def corrected_bound(self) -> float:
        """The fixed point of eq. 14, S = (S + 1)·e^(−x) with x = λ(c + 1/μ)/n: 1/(e^x − 1)."""
        return 1.0 / math.expm1((1 - self.loss) * self.send_rate / (self.num_nodes * self.effective_update_rate))


@dataclass(frozen=True, kw_only=True)
class Staleness:
    """Mean over time and over pairs of nodes, in versions, with its standard error (of batch means)."""

    mean: float
    error: float
    num_sends: int
    num_updates: int


def measure_staleness(gossip: Gossip, *, duration_s: float, seed: int) -> Staleness:
    """Run until `duration_s` of virtual time. The same seed gives the same numbers."""
    return _Run(gossip, np.random.default_rng(seed)).measure(duration_s)


class _Run:
    """One simulation under way. Events: (time, order, node, told versions or None for an update)."""

    def __init__(self, gossip: Gossip, rng: np.random.Generator) -> None:
        n = gossip.num_nodes
        self.gossip, self.rng = gossip, rng
        self.versions: Versions = np.zeros((n, n), np.int64)  # row j: what j has of each source
        self.heard_s = np.full((n, n), -1.0)  # when that was news to j
        self.freshest = 0
        self.num_sends = self.num_updates = 0
        self.events: list[tuple[float, int, int, Versions | None]] = [(self._wait(), i, i, None) for i in range(n)]
        heapify(self.events)
        self.next_order = n

    def measure(self, duration_s: float) -> Staleness:
        gossip, rng = self.gossip, self.rng
        between_sends_s = 1.0 / (gossip.num_nodes * gossip.send_rate)
        next_send_s = rng.exponential(between_sends_s)
        between_notes_s = 1.0 / (NOTES_PER_UPDATE * gossip.effective_update_rate)
        next_note_s = SETTLED_SHARE * duration_s
        notes: list[float] = []
        while True:
            now_s = min(self.events[0][0], next_send_s)
            while next_note_s < min(now_s, duration_s):
                notes.append(self._mean_staleness())
                next_note_s += between_notes_s
            if now_s >= duration_s:
                break
            if now_s == next_send_s:
                self._send(now_s)
                next_send_s += rng.exponential(between_sends_s)
                continue
            _, _, node, told = heappop(self.events)
            if told is None:
                self._update(node, now_s)
            else:
                self._hear(node, told, now_s)
        means = [float(np.mean(batch)) for batch in np.array_split(notes, NUM_BATCHES) if len(batch)]
        error = float(np.std(means, ddof=1) / math.sqrt(len(means))) if len(means) > 1 else math.nan
        return Staleness(
            mean=float(np.mean(notes)), error=error, num_sends=self.num_sends, num_updates=self.num_updates
        )

    def _wait(self) -> float:
        return self.gossip.training_s + float(self.rng.exponential(1.0 / self.gossip.update_rate))

    def _push(self, time_s: float, node: int, told: Versions | None) -> None:
        heappush(self.events, (time_s, self.next_order, node, told))
        self.next_order += 1

    def _update(self, node: int, now_s: float) -> None:
        self.versions[node, node] += 1
        self.freshest = node
        self.num_updates += 1
        self._push(now_s + self._wait(), node, None)

    def _send(self, now_s: float) -> None:
        gossip, rng = self.gossip, self.rng
        sender = self.freshest if gossip.opportunistic else int(rng.integers(gossip.num_nodes))
        receiver = int(rng.integers(gossip.num_nodes - 1))
        receiver += receiver >= sender
        self.num_sends += 1
        if gossip.loss and rng.random() < gossip.loss:
            return
        told = self._told(sender)
        if gossip.latency_s:
            self._push(now_s + gossip.latency_s, receiver, told)
        else:
            self._hear(receiver, told, now_s)

    def _told(self, sender: int) -> Versions:
        """What a send tells, as a row; 0, which is no news, for whatever it does not tell."""
        gossip = self.gossip
        row: Versions = self.versions[sender]
        if gossip.relays_count and not 0 < gossip.max_told < gossip.num_nodes - 1:
            return row.copy()
        told: Versions = np.zeros_like(row)
        told[sender] = row[sender]
        if gossip.relays_count:
            chosen = self._chosen(sender)
            told[chosen] = row[chosen]
        return told

    def _chosen(self, sender: int) -> NDArray[np.int64]:
        others = np.delete(np.arange(self.gossip.num_nodes), sender)
        match self.gossip.told:
            case "random":
                return np.asarray(self.rng.choice(others, self.gossip.max_told, replace=False))
            case "highest":
                rank = self.versions[sender, others]
            case "latest":
                rank = self.heard_s[sender, others]
        return np.asarray(others[np.argsort(-rank, kind="stable")[: self.gossip.max_told]])

    def _hear(self, receiver: int, told: Versions, now_s: float) -> None:
        row = self.versions[receiver]
        if self.gossip.max_told:
            self.heard_s[receiver, told > row] = now_s
        np.maximum(row, told, out=row)

    def _mean_staleness(self) -> float:
        n = self.gossip.num_nodes
        return float((n * np.trace(self.versions) - self.versions.sum()) / (n * (n - 1)))
