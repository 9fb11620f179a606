"""The way of a message between devices: up a link, through a broker, down other links.

    outbox ─▶ link up ─▶ Left ─▶ broker ─▶ link down ─▶ Arrive
      ▲────── acknowledged (QoS 1), a round trip later; if lost: Overdue, and again over a new connection

A device has an outbox and a connection for each broker that it is at, and one link under all of them. Links take time,
networks lose passing messages and are cut; what crosses a cut as a record waits for its end. What a device makes of a
message that has arrived is the world's business.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from grapevine_agent.net.outbox import Waiting
from grapevine_agent.net.unanswered import ANSWER_S, SLOWEST_BYTES_PER_S
from grapevine_lab.simulator import events as ev
from grapevine_lab.simulator.attachment import Attachment
from grapevine_lab.simulator.bridging import CLIENT, Bridges
from grapevine_lab.simulator.broker import MemoryBroker
from grapevine_lab.simulator.broker_sessions import Delivery, Will
from grapevine_lab.simulator.brokers import ONE, BridgePlan, BrokerPlan
from grapevine_lab.simulator.clock import VirtualClock
from grapevine_lab.simulator.device import Device
from grapevine_lab.simulator.hub import Hub
from grapevine_lab.simulator.letters import Letter
from grapevine_lab.simulator.network import Network
from grapevine_lab.simulator.packets import packet_of
from grapevine_lab.simulator.population import Population


class Maker(Protocol):
    """Makes what is ordered, and says what does not leave: see `carrying.py`."""

    def make_first(self, device: Device, attachment: Attachment) -> bool: ...  # noqa: D102

    def payload_of(self, device: Device, attachment: Attachment, waiting: Waiting) -> bytes | None: ...  # noqa: D102


class Post:
    """See the module's docstring. `maker`: where a broker has a packet limit."""

    def __init__(
        self,
        *,
        clock: VirtualClock[ev.Event],
        network: Network,
        population: Population,
        brokers: Sequence[BrokerPlan] = ONE,
        bridges: Sequence[BridgePlan] = (),
    ) -> None:
        self.clock = clock
        self.network = network
        self.population = population
        self.hubs = tuple(Hub(number=number, plan=plan) for number, plan in enumerate(brokers))
        self.bridges = Bridges(bridges, hubs=self.hubs, clock=clock, network=network)
        self.maker: Maker | None = None
        self.num_delivered = 0
        self.num_to_one = 0  # messages to one peer
        self.num_in_vain = 0  # of these, those that nobody was there to hear
        self.num_between_members, self.bytes_between_members = 0, 0  # of these, those that no server sent or was sent
        self._cut_off: Counter[str] = Counter()  # sites, and how many cuts of them last
        self._kept: list[tuple[int, int, Delivery]] = []  # records that wait for a partition to end
        self._acks: list[tuple[float, int, int]] = []  # a heap: when one arrives, and where

    @property
    def broker(self) -> MemoryBroker:
        """The first one."""
        return self.hubs[0].broker

    def plan_cuts(self) -> None:
        """Put the ends of the network's partitions on the clock."""
        for cut in self.network.plan.cuts:
            self.clock.at(cut.until_s, ev.Heal())

    def retain(self, author: str, topic: str, payload: bytes) -> None:
        """Let every broker hold a record from the start."""
        letter = Letter(payload)
        for hub in self.hubs:
            hub.broker.connect(author, now_s=self.clock.now_s)
            hub.broker.publish(author, topic, letter, 1, True, self.clock.now_s)
            hub.broker.disconnect(author, self.clock.now_s)

    # --- connections ------------------------------------------------------------------------------

    def is_within_reach(self, device: Device, attachment: Attachment) -> bool:
        """Whether a device can connect to a broker: it is up, and on this side of every cut."""
        hub = self.hubs[attachment.broker]
        return hub.is_up and not self._is_between(self._site_of(device), hub.plan.site)

    def connect(self, device: Device, attachment: Attachment) -> None:
        """As the service does: a clean session with a will, and subscriptions again."""
        now_s, hub = self.clock.now_s, self.hubs[attachment.broker]
        if not device.online:
            device.online_since_s = now_s
        attachment.connection += 1
        attachment.draining = attachment.ack_is_awaited = False
        attachment.acks.clear()
        wall_ms = device.wall.moment(self.clock.moment()).wall_ms
        sealer = device.sealer
        if not any(each.online and each.session == sealer.session for each in device.attachments):
            sealer.begin_session(wall_ms)
        attachment.online = True
        attachment.session = sealer.session
        attachment.said = sealer.begin_connection() if device.is_at_several else 0
        topic, payload = sealer.seal_will(wall_ms, attachment.said)
        will = Will(topic.below_root(), Letter(payload), 1, True)
        self._route(hub, hub.broker.connect(device.peer, will=will, now_s=now_s).deliveries)
        for filter_, qos in attachment.filters.items():
            self._route(hub, hub.broker.subscribe(device.peer, filter_, qos, now_s))
        attachment.outbox.connected()
        attachment.limit.taken_in(now_s)

    def disconnect(self, device: Device, *, silent: bool = False) -> None:
        """All connections are lost; brokers send the will, unless that never comes."""
        for each in device.attachments:
            self.lose(device, each, silent=silent)

    def lose(self, device: Device, attachment: Attachment, *, silent: bool = False) -> None:
        """The same of one."""
        if not attachment.online:
            return
        self.settle(attachment)
        self._went(device, attachment)
        hub = self.hubs[attachment.broker]
        if silent:
            self._route(hub, hub.broker.disconnect(device.peer, self.clock.now_s))
        else:
            self._route(hub, hub.broker.drop(device.peer, self.clock.now_s))

    def _went(self, device: Device, attachment: Attachment) -> None:
        attachment.online, device.offline_since_s = False, self.clock.now_s
        attachment.connection += 1  # what is on its way over this one is lost
        if device.is_at_several:
            self.clock.at(self.clock.now_s, ev.Lost(device.index, attachment.connection, attachment.number))

    def round_trip_s(self, device: Device, attachment: Attachment) -> float:
        """From a device to one of its brokers and back."""
        return self.network.round_trip_s(device.index, self.hubs[attachment.broker].plan.latency_s)

    # --- brokers come and go, and sites are cut off -------------------------------------------------

    def crash(self, name: str = "", *, empties: bool) -> None:
        """A broker is killed, or all: nobody is connected, and nobody's will is sent. What it retained is gone or not.

        `name`: "" for all of them.
        """
        for hub in self._named(name):
            hub.crash(empties=empties)
            for device, attachment in self._connections():
                if attachment.online and attachment.broker == hub.number:
                    self._went(device, attachment)
            self.bridges.lose_those_of(hub)

    def restart(self, name: str = "") -> None:
        """It is back. Who was there connects in its own time; bridges do after the pause of a transport."""
        for hub in self._named(name):
            hub.is_up = True
        self._rejoin()

    def cut_off(self, site: str) -> None:
        """A site has no way to the others, and they none to it: brokers send the wills of whom they lose."""
        self._cut_off[site] += 1
        for device, attachment in self._connections():
            if self._is_between(self._site_of(device), self.hubs[attachment.broker].plan.site):
                self.lose(device, attachment)
        for bridge in self.bridges.all:
            if not self._is_bridgeable(bridge.number):
                self.bridges.lose(bridge.number)

    def mend(self, site: str) -> None:
        """It has one again, unless another cut lasts."""
        self._cut_off[site] -= 1
        self._rejoin()

    def join(self, number: int) -> None:
        """Let a bridge connect, if it can."""
        if self._is_bridgeable(number):
            self._route_all(self.bridges.connect(number))

    def crossed(self, event: ev.Crossed) -> None:
        """Something has come over a bridge."""
        self._route_all(self.bridges.crossed(event))

    def _rejoin(self) -> None:
        for bridge in self.bridges.all:
            if not bridge.is_up:
                self.clock.at(self.clock.now_s + self.network.pause_s(), ev.Rejoin(bridge.number))

    def _named(self, name: str) -> list[Hub]:
        return [hub for hub in self.hubs if name in ("", hub.plan.name)]

    def _connections(self) -> Iterator[tuple[Device, Attachment]]:
        return ((device, each) for device in self.population.devices for each in device.attachments)

    def _site_of(self, device: Device) -> str:
        """That of its first broker."""
        return self.hubs[device.attachments[0].broker].plan.site

    def _is_between(self, one: str, other: str) -> bool:
        """Whether a cut lies between two sites."""
        return one != other and (self._cut_off[one] > 0 or self._cut_off[other] > 0)

    def _is_bridgeable(self, number: int) -> bool:
        plan = self.bridges.all[number].plan
        return not self._is_between(self.hubs[plan.owner].plan.site, self.hubs[plan.to].plan.site)

    # --- subscriptions ----------------------------------------------------------------------------

    def subscribe(
        self, device: Device, attachment: Attachment, filter_: str, qos: int, *, carried: bool = False
    ) -> None:
        """Listen to topics, at every later connection as well."""
        (attachment.carried if carried else attachment.wanted)[filter_] = qos
        if attachment.online:
            hub = self.hubs[attachment.broker]
            self._route(hub, hub.broker.subscribe(device.peer, filter_, qos, self.clock.now_s))

    def unsubscribe(self, device: Device, attachment: Attachment, filter_: str, *, carried: bool = False) -> None:
        """Listen no more, unless somebody else here wants it."""
        (attachment.carried if carried else attachment.wanted).pop(filter_, None)
        if attachment.online and filter_ not in attachment.filters:
            self.hubs[attachment.broker].broker.unsubscribe(device.peer, filter_, self.clock.now_s)

    # --- up ---------------------------------------------------------------------------------------

    def drain(self, device: Device, attachment: Attachment | None = None) -> None:
        """Send what is due by a connection, as fast as the link takes it and as far as the outbox lets it."""
        attachment, now_s = attachment or device.attachments[0], self.clock.now_s
        self._settle_all()
        while attachment.online and not attachment.draining:
            waiting = attachment.outbox.take(now_s)
            if waiting is None:
                if self.maker is not None and self.maker.make_first(device, attachment):
                    continue
                self._await_acknowledgement(device, attachment)
                return
            make = self.maker
            payload = bytes(waiting.payload) if make is None else make.payload_of(device, attachment, waiting)
            if payload is None:
                attachment.outbox.sent(waiting)
                continue
            left_s = device.link.send(len(payload), now_s)
            if device.core is not None:
                device.core.governing.governor.sent(len(payload))
            is_lost = self.network.loses_up()
            self._expect_acknowledgement(device, attachment, waiting, left_s, is_lost=is_lost)
            if left_s <= now_s:
                if not is_lost:
                    self._publish(device, attachment, waiting.topic, payload, waiting.qos, waiting.retain)
                continue
            number, connection = attachment.number, attachment.connection
            if not is_lost:
                self.clock.at(
                    left_s,
                    ev.Left(device.index, connection, waiting.topic, payload, waiting.qos, waiting.retain, number),
                )
            attachment.draining = True
            self.clock.at(left_s, ev.Drain(device.index, connection, number))

    def _publish(
        self, device: Device, attachment: Attachment, topic: str, payload: bytes, qos: int, retain: bool
    ) -> None:
        hub = self.hubs[attachment.broker]
        deliveries = hub.broker.publish(device.peer, topic, payload, qos, retain, self.clock.now_s)
        if topic.startswith("inbox/"):
            self.num_to_one += 1
            self.num_in_vain += not deliveries
            self._count_between_members(device, topic, payload)
        self._route(hub, deliveries)
        if hub.plan.packet_limit_bytes and not hub.broker.is_connected(device.peer):
            self._closed_for_size(device, attachment, packet_of(topic, payload) if qos else 0)

    def _count_between_members(self, device: Device, topic: str, payload: bytes) -> None:
        receiver = self.population.index_of(topic.split("/")[1])
        if receiver >= 0 and all(
            each.settings.role == "member" for each in (device, self.population.devices[receiver])
        ):
            self.num_between_members += 1
            self.bytes_between_members += len(payload)

    def _closed_for_size(self, device: Device, attachment: Attachment, num_bytes: int) -> None:
        """A broker has ended a connection at a packet: whose size is learnt from the ends of two."""
        largest = max(num_bytes, *(waiting.size for _, waiting in attachment.acks), 0)
        attachment.acks.clear()  # what was not acknowledged goes again
        attachment.limit.closed(largest, self.clock.now_s)
        self._went(device, attachment)
        self._reconnect(device, attachment)

    def _expect_acknowledgement(
        self, device: Device, attachment: Attachment, waiting: Waiting, left_s: float, *, is_lost: bool
    ) -> None:
        """QoS 0 has none; at QoS 1 it is one round trip away, or never comes."""
        acknowledged_s = left_s + self.round_trip_s(device, attachment)
        if not waiting.qos or (acknowledged_s <= self.clock.now_s and not is_lost):
            attachment.outbox.sent(waiting)
        elif is_lost:
            overdue_s = left_s + ANSWER_S + waiting.size / SLOWEST_BYTES_PER_S
            self.clock.at(overdue_s, ev.Overdue(device.index, attachment.connection, attachment.number))
        else:
            attachment.acks.append((acknowledged_s, waiting))
            heapq.heappush(self._acks, (acknowledged_s, device.index, attachment.number))

    def settle(self, attachment: Attachment) -> None:
        """Take note of the acknowledgements that have arrived."""
        while attachment.acks and attachment.acks[0][0] <= self.clock.now_s:
            attachment.outbox.sent(attachment.acks.popleft()[1])

    def _settle_all(self) -> None:
        """The same for everybody: what was acknowledged need not stay in memory until its sender says more."""
        while self._acks and self._acks[0][0] <= self.clock.now_s:
            _, node, number = heapq.heappop(self._acks)
            self.settle(self.population.devices[node].attachments[number])

    def _await_acknowledgement(self, device: Device, attachment: Attachment) -> None:
        """Go on when the next one arrives, if something waits for it: else nobody needs to know when that is."""
        if attachment.acks and attachment.outbox.num_waiting and not attachment.ack_is_awaited:
            attachment.ack_is_awaited = True
            awaited = ev.Acknowledged(device.index, attachment.connection, attachment.number)
            self.clock.at(attachment.acks[0][0], awaited)

    def acknowledged(self, event: ev.Acknowledged) -> None:
        """There is room for something that waited."""
        device, attachment = self._of(event)
        if attachment.connection == event.connection:
            attachment.ack_is_awaited = False
            self.drain(device, attachment)

    def overdue(self, event: ev.Overdue) -> None:
        """Cut a connection that owes an acknowledgement; the next one begins after a pause."""
        device, attachment = self._of(event)
        if attachment.connection == event.connection and attachment.online:
            self.lose(device, attachment)
            self._reconnect(device, attachment)

    def _reconnect(self, device: Device, attachment: Attachment) -> None:
        again = ev.Reconnect(device.index, attachment.connection, attachment.number)
        self.clock.at(self.clock.now_s + self.network.pause_s(), again)

    def left(self, event: ev.Left) -> None:
        """The last bit of a message has reached the broker."""
        device, attachment = self._of(event)
        if attachment.connection == event.connection and attachment.online:
            self._publish(device, attachment, event.topic, event.payload, event.qos, event.retain)

    def drained(self, event: ev.Drain) -> None:
        """The way up is free again."""
        device, attachment = self._of(event)
        if attachment.connection == event.connection:
            attachment.draining = False
            self.drain(device, attachment)

    def _of(self, event: ev.Acknowledged | ev.Overdue | ev.Left | ev.Drain | ev.Arrive) -> tuple[Device, Attachment]:
        device = self.population.devices[event.node]
        return device, device.attachments[event.attachment]

    # --- down -------------------------------------------------------------------------------------

    def _route_all(self, sent: Iterable[tuple[Hub, list[Delivery]]]) -> None:
        for hub, deliveries in sent:
            self._route(hub, deliveries)

    def _route(self, hub: Hub, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self._send_down(hub, self.population.index_of(delivery.publisher), delivery)

    def _send_down(self, hub: Hub, sender: int, delivery: Delivery) -> None:
        receiver = self.population.index_of(delivery.client)
        if receiver < 0:
            if delivery.client.startswith(CLIENT):
                self.bridges.take(hub, delivery)
            return
        device, now_s = self.population.devices[receiver], self.clock.now_s
        attachment = next(each for each in device.attachments if each.broker == hub.number)
        if not attachment.online:
            return
        is_record = self._is_record(delivery)
        if sender not in (receiver, -1) and self.network.is_cut(sender, receiver, now_s):
            if is_record:
                self._kept.append((hub.number, sender, delivery))
            self._acknowledge(hub, delivery)
            return
        if not is_record and self.network.loses():
            self._acknowledge(hub, delivery)
            return
        latency_s = self.network.latency_s(sender, receiver, hub.plan.latency_s)
        passed_s = device.link.receive(len(delivery.payload), now_s)
        attachment.last_arrival_s = max(attachment.last_arrival_s, passed_s + latency_s)  # nothing overtakes
        self.clock.at(
            attachment.last_arrival_s, ev.Arrive(receiver, attachment.connection, delivery, attachment.number)
        )

    @staticmethod
    def _is_record(delivery: Delivery) -> bool:
        leaf = delivery.topic.rsplit("/", 1)[-1]
        return leaf in ("announcement", "state", "manifest", "review", "server") and delivery.topic.startswith("peer/")

    def _acknowledge(self, hub: Hub, delivery: Delivery) -> None:
        if delivery.packet_id:
            self._route(hub, hub.broker.acknowledge(delivery.client, delivery.packet_id, self.clock.now_s))

    def arrive(self, event: ev.Arrive) -> bool:
        """A message has reached a node; False if that was on an earlier connection."""
        device, attachment = self._of(event)
        if attachment.connection != event.connection or not attachment.online:
            return False
        self._acknowledge(self.hubs[attachment.broker], event.delivery)
        device.link.arrived(len(event.delivery.payload))
        self.num_delivered += 1
        return True

    def heal(self) -> None:
        """A partition ends: what waited goes on its way."""
        kept, self._kept = self._kept, []
        for number, sender, delivery in kept:
            self._send_down(self.hubs[number], sender, delivery)
