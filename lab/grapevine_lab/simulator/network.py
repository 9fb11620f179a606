"""The network between the nodes and their brokers: how long a message takes, and whether it arrives.

Every node has one link, and a message crosses two of them: the sender's up, the receiver's down.

    leaves  = when the link is free + bytes / bandwidth
    arrives = leaves + latency + jitter          never before what was sent earlier (TCP keeps order)

A connection that is up loses nothing that the broker must keep, as TCP does not. `loss` is what
applications see all the same, of messages that are not records: full queues, connections that end
in between, the unreliable links of the papers (Chisme's R = 1 − loss). `up_loss` is what a broker loses: a
message that never reaches it, or whose acknowledgement never comes. A *partition* divides the nodes
into groups that cannot hear each other; each group keeps a broker of its own until it is healed.

The broker stands in the middle: half a latency up, half of one down, so a round trip to it takes one latency.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

PAUSE_S = 1.0  # the transport's shortest, before jitter


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A partition: from `from_s` to `until_s` the groups cannot hear each other. Who is in none is in the first."""

    from_s: float
    until_s: float
    groups: tuple[tuple[int, ...], ...]

    def group_of(self, node: int) -> int:
        """The group that a node is in."""
        return next((number for number, group in enumerate(self.groups) if node in group), 0)


@dataclass(frozen=True, kw_only=True)
class NetworkPlan:
    """What all links have in common. Infinite bandwidths take no time; `latency_s` is one way, between two nodes."""

    latency_s: float = 0.02
    jitter_s: float = 0.0  # standard deviation of what is added, never below 0
    up_bps: float = float("inf")  # bits per second
    down_bps: float = float("inf")
    loss: float = 0.0  # of messages that are not records
    up_loss: float = 0.0  # of all that is sent to the broker
    wan: bool = False  # latencies between sites as measured, instead of `latency_s`
    fedscale: bool = False  # bandwidths drawn from device profiles, instead of `up_bps` and `down_bps`
    signatures: bool = False  # sign and verify every message; hostile peers need it, throughput does not
    cuts: tuple[Cut, ...] = ()


@dataclass
class Link:
    """One node's link, whatever brokers it is connected to over it. Bandwidths in bits per second."""

    up_bps: float
    down_bps: float
    up_free_s: float = 0.0
    down_free_s: float = 0.0
    radio_s: float = 0.0  # time spent sending and receiving
    bytes_sent: int = 0
    bytes_received: int = 0
    messages_sent: int = 0
    messages_received: int = 0

    def send(self, num_bytes: int, now_s: float) -> float:
        """Put a message on the way up; when its last bit has left."""
        takes_s = 8 * num_bytes / self.up_bps
        self.up_free_s = max(self.up_free_s, now_s) + takes_s
        self.radio_s += takes_s
        self.bytes_sent += num_bytes
        self.messages_sent += 1
        return self.up_free_s

    def receive(self, num_bytes: int, now_s: float) -> float:
        """Put a message on the way down; when its last bit has passed."""
        takes_s = 8 * num_bytes / self.down_bps
        self.down_free_s = max(self.down_free_s, now_s) + takes_s
        self.radio_s += takes_s
        return self.down_free_s

    def arrived(self, num_bytes: int) -> None:
        """Count a message that was received."""
        self.bytes_received += num_bytes
        self.messages_received += 1


@dataclass
class Network:
    """All links. `sites`: each node's row in the matrix of one-way latencies [s, s], in seconds."""

    plan: NetworkPlan
    links: list[Link]
    rng: np.random.Generator
    latencies_s: NDArray[np.float64] | None = None
    sites: list[int] = field(default_factory=list)
    _round_trips_s: dict[int, float] = field(default_factory=dict)  # by site

    def latency_s(self, sender: int, receiver: int, own_s: float | None = None) -> float:
        """One way between two nodes, for one message; -1 stands for somebody without a place.

        `own_s`: what the broker between them has of its own.
        """
        if own_s is not None:
            latency_s = own_s
        elif self.latencies_s is not None and sender >= 0:
            latency_s = float(self.latencies_s[self.sites[sender], self.sites[receiver]])
        else:
            latency_s = self.plan.latency_s
        if self.plan.jitter_s:
            latency_s += abs(float(self.rng.normal(0.0, self.plan.jitter_s)))
        return latency_s

    def round_trip_s(self, node: int, own_s: float | None = None) -> float:
        """From a node to its broker and back, without jitter: the mean of one way to each node."""
        if own_s is not None:
            return own_s
        if self.latencies_s is None:
            return self.plan.latency_s
        site = self.sites[node]
        if site not in self._round_trips_s:
            self._round_trips_s[site] = float(self.latencies_s[site, self.sites].mean())
        return self._round_trips_s[site]

    def is_cut(self, sender: int, receiver: int, now_s: float) -> bool:
        """Whether a partition lies between two nodes now."""
        return any(
            cut.from_s <= now_s < cut.until_s and cut.group_of(sender) != cut.group_of(receiver)
            for cut in self.plan.cuts
        )

    def loses(self) -> bool:
        """Whether a message that may be lost is lost."""
        return self.plan.loss > 0 and self.rng.random() < self.plan.loss

    def loses_up(self) -> bool:
        """Whether what is sent to the broker is lost on the way there."""
        return self.plan.up_loss > 0 and self.rng.random() < self.plan.up_loss

    def pause_s(self) -> float:
        """How long a node waits before it connects again, as the transport does."""
        return PAUSE_S * float(self.rng.uniform(0.5, 1.0))
