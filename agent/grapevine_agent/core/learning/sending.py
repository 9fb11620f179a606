"""What one member sends of one task: at its clock's ticks, after its rounds, in response to news; and to whom.

    a tick of the clock      to a member that lacks the model, at random (`gossip`), or a token is saved (`tokens`)
    a merge that was news    where there are tokens, at once to as many as these are worth
    an update                with `push-pull`, an answer to its sender, if it lacks the model (`answering`)
    a peer that slept        is awake: it gets what it lacks from a few members, at once (`woken`)
    a round's end            with `every-round` to every neighbour that lacks it; and to the servers
    a server's silence       of a group: what it had said that it has, to another (`offers`)

While servers serve (`server_link`) gossip is a small share of that, and whole again as soon as they do not. Under a
strategy that hears no peers (`follow-server`) nothing goes to members at all, and the servers get each round.

Whatever goes out is counted, and noted as what its receiver has (`told`). Before each send the governor is asked
whether today's bytes allow it: a send that they do not is not made, and no token is saved for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from grapevine_agent.core.effects import Publish
from grapevine_agent.core.events import Sent
from grapevine_agent.core.governor.governor import Governor
from grapevine_agent.core.learning.answering import PUSH_PULL, Answering
from grapevine_agent.core.learning.gossip import EVERY_ROUND, SendClock, Targets, send_rate
from grapevine_agent.core.learning.merging import Merging
from grapevine_agent.core.learning.model_state import ModelState
from grapevine_agent.core.learning.offers import Offer, Offers
from grapevine_agent.core.learning.pace import Pace
from grapevine_agent.core.learning.rest import MOVES, Rest
from grapevine_agent.core.learning.server_link import ServerLink, serve
from grapevine_agent.core.learning.tokens import SAVES_FOR_NEWS, TokenAccount, reactive
from grapevine_agent.core.learning.told import Told
from grapevine_agent.core.learning.traces import has_moved, trace_of
from grapevine_agent.core.learning.update_writer import UpdateWriter
from grapevine_agent.core.learning.woken import Woken
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.overlay.members import Members
from grapevine_agent.core.settings import CoreSettings
from grapevine_proto.manifest import MergePlan
from grapevine_proto.messages import ModelUpdate
from grapevine_proto.topics import GroupTopic, InboxTopic

SOON_HEARTBEATS: Final = (0.5, 2.0)  # after we woke up: by then brokers have said who is there


@dataclass(kw_only=True)
class Sending:
    """See the module's docstring."""

    task: str
    plan: MergePlan
    settings: CoreSettings
    members: Members
    servers: Mapping[str, ServerLink]
    model: ModelState
    merging: Merging
    pace: Pace
    rest: Rest
    writer: UpdateWriter
    label: str = ""  # what people call the task
    told: Told
    rng: np.random.Generator
    governor: Governor = field(default_factory=Governor)
    num_sent: int = 0
    _was_served: bool = False  # when the clock was armed
    woken: Woken = field(default_factory=Woken)

    def __post_init__(self) -> None:
        self.clock = SendClock(self.rng)
        self.offers = Offers(
            peer=self.settings.peer, servers=self.servers, members=self.members, update_bytes=self.pace.update_bytes
        )
        saves, answers = self.plan.send_rate == SAVES_FOR_NEWS, self.plan.exchange == PUSH_PULL and not self.every_round
        self.account = TokenAccount() if saves and self._gossips else None
        self.answering = Answering() if answers and self._gossips else None

    @property
    def every_round(self) -> bool:
        """Whether no clock runs, and what a round has made goes to every neighbour."""
        return self.plan.send_rate == EVERY_ROUND

    # --- how often, and to whom -------------------------------------------------------------------

    def arm(self, now: Moment) -> None:
        """Draw the time of the next tick."""
        num_members = 1 + self.targets(now).num_counted
        self._was_served = self._is_served(num_members, now)
        if not self.every_round and self._gossips:
            self.clock.arm(now.monotonic_s, self._rate(num_members, now))

    def look_at_servers(self, now: Moment) -> None:
        """Servers came or went: the next tick is drawn again, since at the rate that was it may be far away."""
        if self.servers and self._is_served(1 + self.targets(now).num_counted, now) != self._was_served:
            self.arm(now)

    def rate(self, now: Moment) -> float:
        """Gossip sends per second, at present."""
        return self._rate(1 + self.targets(now).num_counted, now) if self._gossips else 0.0

    def _rate(self, num_members: int, now: Moment) -> float:
        plan = self.plan
        rate = send_rate(
            policy=plan.send_rate,
            sends_per_round=plan.sends_per_round,
            round_interval_s=self.pace.round_interval_s,
            num_members=num_members,
        )
        rate = min(rate, self.pace.most_sends_per_s, self.rest.most_sends_per_s)
        return rate * self._share(num_members, now)

    @property
    def _gossips(self) -> bool:
        """Whether members have any use for each other's models."""
        return self.merging.strategy.hears_peers

    def _share(self, num_members: int, now: Moment) -> float:
        """How much of gossip goes on: what the servers' models do not bring."""
        return self.plan.gossip_share_with_server if self._is_served(num_members, now) else 1.0

    def _is_served(self, num_members: int, now: Moment) -> bool:
        interval_s = self.pace.round_interval_s
        return serve(self.servers.values(), now.monotonic_s, round_interval_s=interval_s, num_members=num_members)

    def everybody(self, now: Moment) -> list[str]:
        """The members that gossip can reach now, sorted."""
        return [p for p in self.members.of_task(self.task, now.monotonic_s) if p not in self.servers]

    def targets(self, now: Moment) -> Targets:
        """The same, and those among them whose updates were of use."""
        everybody = self.everybody(now)
        return Targets(everybody=everybody, useful=self.members.useful(self.task, everybody, now.monotonic_s))

    def _lacking(self, peers: Sequence[str], now: Moment) -> list[str]:
        """Those of some peers who do not have our model."""
        life_of = self.members.life_of
        return self.told.lacking(self.model, [(peer, life_of(peer)) for peer in peers], now.monotonic_s)

    # --- sends ------------------------------------------------------------------------------------

    def due(self, now: Moment) -> list[Publish | Sent]:
        """What goes out at a tick of the clock."""
        if not self._gossips or self.model.version == 0:
            return []
        if self.answering is not None and self.answering.takes_tick():
            return []
        if self.woken.takes_tick():
            return []
        if sent := self._to_woken(now):
            return sent
        if self.account is not None and not self.account.tick(self.rng):
            return []
        sent = self._gossip(now)
        if not sent and self.account is not None and self.governor.send_bytes_left >= self.pace.update_bytes:
            self.account.put_by()
        return sent

    def answer(self, sender: str, update: ModelUpdate, now: Moment) -> list[Publish | Sent]:
        """What goes back to the sender of an update that was taken."""
        if self.answering is None or update.is_answer or self.model.version == 0 or not self.answering.may_answer:
            return []
        if sender not in self.everybody(now) or not self._lacking([sender], now):
            return []
        sent = self._send_to([sender], now, is_answer=True)
        if sent:
            self.answering.answered()
        return sent

    def woke(self, peer: str, now: Moment) -> list[Publish | Sent]:
        """What goes out at once because a peer has slept, and is awake."""
        everybody = self.everybody(now)
        is_wanted = self._gossips and self.model.version > 0 and not self.every_round and peer in everybody
        if not is_wanted or not self.woken.draws(len(everybody), self.rng):
            return []
        self.woken.add(peer)
        sent = self._to_woken(now) if self.woken.may_send else []
        if sent:
            self.woken.sent_ahead()
        return sent

    def _to_woken(self, now: Moment) -> list[Publish | Sent]:
        """Our model, to the next of those who slept that is there and lacks it."""
        while (peer := self.woken.take()) is not None:
            if peer in self.everybody(now) and self._lacking([peer], now):
                return self._send_to([peer], now)
        return []

    def woke_up(self, now: Moment) -> None:
        """We have slept: what was learned meanwhile goes out soon, and not in the same moment as everybody's."""
        if self.clock.next_s < math.inf:
            soon_s = self.settings.heartbeat_s * float(self.rng.uniform(*SOON_HEARTBEATS))
            self.clock.next_s = min(self.clock.next_s, now.monotonic_s + soon_s)

    def after_merge(self, now: Moment) -> list[Publish | Sent]:
        """What goes out because a merge, if there was one, has moved the model."""
        before, self.merging.model_before = self.merging.model_before, None
        if self.account is None or before is None or self.model.version == 0:
            return []
        if not has_moved(trace_of(before), self.model.parameters, MOVES):
            return []
        sent: list[Publish | Sent] = []
        for _ in range(reactive(self.account.tokens)):
            if not (one := self._gossip(now)):
                break
            self.account.spend()
            sent += one
        return sent

    def _gossip(self, now: Moment) -> list[Publish | Sent]:
        target = self.clock.pick(self.targets(now), lambda peers: self._lacking(peers, now))
        return [] if target is None else self._send_to([target], now)

    def after_round(self, now: Moment) -> list[Publish | Sent]:
        """What this round has made, to every neighbour; to some of them while servers serve."""
        if not self.every_round or not self._gossips:
            return []
        found = self.targets(now)
        targets, share = found.counted(self.rng), self._share(1 + found.num_counted, now)
        if share < 1:
            chosen = self.rng.choice(len(targets), math.ceil(share * len(targets)), replace=False)
            targets = [targets[i] for i in sorted(chosen)]
        targets = self._lacking(targets, now)
        return self._send_to(self.rest.few(self.pace.few(targets, self.rng), self.rng), now)

    def to_servers(self, now: Moment) -> list[Publish | Sent]:
        """What training has made, to the servers that can be reached: to each that is alone, to one of each group."""
        servers = [
            peer
            for peer, link in self.servers.items()
            if link.state == "reachable" and not link.group and self.members.session_of(peer)
        ]
        return [*self._send_to(self.pace.few(servers, self.rng), now), *self.offer(now)]

    def offer(self, now: Moment) -> list[Publish | Sent]:
        """Our newest version, to each group of servers none of which is known to have it; as far as bytes reach."""
        size = self.pace.update_bytes
        sent: list[Publish | Sent] = []
        for offer in self.offers.due(self.model.version, now.monotonic_s):
            if self.governor.may_send(size, now):
                told = Sent(
                    task=self.task, label=self.label, receiver=offer.server, what="update", num_bytes=round(size)
                )
                sent += (self._offered(offer, now), told)
        return sent

    def _offered(self, offer: Offer, now: Moment) -> Publish:
        if offer.server:
            direct = self.send(offer.server, now)
            assert isinstance(direct.body, ModelUpdate)
            return replace(direct, body=replace(direct.body, wants_receipt=True))
        self.num_sent += 1
        versions = {peer: link.merged_version for peer, link in self.servers.items() if link.group == offer.group}
        update = self.writer.write(self.model, "", session=0, server_version=0)
        return Publish(
            topic=GroupTopic(self.task, offer.group, self.settings.peer),
            body=replace(update, wants_receipt=True, server_versions=versions),
            by=offer.broker,
        )

    def _send_to(self, peers: Sequence[str], now: Moment, *, is_answer: bool = False) -> list[Publish | Sent]:
        """Our model to these peers, in their order, as far as today's bytes reach."""
        size = self.pace.update_bytes
        sent: list[Publish | Sent] = []
        for peer in peers:
            if self.governor.may_send(size, now):
                told = Sent(task=self.task, label=self.label, receiver=peer, what="update", num_bytes=round(size))
                sent += (self.send(peer, now, is_answer=is_answer), told)
        return sent

    def not_sent(self, receiver: str) -> None:
        """What was sent to a peer found no room on its way out: it goes again, and its token is ours again."""
        self.told.not_sent(receiver)
        if self.account is not None:
            self.account.put_by()

    def send(self, receiver: str, now: Moment, *, is_answer: bool = False) -> Publish:
        """Our model, to one peer; `is_answer`: to an update of its own."""
        self.num_sent += 1
        link, session = self.servers.get(receiver), self.members.session_of(receiver)
        self.told.sent(self.model, receiver, self.members.life_of(receiver), now.monotonic_s)
        version = link.merged_version if link else 0
        update = self.writer.write(self.model, receiver, session=session, server_version=version)
        return Publish(
            topic=InboxTopic(receiver, self.settings.peer),
            body=replace(update, is_answer=True) if is_answer else update,
            receiver_session=session,
        )
