"""The way of a message between devices: up a link, through the broker, down other links.

    outbox ─▶ link up ─▶ Left ─▶ broker ─▶ link down ─▶ Arrive
      ▲────── acknowledged (QoS 1), a round trip later; if lost: Overdue, and again over a new connection

Links take time, networks lose passing messages and are cut; what crosses a cut as a record waits for its end.
What a device makes of a message that has arrived is the world's business.
"""

from __future__ import annotations

import heapq

from grapevine_agent.net.outbox import Waiting
from grapevine_agent.net.unanswered import ANSWER_S, SLOWEST_BYTES_PER_S
from grapevine_lab.simulator import events as ev
from grapevine_lab.simulator.broker import MemoryBroker
from grapevine_lab.simulator.broker_sessions import Delivery, Will
from grapevine_lab.simulator.clock import VirtualClock
from grapevine_lab.simulator.device import Device
from grapevine_lab.simulator.letters import Letter
from grapevine_lab.simulator.network import Network
from grapevine_lab.simulator.population import Population

MAX_QUEUED_MESSAGES = 10_000  # for one client, as in the Mosquitto that we start


class Post:
    """See the module's docstring."""

    def __init__(self, *, clock: VirtualClock[ev.Event], network: Network, population: Population) -> None:
        self.clock = clock
        self.network = network
        self.population = population
        self.broker = MemoryBroker(max_queued_messages=MAX_QUEUED_MESSAGES)
        self.is_up = True  # the broker
        self.num_delivered = 0
        self._kept: list[tuple[int, Delivery]] = []  # records that wait for a partition to end
        self._acks: list[tuple[float, int]] = []  # a heap: when one arrives, and where

    def plan_cuts(self) -> None:
        """Put the ends of the network's partitions on the clock."""
        for cut in self.network.plan.cuts:
            self.clock.at(cut.until_s, ev.Heal())

    def retain(self, author: str, topic: str, payload: bytes) -> None:
        """Let the broker hold a record from the start."""
        self.broker.connect(author, now_s=self.clock.now_s)
        self.broker.publish(author, topic, Letter(payload), 1, True, self.clock.now_s)
        self.broker.disconnect(author, self.clock.now_s)

    # --- connections ------------------------------------------------------------------------------

    def connect(self, device: Device) -> None:
        """As the service does: a clean session with a will, and subscriptions again."""
        now_s = self.clock.now_s
        device.connection += 1
        device.online = True
        device.online_since_s = now_s
        device.draining = device.ack_is_awaited = False
        device.acks.clear()
        wall_ms = device.wall.moment(self.clock.moment()).wall_ms
        device.sealer.begin_session(wall_ms)
        topic, payload = device.sealer.seal_will(wall_ms)
        will = Will(topic.below_root(), Letter(payload), 1, True)
        self._route(self.broker.connect(device.peer, will=will, now_s=now_s).deliveries)
        for filter_, qos in device.filters.items():
            self._route(self.broker.subscribe(device.peer, filter_, qos, now_s))
        device.outbox.connected()

    def disconnect(self, device: Device, *, silent: bool = False) -> None:
        """A connection is lost; the broker sends the will, unless that never comes."""
        if not device.online:
            return
        self.settle(device)
        self._went(device)
        if silent:
            self._route(self.broker.disconnect(device.peer, self.clock.now_s))
        else:
            self._route(self.broker.drop(device.peer, self.clock.now_s))

    def crash(self, *, empties: bool) -> None:
        """The broker is killed: nobody is connected, and nobody's will is sent. What it retained is gone or not."""
        self.is_up = False
        if empties:
            self.broker = MemoryBroker(max_queued_messages=MAX_QUEUED_MESSAGES)
        else:
            self.broker.crash()
        for device in self.population.devices:
            if device.online:
                self._went(device)

    def _went(self, device: Device) -> None:
        device.online, device.offline_since_s = False, self.clock.now_s
        device.connection += 1  # what is on its way over this one is lost

    def subscribe(self, device: Device, filter_: str, qos: int) -> None:
        """Listen to topics, at every later connection as well."""
        device.filters[filter_] = qos
        if device.online:
            self._route(self.broker.subscribe(device.peer, filter_, qos, self.clock.now_s))

    def unsubscribe(self, device: Device, filter_: str) -> None:
        """Listen no more."""
        device.filters.pop(filter_, None)
        if device.online:
            self.broker.unsubscribe(device.peer, filter_, self.clock.now_s)

    # --- up ---------------------------------------------------------------------------------------

    def drain(self, device: Device) -> None:
        """Send what is due, as fast as the link takes it and as far as the outbox lets it."""
        now_s = self.clock.now_s
        self._settle_all()
        while device.online and not device.draining:
            waiting = device.outbox.take(now_s)
            if waiting is None:
                self._await_acknowledgement(device)
                return
            payload = bytes(waiting.payload)  # of bytes, itself
            left_s = device.link.send(len(payload), now_s)
            is_lost = self.network.loses_up()
            self._expect_acknowledgement(device, waiting, left_s, is_lost=is_lost)
            if left_s <= now_s:
                if not is_lost:
                    self._route(
                        self.broker.publish(device.peer, waiting.topic, payload, waiting.qos, waiting.retain, now_s)
                    )
                continue
            if not is_lost:
                self.clock.at(
                    left_s,
                    ev.Left(device.index, device.connection, waiting.topic, payload, waiting.qos, waiting.retain),
                )
            device.draining = True
            self.clock.at(left_s, ev.Drain(device.index, device.connection))

    def _expect_acknowledgement(self, device: Device, waiting: Waiting, left_s: float, *, is_lost: bool) -> None:
        """QoS 0 has none; at QoS 1 it is one round trip away, or never comes."""
        acknowledged_s = left_s + self.network.round_trip_s(device.index)
        if not waiting.qos or (acknowledged_s <= self.clock.now_s and not is_lost):
            device.outbox.sent(waiting)
        elif is_lost:
            overdue_s = left_s + ANSWER_S + len(waiting.payload) / SLOWEST_BYTES_PER_S
            self.clock.at(overdue_s, ev.Overdue(device.index, device.connection))
        else:
            device.acks.append((acknowledged_s, waiting))
            heapq.heappush(self._acks, (acknowledged_s, device.index))

    def settle(self, device: Device) -> None:
        """Take note of the acknowledgements that have arrived."""
        while device.acks and device.acks[0][0] <= self.clock.now_s:
            device.outbox.sent(device.acks.popleft()[1])

    def _settle_all(self) -> None:
        """The same for everybody: what was acknowledged need not stay in memory until its sender says more."""
        while self._acks and self._acks[0][0] <= self.clock.now_s:
            self.settle(self.population.devices[heapq.heappop(self._acks)[1]])

    def _await_acknowledgement(self, device: Device) -> None:
        """Go on when the next one arrives, if something waits for it: else nobody needs to know when that is."""
        if device.acks and device.outbox.num_waiting and not device.ack_is_awaited:
            device.ack_is_awaited = True
            self.clock.at(device.acks[0][0], ev.Acknowledged(device.index, device.connection))

    def acknowledged(self, event: ev.Acknowledged) -> None:
        """There is room for something that waited."""
        device = self.population.devices[event.node]
        if device.connection == event.connection:
            device.ack_is_awaited = False
            self.drain(device)

    def overdue(self, event: ev.Overdue) -> None:
        """Cut a connection that owes an acknowledgement; the next one begins after a pause."""
        device = self.population.devices[event.node]
        if device.connection == event.connection and device.online:
            self.disconnect(device)
            self.clock.at(self.clock.now_s + self.network.pause_s(), ev.Reconnect(device.index, device.connection))

    def left(self, event: ev.Left) -> None:
        """The last bit of a message has reached the broker."""
        device = self.population.devices[event.node]
        if device.connection == event.connection and device.online:
            self._route(
                self.broker.publish(device.peer, event.topic, event.payload, event.qos, event.retain, self.clock.now_s)
            )

    def drained(self, event: ev.Drain) -> None:
        """The way up is free again."""
        device = self.population.devices[event.node]
        if device.connection == event.connection:
            device.draining = False
            self.drain(device)

    # --- down -------------------------------------------------------------------------------------

    def _route(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self._send_down(self.population.index_of(delivery.publisher), delivery)

    def _send_down(self, sender: int, delivery: Delivery) -> None:
        receiver = self.population.index_of(delivery.client)
        if receiver < 0:
            return
        device, now_s = self.population.devices[receiver], self.clock.now_s
        if not device.online:
            return
        is_record = self._is_record(delivery)
        if sender not in (receiver, -1) and self.network.is_cut(sender, receiver, now_s):
            if is_record:
                self._kept.append((sender, delivery))
            self._acknowledge(delivery)
            return
        if not is_record and self.network.loses():
            self._acknowledge(delivery)
            return
        latency_s = self.network.latency_s(sender, receiver)
        arrives_s = device.link.receive(len(delivery.payload), now_s, latency_s)
        self.clock.at(arrives_s, ev.Arrive(receiver, device.connection, delivery))

    @staticmethod
    def _is_record(delivery: Delivery) -> bool:
        leaf = delivery.topic.rsplit("/", 1)[-1]
        return leaf in ("announcement", "state", "manifest", "review", "server") and delivery.topic.startswith("peer/")

    def _acknowledge(self, delivery: Delivery) -> None:
        if delivery.packet_id:
            self._route(self.broker.acknowledge(delivery.client, delivery.packet_id, self.clock.now_s))

    def arrive(self, event: ev.Arrive) -> bool:
        """A message has reached a node; False if that was on an earlier connection."""
        device = self.population.devices[event.node]
        if device.connection != event.connection or not device.online:
            return False
        self._acknowledge(event.delivery)
        device.link.arrived(len(event.delivery.payload))
        self.num_delivered += 1
        return True

    def heal(self) -> None:
        """A partition ends: what waited goes on its way."""
        kept, self._kept = self._kept, []
        for sender, delivery in kept:
            self._send_down(sender, delivery)
