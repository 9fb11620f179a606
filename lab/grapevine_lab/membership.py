"""How soon a dead peer is found, and how often a living one is taken for dead: `python -m grapevine_lab.membership`.

So many agents' cores on a virtual clock, with a broker in memory that loses messages on the way to it and from it, each
with the same probability; records arrive, as a broker has to see to it. Nobody trains, so that nothing but heartbeats
and probes shows that a peer is there: that is the worst case. *Without probes* no heartbeat says that its sender
answers any, as those of agents of before: then 3.5 intervals of silence decide.
"""

from __future__ import annotations

import heapq
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from grapevine_agent.core import effects as fx
from grapevine_agent.core.agent import AgentCore
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.settings import CoreSettings
from grapevine_proto.codec import Received
from grapevine_proto.errors import WireError
from grapevine_proto.messages import RECORDS, Body, Heartbeat, Message, Probe, ProbeAnswer, ProbeRequest
from grapevine_proto.topics import InboxTopic, PeerTopic, Topic

EPOCH_MS = 1_750_000_000_000
LATENCY_S = 0.02  # one way, through the broker
LOOK_EVERY_S = 0.25
SETTLE_HEARTBEATS = 30  # until everybody has heard everybody, and has learned how much is lost
DEATHS = 10
LOSSES = (0.0, 0.1, 0.3)
TITLE = "of one agent, in an hour: false deaths, and messages about probes; 5th to 95th percentile"
PROBES = (Probe, ProbeRequest, ProbeAnswer)


@dataclass(eq=False)
class Agent:
    """A core, and what its shell holds."""

    core: AgentCore
    peer: str
    filters: set[str] = field(default_factory=set)
    session: int = 0
    sequence: int = EPOCH_MS
    is_up: bool = True
    wakes_s: float = np.inf


@dataclass(kw_only=True)
class Crowd:
    """Agents that share a broker, and time."""

    num_agents: int
    loss: float
    heartbeat_s: float = 5.0
    with_probes: bool = True
    seed: int = 0
    now_s: float = 0.0
    said: Counter[type[Body]] = field(default_factory=Counter)
    retained: dict[Topic, Received] = field(default_factory=dict)
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _order: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.agents: dict[str, Agent] = {}
        for k in range(self.num_agents):
            self._at(self.heartbeat_s * float(self.rng.random()), partial(self.start, f"agent-{k:02d}"))

    def start(self, peer: str) -> None:
        """An agent's process begins, for the first time or again."""
        settings = CoreSettings(peer=peer, heartbeat_s=self.heartbeat_s, consent="never")
        agent = Agent(AgentCore(settings=settings, rng=np.random.default_rng(int(self.rng.integers(2**32)))), peer)
        if peer in self.agents:
            agent.sequence = self.agents[peer].sequence
        self.agents[peer] = agent
        agent.session = EPOCH_MS + int(self.now_s * 1000)
        now = self._moment()
        self._perform(agent, agent.core.start([], {}, now))
        self._perform(agent, agent.core.connected(agent.session, now))
        self._plan(agent)

    def run(self, for_s: float) -> None:
        """Let time pass."""
        end_s = self.now_s + for_s
        while self._events and self._events[0][0] <= end_s:
            self.now_s, _, do = heapq.heappop(self._events)
            do()
        self.now_s = end_s

    def alive_of(self, agent: Agent) -> set[str]:
        """Whom an agent listens to and counts on."""
        members = agent.core.members
        return {peer for peer in members.sampled_since_s if members.is_alive(peer, self.now_s)}

    def _moment(self) -> Moment:
        return Moment(self.now_s, EPOCH_MS + int(self.now_s * 1000))

    def _at(self, time_s: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(time_s, self.now_s), next(self._order), do))

    def _plan(self, agent: Agent) -> None:
        deadline_s = max(agent.core.deadline_s(), self.now_s)
        if deadline_s < agent.wakes_s:
            agent.wakes_s = deadline_s
            self._at(deadline_s, lambda: self._wake(agent, deadline_s))

    def _wake(self, agent: Agent, planned_s: float) -> None:
        if not agent.is_up or agent.wakes_s != planned_s:
            return
        agent.wakes_s = np.inf
        if agent.core.deadline_s() <= self.now_s:
            self._perform(agent, agent.core.tick(self._moment()))
        self._plan(agent)

    def _perform(self, agent: Agent, effects: Iterable[fx.Effect]) -> None:
        for effect in effects:
            match effect:
                case fx.Publish():
                    self._publish(agent, effect)
                case fx.Subscribe(filter=name):
                    agent.filters.add(name)
                    for topic, received in list(self.retained.items()):
                        if _hears({name}, topic):
                            self._send(agent, replace(received, retained=True))
                case fx.Unsubscribe(filter=name):
                    agent.filters.discard(name)

    def _publish(self, agent: Agent, effect: fx.Publish) -> None:
        agent.sequence += 1
        body = effect.body
        self.said[type(body)] += 1
        if isinstance(body, Heartbeat) and not self.with_probes:
            body = replace(body, incarnation=0)
        message = Message(
            sender=agent.peer,
            session=agent.session,
            sequence=agent.sequence,
            body=body,
            expires_at_ms=effect.expires_at_ms,
            receiver_session=effect.receiver_session,
        )
        received = Received(message=message, topic=effect.topic, envelope=agent.sequence.to_bytes(8, "big"))
        if isinstance(body, RECORDS):
            self.retained[effect.topic] = received
        elif self._loses():
            return
        for other in self.agents.values():
            if other.is_up and other is not agent and _hears(other.filters, effect.topic):
                self._send(other, received)

    def _send(self, agent: Agent, received: Received) -> None:
        if received.is_record or not self._loses():
            self._at(self.now_s + LATENCY_S, lambda: self._hear(agent, received))

    def _loses(self) -> bool:
        return self.loss > 0 and self.rng.random() < self.loss

    def _hear(self, agent: Agent, received: Received) -> None:
        if not agent.is_up:
            return
        try:
            if agent.core.is_worth_reading(received.topic, 200, self._moment()):
                self._perform(agent, agent.core.receive(received, self._moment()))
        except WireError:
            return
        finally:
            self._plan(agent)


