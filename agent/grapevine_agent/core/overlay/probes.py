"""Who asks whether somebody is there, and who answers.

    we suspect X (`suspicion`)                          others ask us
      Probe ─▶ X            ProbeAnswer ◀─ X              Probe ─▶ us      we answer, in a higher incarnation
      ProbeRequest ─▶ H     H: Probe ─▶ X                                  if we are suspected in the present one
                            X: ProbeAnswer ─▶ H           ProbeRequest ─▶ us   we probe X, once, and bring its answer
                            H: ProbeAnswer(peer=X) ─▶ us

Everything is a small letter at QoS 0, and nothing amplifies: a probe brings one answer to whoever sent it, a request
one probe and at most one answer. Requests are heard of members only, about members only, and at a bounded rate, of each
asker and of all together; so nobody has invented peers probed.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from grapevine_agent.core.effects import Effect, Publish
from grapevine_agent.core.overlay.answers import AnswerQuota, Pace
from grapevine_agent.core.overlay.brokers import Brokers
from grapevine_agent.core.overlay.measuring import Measuring
from grapevine_agent.core.overlay.members import Members
from grapevine_agent.core.overlay.presence import Presence
from grapevine_proto.errors import WireError
from grapevine_proto.messages import Body, Probe, ProbeAnswer, ProbeRequest
from grapevine_proto.quotas import Bucket
from grapevine_proto.sessions import supersedes
from grapevine_proto.topics import InboxTopic

ANSWERS = Pace(
    every_s=0.1, burst=32.0
)  # of one asker; who suspects us asks twice, and up to 24 times where much is lost
REQUESTS = Pace(every_s=0.5, burst=16.0)
REQUESTS_PER_HEARTBEAT = 64.0  # of all askers together
ANSWER_BYTES = 300  # with its envelope
MAX_RELAYS = 256


@dataclass(frozen=True, kw_only=True)
class _Relay:
    """Whose answer is to be brought to whom."""

    suspect: str
    asker: str
    asker_session: int
    asker_nonce: int


@dataclass(kw_only=True)
class Probes:
    """See the module's docstring."""

    members: Members
    presence: Presence
    quota: AnswerQuota
    brokers: Brokers | None = None  # they are told of ways that fail
    _relays: OrderedDict[int, _Relay] = field(default_factory=OrderedDict)  # by the nonce of our probe

    def __post_init__(self) -> None:
        self._measuring = Measuring(members=self.members)
        per_s = REQUESTS_PER_HEARTBEAT / self.members.heartbeat_s
        self._requests = Bucket(per_s=per_s, burst=REQUESTS_PER_HEARTBEAT)

    def tick(self, now_s: float) -> list[Effect]:
        """Ask those who are late, and others about them; and some how long their answers take."""
        effects: list[Effect] = []
        for each in self.members.find_lost(now_s):
            if each.is_again and self.brokers is not None:
                self.brokers.no_answer(each.peer)
            effects.append(self._letter(each.peer, Probe(nonce=each.nonce, suspected=each.suspected)))
            session = self.members.session_of(each.peer)
            asked = ProbeRequest(nonce=each.nonce, peer=each.peer, session=session, suspected=each.suspected)
            effects += (self._letter(helper, asked) for helper in each.helpers)
        for peer in self._measuring.due(now_s):
            effects.append(self._letter(peer, Probe(nonce=self.members.suspicion.ask(peer, now_s), suspected=0)))
        return effects

    def take(self, sender: str, session: int, said: Body, now_s: float, *, hops: int = 0) -> list[Effect]:
        """A probe, which came so many hops, a request, or an answer.

        Raises `WireError` if it is too much, or of no member.
        """
        match said:
            case Probe(nonce=nonce, suspected=suspected):
                is_member = self.members.is_member(sender)
                self.quota.charge(sender, "probe", ANSWER_BYTES, now_s, pace=ANSWERS, is_member=is_member)
                self.presence.suspected(suspected)
                answer = ProbeAnswer(nonce=nonce, incarnation=self.presence.incarnation, hops=hops)
                return [self._letter(sender, answer, session)]
            case ProbeRequest() as request:
                return self._probe_for(sender, session, request, now_s)
            case ProbeAnswer(peer="", nonce=nonce, incarnation=incarnation) as answer:
                self.members.hear_answer(sender, answer, now_s, session=session)
                relay = self._relays.get(nonce)
                if relay is None or relay.suspect != sender:
                    return []
                del self._relays[nonce]
                told = ProbeAnswer(nonce=relay.asker_nonce, peer=sender, session=session, incarnation=incarnation)
                return [self._letter(relay.asker, told, relay.asker_session)]
            case ProbeAnswer() as answer:
                self.members.hear_answer(sender, answer, now_s, session=session)
        return []

    def _probe_for(self, asker: str, asker_session: int, request: ProbeRequest, now_s: float) -> list[Effect]:
        suspect = request.peer
        if not self.members.is_member(asker) or not self.members.is_member(suspect) or asker == suspect:
            raise WireError("stranger", f"{asker} asks us to probe {suspect}")
        self.quota.charge(asker, "probe-request", ANSWER_BYTES, now_s, pace=REQUESTS, is_member=True)
        if not self._requests.take(1, now_s):
            raise WireError("over-quota", f"{asker} asks us to probe {suspect}, and others ask, too")
        nonce = self.members.suspicion.next_nonce()
        self._relays[nonce] = _Relay(
            suspect=suspect, asker=asker, asker_session=asker_session, asker_nonce=request.nonce
        )
        if len(self._relays) > MAX_RELAYS:
            self._relays.popitem(last=False)
        held = self.members.session_of(suspect)
        session = request.session if supersedes(request.session, held, self.members.wall_ms) else held
        return [self._letter(suspect, Probe(nonce=nonce, suspected=request.suspected), session)]

    def _letter(self, receiver: str, body: Body, session: int | None = None) -> Effect:
        topic = InboxTopic(receiver, self.presence.peer)
        if session is None:
            session = self.members.session_of(receiver)
        return Publish(topic=topic, body=body, qos=0, receiver_session=session)
