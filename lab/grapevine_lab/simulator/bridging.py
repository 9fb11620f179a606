"""Bridges between simulated brokers: what Mosquitto's bridge does, as a client of both.

    owner ─ what is published there, by anybody but the bridge ─▶ the other broker
    other ─ the same ─▶ the owner

It subscribes at both, and is sent nothing of its own (`no_local`), so nothing comes back; a retained message stays one
(`retain_as_published`). Its sessions outlive its connection: what is said at QoS 1 while one broker does not see the
other waits. What is too large a packet for the other one is not carried. At every connection each gives the other what
it retains. The owner makes the connection, and makes it again after a pause when it was lost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from grapevine_lab.simulator import events as ev
from grapevine_lab.simulator.broker_sessions import Delivery
from grapevine_lab.simulator.brokers import BridgePlan
from grapevine_lab.simulator.clock import VirtualClock
from grapevine_lab.simulator.hub import Hub
from grapevine_lab.simulator.network import Network

CLIENT: Final = "bridge "


@dataclass(kw_only=True)
class Bridge:
    """One of them. `connection` counts: what was on its way over an earlier one is lost, or goes again."""

    number: int
    plan: BridgePlan
    is_up: bool = False
    connection: int = 0

    @property
    def client(self) -> str:
        """What it is called at both brokers."""
        return f"{CLIENT}{self.number}"


class Bridges:
    """See the module's docstring. What is returned is sent by a broker because of it: by which, and what."""

    def __init__(
        self, plans: Sequence[BridgePlan], *, hubs: Sequence[Hub], clock: VirtualClock[ev.Event], network: Network
    ) -> None:
        self.all = tuple(Bridge(number=number, plan=plan) for number, plan in enumerate(plans))
        self._hubs = hubs
        self._clock = clock
        self._network = network

    def connect(self, number: int) -> list[tuple[Hub, list[Delivery]]]:
        """Let a bridge connect, if both its brokers are up."""
        bridge = self.all[number]
        owner, to = ends = self._hubs[bridge.plan.owner], self._hubs[bridge.plan.to]
        if bridge.is_up or not (owner.is_up and to.is_up):
            return []
        bridge.is_up = True
        sent = []
        for hub in ends:
            made = hub.broker.connect(
                bridge.client, clean_start=False, session_expiry_s=math.inf, now_s=self._clock.now_s
            )
            sent.append((hub, made.deliveries))
        for hub in ends:
            for each in bridge.plan.topics:
                given = hub.broker.subscribe(
                    bridge.client, each, 1, self._clock.now_s, retain_as_published=True, no_local=True
                )
                sent.append((hub, given))
        return sent

    def lose(self, number: int) -> None:
        """A bridge loses its connection; brokers that are up keep its session."""
        bridge = self.all[number]
        if not bridge.is_up:
            return
        bridge.is_up = False
        bridge.connection += 1
        for hub in (self._hubs[bridge.plan.owner], self._hubs[bridge.plan.to]):
            if hub.is_up:
                hub.broker.disconnect(bridge.client, self._clock.now_s)

    def lose_those_of(self, hub: Hub) -> None:
        """A broker is gone."""
        for bridge in self.all:
            if hub.number in (bridge.plan.owner, bridge.plan.to):
                self.lose(bridge.number)

    def take(self, hub: Hub, delivery: Delivery) -> None:
        """A broker sends a bridge something."""
        bridge = self.all[int(delivery.client.removeprefix(CLIENT))]
        if bridge.is_up:
            own_s = bridge.plan.latency_s
            at_s = self._clock.now_s + (self._network.plan.latency_s if own_s is None else own_s)
            to_owner = hub.number == bridge.plan.to
            self._clock.at(at_s, ev.Crossed(bridge.number, bridge.connection, to_owner, delivery))

    def crossed(self, event: ev.Crossed) -> list[tuple[Hub, list[Delivery]]]:
        """Something has come over."""
        bridge = self.all[event.bridge]
        if not bridge.is_up or bridge.connection != event.connection:
            return []
        owner, to = self._hubs[bridge.plan.owner], self._hubs[bridge.plan.to]
        here, there = (to, owner) if event.to_owner else (owner, to)
        said, now_s = event.delivery, self._clock.now_s
        sent: list[tuple[Hub, list[Delivery]]] = []
        if there.broker.takes(said.topic, said.payload, said.qos):
            given = there.broker.publish(bridge.client, said.topic, said.payload, said.qos, said.retained, now_s)
            sent.append((there, given))
        if said.packet_id:
            sent.append((here, here.broker.acknowledge(bridge.client, said.packet_id, now_s)))
        return sent