def _hears(filters: set[str], topic: Topic) -> bool:
    match topic:
        case PeerTopic(leaf=leaf):
            return topic.below_root() in filters or f"peer/+/{leaf}" in filters
        case InboxTopic(receiver=receiver):
            return f"inbox/{receiver}/+" in filters
    return False


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was measured in one crowd."""

    loss: float
    with_probes: bool
    hours: float
    num_agents: int
    false_deaths: int
    detections_s: list[float]
    probe_messages: int  # of all agents in those hours

    @property
    def false_deaths_per_hour(self) -> float:
        """In an hour, of all that one agent listens to."""
        return self.false_deaths / self.hours / self.num_agents

    @property
    def probe_messages_per_hour(self) -> float:
        """Probes, requests and answers that one agent sends in an hour."""
        return self.probe_messages / self.hours / self.num_agents


def measure(loss: float, *, with_probes: bool, hours: float = 0.25, num_agents: int = 30, seed: int = 0) -> Found:
    """One crowd in peace, and then members that die one after the other, each without its will."""
    crowd = Crowd(num_agents=num_agents, loss=loss, with_probes=with_probes, seed=seed)
    crowd.run(SETTLE_HEARTBEATS * crowd.heartbeat_s)
    crowd.said.clear()
    false_deaths = _false_deaths(crowd, hours)
    probe_messages = sum(crowd.said[kind] for kind in PROBES)
    detections_s = [each for _ in range(DEATHS) for each in _detections_s(crowd)]
    return Found(
        loss=loss,
        with_probes=with_probes,
        hours=hours,
        num_agents=num_agents,
        false_deaths=false_deaths,
        detections_s=detections_s,
        probe_messages=probe_messages,
    )


def _false_deaths(crowd: Crowd, hours: float) -> int:
    """How often somebody stopped to count on a peer that it listened to, and that was there."""
    num, counted = 0, {peer: crowd.alive_of(agent) for peer, agent in crowd.agents.items()}
    for _ in range(int(hours * 3600 / LOOK_EVERY_S)):
        crowd.run(LOOK_EVERY_S)
        for peer, agent in crowd.agents.items():
            members = agent.core.members
            num += sum(not members.is_alive(other, crowd.now_s) for other in counted[peer])
            counted[peer] = crowd.alive_of(agent)
    return num


def _detections_s(crowd: Crowd) -> list[float]:
    """One peer dies. How long it takes each of those who listen to it until they do not count on it any more."""
    peer = list(crowd.agents)[int(crowd.rng.integers(len(crowd.agents)))]
    crowd.run(float(crowd.rng.random()) * crowd.heartbeat_s)
    dead = crowd.agents[peer]
    dead.is_up, died_s = False, crowd.now_s
    waiting = [agent for agent in crowd.agents.values() if agent.is_up and peer in crowd.alive_of(agent)]
    took_s: list[float] = []
    for _ in range(int(12 * crowd.heartbeat_s / LOOK_EVERY_S)):
        crowd.run(LOOK_EVERY_S)
        for agent in list(waiting):
            members = agent.core.members
            if not members.is_alive(peer, crowd.now_s):
                waiting.remove(agent)
                took_s.append(crowd.now_s - died_s)
            elif peer not in members.sampled_since_s and peer not in members.suspicion.suspects:
                waiting.remove(agent)  # it listens to others now
    crowd.start(peer)
    crowd.run(SETTLE_HEARTBEATS / 3 * crowd.heartbeat_s)
    return took_s


def main(
    hours: Annotated[float, typer.Option(help="Virtual hours in peace.", min=0.01)] = 0.25,
    agents: Annotated[int, typer.Option(help="How many.", min=2, max=100)] = 30,
) -> None:
    """Measure both, with probes and without, where nothing, a tenth and three tenths of the messages are lost."""
    table = Table("lost each way", "probes", "false deaths", "found after, s", "messages", title=TITLE)
    for loss in LOSSES:
        for with_probes in (False, True):
            found = measure(loss, with_probes=with_probes, hours=hours, num_agents=agents)
            low, half, high, most = np.percentile(found.detections_s, (5, 50, 95, 100))
            table.add_row(
                f"{loss:.0%}",
                "yes" if with_probes else "no",
                f"{found.false_deaths_per_hour:.3f}",
                f"{half:.1f} ({low:.1f} … {high:.1f}, at most {most:.1f}; {len(found.detections_s)})",
                f"{found.probe_messages_per_hour:.0f}",
            )
            sys.stderr.write(f"{loss:.0%}, probes: {with_probes}: {found.false_deaths} false deaths\n")
    Console(highlight=False, width=140).print(table)


if __name__ == "__main__":
    typer.run(main)
