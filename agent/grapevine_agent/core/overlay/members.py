"""Who is there: presence, sessions and how far each peer is.

What a peer says of itself costs it nothing, and keys are free. So there are three things to know of one:

    announced    its announcement and state say that it is there: a *stranger*
    heard        a heartbeat, or an update that we could use, came from it: a *member*, who counts
    useful       an update of it was used lately: gossip keeps half of its sends for such peers

Only members are gossiped with and counted. They are taken in at a bounded rate (`allowance`), and
keep their places: when there are more peers than `capacity`, strangers are forgotten first, the newest
before the others, and useful peers never. Peers that the owner named are members as soon as they say that
they are there: that is the owner's word.

A peer is *online* from its retained state (revoked by its will or its goodbye) and *alive* while it is not silent.
Presence never rests on the will alone: some brokers never send it, and some send it in error. Only a sample of the
members is listened to (`sample`). Who is late there is *suspect*, and asked whether it is there, by us and by others;
if nobody brings an answer it is *silent* (`suspicion`). Silence counts only against a peer that is in the sample, and
once found it lasts until the peer is heard again, whoever named it. Beside the sample a few strangers are listened to
in turn (`strangers`), and at times everybody (`roll_call`).

Members may sleep, and say until when (`sleepers`); so may we. While we are *away* we hear nobody, and that says
nothing: all that is known of others stays as it is, and time does not pass for it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import numpy as np

from grapevine_agent.core.effects import Effect, Subscribe, Unsubscribe
from grapevine_agent.core.events import PeerChanged
from grapevine_agent.core.overlay.allowance import Allowance
from grapevine_agent.core.overlay.peer import Peer
from grapevine_agent.core.overlay.roll_call import RollCall
from grapevine_agent.core.overlay.sample import ListenedTo, Sample
from grapevine_agent.core.overlay.scope import Reach
from grapevine_agent.core.overlay.sightings import Sightings
from grapevine_agent.core.overlay.sleepers import Sleepers
from grapevine_agent.core.overlay.strangers import Strangers
from grapevine_agent.core.overlay.suspicion import SILENT_HEARTBEATS, Round, Suspicion
from grapevine_agent.core.overlay.task_index import TaskIndex
from grapevine_agent.core.overlay.usefulness import REMEMBER_HEARTBEATS, Usefulness
from grapevine_agent.core.settings import Scope
from grapevine_proto import topics
from grapevine_proto.location import Location
from grapevine_proto.messages import Heartbeat, PeerAnnouncement, PeerState, ProbeAnswer
from grapevine_proto.sessions import supersedes

LEAST_CARRIED_BYTES = 4_096  # whatever a gateway says: less is no broker's limit
ROTATE_HEARTBEATS = 10  # the sample is drawn anew this often
MAX_TO_ASK = 64  # of those who only say that they are members
ROLL_CALL = topics.every_peer("heartbeat")


@dataclass
class Members:
    """The peers that this agent knows of, itself excluded. `capacity` bounds them."""

    heartbeat_s: float
    rng: np.random.Generator
    capacity: int = 5_000
    named: set[str] = field(default_factory=set)  # by the owner, or as a task's server
    only_named: bool = False  # nobody else's presence is listened to
    scope: Scope = field(default_factory=Scope)  # members out of it are not counted on, and not gossiped with
    location: Location | None = None  # ours
    peers: dict[str, Peer] = field(default_factory=dict)
    wall_ms: int = 0  # now, as sessions are dated; 0: not known
    _rotate_at_s: float = -math.inf
    _presence_changed: bool = False
    _num_members: int = 0
    _away_since_s: float = math.inf  # inf: we are there
    _overlooked_s: float = -math.inf  # when a stranger was last turned away unread, or forgotten for want of room

    def __post_init__(self) -> None:
        self.carrying: dict[str, int] = {}  # gateway → the largest packet that it carries, as it says
        self._newcomers = Allowance(interval_s=self.heartbeat_s)
        self.sample = Sample(rng=self.rng)
        self._listened_to = ListenedTo()
        self.reach = Reach(scope=self.scope, location=self.location, peers=self.peers, named=self.named)
        self.suspicion = Suspicion(heartbeat_s=self.heartbeat_s, rng=self.rng, peers=self.peers)
        self.sleepers = Sleepers(heartbeat_s=self.heartbeat_s)
        self.tasks = TaskIndex(peers=self.peers)
        self.usefulness = Usefulness(heartbeat_s=self.heartbeat_s)
        self.strangers = Strangers(heartbeat_s=self.heartbeat_s)
        self.roll_call = RollCall(heartbeat_s=self.heartbeat_s)
        self.sightings = Sightings()

    # --- who is known -----------------------------------------------------------------------------

    def _meet(self, peer: str, *, was_heard: bool = False) -> Peer | None:
        """A peer's entry, made if need be; None where there is no room. Who was heard is preferred to a stranger."""
        known = self.peers.get(peer)
        if known is not None:
            return known
        if len(self.peers) >= self.capacity:
            stranger = self.strangers.to_forget()
            if stranger is None:
                return None
            self._forget(stranger)
        known = self.peers[peer] = Peer(peer)
        if peer in self.named:
            self._take_in(known)
        elif not was_heard:
            self.strangers.went(peer)
        return known

    def _forget(self, peer: str) -> None:
        gone = self.peers.pop(peer)
        if gone.is_member:
            self.sightings.changed[peer] = None
        self.carrying.pop(peer, None)
        self._overlooked_s = max(self._overlooked_s, gone.last_heard_s if gone.online else -math.inf)
        self.strangers.remove(peer)
        self.tasks.remove(gone)
        self._num_members -= gone.is_member
        self.usefulness.forget(gone)
        self.suspicion.clear(peer)
        self.sleepers.forget(peer)

    def _take_in(self, known: Peer) -> None:
        """From now on it counts."""
        known.is_member, known.is_silent = True, False
        self.sightings.changed[known.id] = None
        self._num_members += 1
        self._presence_changed = True
        self.strangers.remove(known.id)
        self.tasks.add(known)

    def name(self, peers: Iterable[str]) -> None:
        """Count these as soon as they say that they are there."""
        self.named.update(peers)
        for peer in sorted(self.named & self.peers.keys()):
            if not self.peers[peer].is_member:
                self._take_in(self.peers[peer])

    def name_only(self, peers: Collection[str]) -> None:
        """Count these as soon as they say that they are there, and of the others only who is heard."""
        self.named.intersection_update(peers)
        self.name(peers)

    # --- what is heard ----------------------------------------------------------------------------

    def hear_announcement(self, peer: str, announcement: PeerAnnouncement, *, is_guess: bool = False) -> None:
        """Who a peer says it is, and which tasks it is a member of; or what its messages let us guess of that."""
        known = self._meet(peer)
        if known is None:
            return
        self.tasks.remove(known)
        known.announcement, known.is_announced = announcement, not is_guess
        self.tasks.add(known)
        if known.is_member:
            self.sightings.changed[peer] = None  # its name, perhaps
        if announcement.gateway and announcement.carries:
            self.carrying[peer] = max(announcement.carries, LEAST_CARRIED_BYTES)
        else:
            self.carrying.pop(peer, None)

    def hear_state(self, peer: str, state: PeerState, session: int, now_s: float, *, asleep_s: float = 0.0) -> None:
        """Online, for now: what was retained may be old. Offline: of who was heard just now a will makes a suspect.

        `asleep_s`: for how long from now it sleeps, as it says; of who sleeps a will says nothing more.
        """
        known = self._meet(peer)
        if known is None:
            self._overlooked_s = now_s
            return
        is_newer = supersedes(session, known.session, self.wall_ms)
        if not is_newer and session != known.session:
            return  # it was heard since, in a newer one
        is_will = not state.online and not state.goodbye and not is_newer
        if is_will and known.is_counted and self.suspicion.doubts_will(known, len(self.sampled_since_s), now_s):
            return
        if known.online != state.online or is_newer:
            self._set_online(known, state.online)
        elif state.online:
            self.suspicion.clear(peer)  # it contradicts its will
        if is_newer:
            known.begin_session(session)
        known.last_heard_s = now_s
        if asleep_s and known.is_member:
            self.sleepers.fell_asleep(peer, now_s + asleep_s)
            self.sightings.changed[peer] = None
        elif state.goodbye:
            self.sleepers.forget(peer)

    def lose_sight(self, peer: str) -> None:
        """The broker at which a peer was met is lost to us: it has said nothing, and counts again once it is heard."""
        known = self.peers.get(peer)
        if known is not None and known.online:
            self._set_online(known, False)
            known.is_out_of_sight = True

    def _set_online(self, known: Peer, online: bool) -> None:
        self._presence_changed |= known.is_member and (known.online != online or known.is_silent)
        known.online, known.is_out_of_sight = online, False
        known.has_slept = online and self.sleepers.woke(known.id)
        known.is_silent = False  # a new beginning
        self.suspicion.clear(known.id)
        self.tasks.changed(known)
        if known.is_member:
            self.sightings.changed[known.id] = None
            self.strangers.remove(known.id)
        elif online:
            self.strangers.came(known.id)
        else:
            self.strangers.went(known.id)

    def hear(self, peer: str, now_s: float) -> Peer | None:
        """Anything fresh from a peer shows that it is alive; it makes nobody a member."""
        known = self.peers.get(peer)
        if known is not None:
            if known.is_out_of_sight:
                self._set_online(known, True)
            known.last_heard_s, known.num_relayed = now_s, 0
            self.suspicion.heard(peer, now_s)
            if known.is_silent:
                known.is_silent = False
                self._presence_changed = True
                self.sightings.changed[peer] = None
                self.strangers.remove(peer)
                self.tasks.changed(known)
        return known

    def hear_heartbeat(
        self, peer: str, heartbeat: Heartbeat, now_s: float, *, session: int = 0, ours: Collection[str] = ()
    ) -> None:
        """A peer is alive, and this far with its tasks; of those only the ones that are `ours` are noted."""
        known, tasks = self.peers.get(peer), tuple(p.task for p in heartbeat.progress)
        if known is None or not known.is_member:
            if not self._newcomers.take(now_s, self._num_members):
                return
            known = self._meet(peer, was_heard=True)
            if known is None:
                return
            self.roll_call.found()
            self._welcome(known, tasks)
        elif tasks and not known.is_announced:
            self.hear_announcement(peer, PeerAnnouncement(tasks=tasks), is_guess=True)
        self._hear_alive(known, session, now_s)
        self.suspicion.hear_beat(known, heartbeat, session, now_s, since_s=self.sampled_since_s.get(peer))
        known.hear_progress([p for p in heartbeat.progress if p.task in ours])

    def hear_update(self, peer: str, task: str, now_s: float, *, session: int = 0) -> None:
        """An update of a task was used. Its sender has proved itself; so many newcomers at a time can."""
        if self.only_named and peer not in self.named:
            return  # who is no neighbour is merged, and not gossiped with
        known = self._meet(peer, was_heard=True)
        if known is None:
            return
        if not self.usefulness.may_prove(known, now_s, is_named=peer in self.named):
            if not known.is_member:
                self.strangers.came(peer)
            return
        if not known.is_member:
            self._welcome(known, (task,))
        self._hear_alive(known, session, now_s)
        self.usefulness.proved(known, task, now_s)

    def hear_answer(self, peer: str, answer: ProbeAnswer, now_s: float, *, session: int) -> None:
        """A peer has answered a probe; or somebody who was asked to probe another one says that this one has."""
        known = self.peers.get(answer.peer or peer)
        if known is None or not known.is_member:
            return
        if answer.peer:
            if self.suspicion.brought(known, peer, answer.nonce, answer.session, answer.incarnation):
                known.last_heard_s = now_s  # as far as we can know
            return
        self.suspicion.answered(peer, answer.nonce, now_s)
        self._hear_alive(known, session, now_s)
        self.suspicion.hear_incarnation(known, session, answer.incarnation)

    def _welcome(self, known: Peer, tasks: tuple[str, ...]) -> None:
        """Take a stranger in. What its message says of its tasks stands until its announcement is heard."""
        if not known.is_announced:
            known.announcement = PeerAnnouncement(tasks=tuple(dict.fromkeys((*known.announcement.tasks, *tasks))))
        self._take_in(known)

    def _hear_alive(self, known: Peer, session: int, now_s: float) -> None:
        """A member was heard. That it is online shows too, unless its goodbye, or its will, is of this session."""
        if supersedes(session, known.session, self.wall_ms):
            if not known.online:
                self._set_online(known, True)
            known.begin_session(session)
            self.suspicion.clear(known.id)
        self.hear(known.id, now_s)

    def carried_bytes(self, now_s: float) -> float:
        """The largest packet, in bytes, that every gateway here carries, as they say; inf where none says anything."""
        return min((most for peer, most in self.carrying.items() if self.is_alive(peer, now_s)), default=math.inf)

    def overlook(self, now_s: float) -> None:
        """A stranger was turned away unread: there may be somebody who is not in the book."""
        self._overlooked_s = now_s

    # --- what is asked ----------------------------------------------------------------------------

    @property
    def sampled_since_s(self) -> dict[str, float]:
        """Whose heartbeats are listened to, and since when; strangers are not among them."""
        return self.sample.since_s

    def session_of(self, peer: str) -> int:
        """The newest session of a peer, 0 if it was never heard."""
        return self.peers[peer].session if peer in self.peers else 0

    def life_of(self, peer: str) -> int:
        """The session since which a peer has what it got: see `Peer.life`."""
        known = self.peers.get(peer)
        return known.life if known is not None else 0

    def is_member(self, peer: str) -> bool:
        """Whether this peer was heard, and taken in."""
        return peer in self.peers and self.peers[peer].is_member

    def is_known(self, peer: str) -> bool:
        """Whether this is a member, or somebody who has said who it is."""
        known = self.peers.get(peer)
        return known is not None and (known.is_member or known.is_announced)

    def says_it_takes_part(self, peer: str, task: str) -> bool:
        """Whether a peer's announcement names a task."""
        known = self.peers.get(peer)
        return known is not None and task in known.announcement.tasks

    def may_be_there(self, peer: str, now_s: float) -> bool:
        """Whether a peer, member or not, says that it is online and was not found silent."""
        known = self.peers.get(peer)
        return known is not None and known.online and not known.is_silent and not self._is_late(known, now_s)

    def is_alive(self, peer: str, now_s: float) -> bool:
        """Whether a peer can be counted on: a member, online, and not silent while it was listened to."""
        return self.is_member(peer) and self.may_be_there(peer, now_s)

    def taking_part(self, among: Iterable[str], task: str, now_s: float) -> set[str]:
        """Those of some peers who are alive, and whose announcement names a task. Asked with every update."""
        peers, sampled, found = self.peers, self.sampled_since_s, set()
        for peer in among:
            known = peers.get(peer)
            if known is None or not (known.is_member and known.online) or known.is_silent:
                continue
            if task in known.announcement.tasks and not (peer in sampled and self._is_late(known, now_s)):
                found.add(peer)
        return found

    def _is_late(self, known: Peer, now_s: float) -> bool:
        since_s = None if known.id in self.suspicion.suspects else self.sampled_since_s.get(known.id)
        return since_s is not None and now_s - max(known.last_heard_s, since_s) > self.suspicion.patience_s(known)

    def of_task(self, task: str, now_s: float) -> list[str]:
        """Live members of a task, sorted: the neighbours that gossip about it can reach.

        Asked for at every send. Who is online changes seldom, and only the few that are in the sample can be silent.
        """
        if self.is_away:
            return []
        counted = self.tasks.counted(task)
        if not self.reach.is_everywhere:
            counted = [peer for peer in counted if self.reach.holds(peer)]
        limit_s = now_s - SILENT_HEARTBEATS * self.heartbeat_s
        if self.sample.was_heard_since(limit_s, self.peers):
            return list(counted)
        return [peer for peer in counted if self.is_alive(peer, now_s)]

    def useful(self, task: str, among: Iterable[str], now_s: float) -> list[str]:
        """Those among some members whose update of a task was used lately, or whom the owner named, sorted."""
        if self.only_named:
            return list(among)
        since_s = now_s - REMEMBER_HEARTBEATS * self.heartbeat_s
        return sorted((self.usefulness.lately(task, since_s) | self.named).intersection(among))

    def to_ask(self, task: str, now_s: float) -> list[str]:
        """Whom to ask about a task: its members; while none was heard, some of those who say that they are one."""
        if members := self.of_task(task, now_s):
            return members
        saying = (p.id for p in self.peers.values() if p.online and task in p.announcement.tasks)
        return sorted(peer for peer, _ in zip(saying, range(MAX_TO_ASK), strict=False))

    def num_alive(self, now_s: float) -> int:
        """How many peers can be counted on."""
        return sum(self.is_alive(peer, now_s) for peer in self.peers)

    def heard_of(self) -> set[str]:
        """Everybody who is a member, at present or not."""
        return {peer.id for peer in self.peers.values() if peer.is_member}

    def listens_to(self, peer: str, now_s: float) -> bool:
        """Whether a heartbeat of this peer is worth verifying: a roll call brings everybody's, and some twice."""
        if not self.roll_call.is_open:
            return True
        known = self.peers.get(peer)
        if known is None or not known.is_member:
            return self._newcomers.room(now_s, self._num_members) > 0
        return peer in self._listened_to.peers and now_s - known.last_heard_s > self.heartbeat_s / 4

    # --- we sleep ---------------------------------------------------------------------------------

    @property
    def is_away(self) -> bool:
        """Whether we hear nobody, and know it."""
        return self._away_since_s < math.inf

    def fell_asleep(self, now_s: float) -> None:
        """From now on we hear nobody."""
        self._away_since_s = min(self._away_since_s, now_s)

    def woke_up(self, now_s: float) -> None:
        """A broker has us again. Whoever was heard a second before we left counts as heard a second ago."""
        away_s, self._away_since_s = now_s - self._away_since_s, math.inf
        for known in self.peers.values():
            known.last_heard_s += away_s
        for peer in self.sample.since_s:
            self.sample.since_s[peer] = now_s
        self.suspicion.suspects.clear()
        self.suspicion.look_again()

    # --- time -------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> list[Effect]:
        """Keep the sample of peers whose heartbeats are listened to full, and draw it anew in time."""
        due = now_s >= self._rotate_at_s
        if due:
            self._rotate_at_s = now_s + ROTATE_HEARTBEATS * self.heartbeat_s
            self._look_for_the_silent(now_s)
        if due or self._presence_changed:
            self._presence_changed = False
            self.sample.draw(self.peers, now_s, anew=due, prefer_useful=not self.only_named)
            self.suspicion.look_again()
        effects = self._listened_to.change({*self.sampled_since_s, *self.strangers.choose(now_s)})
        is_wanted, has_room = self._calls(now_s)
        if self.roll_call.tick(now_s, is_wanted=is_wanted, has_room=has_room):
            effects.append(
                Subscribe(filter=ROLL_CALL, qos=0) if self.roll_call.is_open else Unsubscribe(filter=ROLL_CALL)
            )
        return effects

    def changes(self) -> list[PeerChanged]:
        """Who has come, is late, or is gone since this was last asked."""
        return self.sightings.look(self.peers, self.suspicion.suspects, self.sleepers)

    def find_lost(self, now_s: float) -> list[Round]:
        """Suspect who is late, and give up those of whom nobody has brought an answer. What is to be asked now."""
        self.suspicion.look(self.sampled_since_s, now_s)
        for peer in self.sleepers.take_overdue(now_s):
            self.sightings.changed[peer] = None
            if self.peers[peer].incarnation:
                self.suspicion.suspect(self.peers[peer], now_s, by_will=True)
        rounds: list[Round] = []
        for found in self.suspicion.tick(len(self.sampled_since_s), now_s):
            if isinstance(found, Round):
                rounds.append(found)
            elif found.by_will:
                self._set_online(self.peers[found.peer], False)
            else:
                self._fell_silent(self.peers[found.peer])
                self._presence_changed = True
        return rounds

    def _fell_silent(self, known: Peer) -> None:
        known.is_silent = True
        self.sightings.changed[known.id] = None
        self.suspicion.clear(known.id)
        self.tasks.changed(known)
        self.strangers.miss(known.id)

    def deadline_s(self, now_s: float) -> float:
        """When `find_lost` or `tick` has something to do next that cannot wait for the next heartbeat of our own."""
        suspects_s = min(self.suspicion.deadline_s(), self.suspicion.next_look_s(), self.sleepers.deadline_s())
        if self.only_named:
            return suspects_s
        is_wanted, has_room = self._calls(now_s)
        call_s = self.roll_call.next_change_s(is_wanted=is_wanted, has_room=has_room)
        return min(suspects_s, call_s, self.strangers.next_change_s())

    def _calls(self, now_s: float) -> tuple[bool, bool]:
        """Whether a roll call might bring somebody, and whether there is room for who comes."""
        overlooked = now_s - self._overlooked_s < REMEMBER_HEARTBEATS * self.heartbeat_s
        is_wanted = not self.only_named and (self.strangers.num_waiting > 0 or overlooked)
        return is_wanted, self._newcomers.room(now_s, self._num_members) > 0

    def _look_for_the_silent(self, now_s: float) -> None:
        """Members who were not heard are listened to among the strangers, and come back when they are heard."""
        since_s = now_s - REMEMBER_HEARTBEATS * self.heartbeat_s
        for known in list(self.peers.values()):
            self.usefulness.forget_before(known, since_s)
            if not known.is_counted:
                continue
            long_ago = known.last_heard_s < since_s and known.id not in self.named  # who is named needs no proof
            if self._is_late(known, now_s) or long_ago:
                self._fell_silent(known)
        if len(self.peers) >= self.capacity:
            self._make_room()

    def _make_room(self) -> None:
        """Forget members who are not there and were of no use, the longest gone first: at most a tenth of the book.

        Who sleeps comes last, and only while more than half of the book do.
        """
        gone = [p for p in self.peers.values() if p.is_member and not p.is_counted and not p.updated_s]
        gone = [p for p in gone if p.id not in self.named]
        gone.sort(key=lambda p: (p.id in self.sleepers, p.last_heard_s))
        kept = min(len(self.sleepers), self.capacity // 2)
        for peer in gone[: min(max(1, self.capacity // 10), len(gone) - kept)]:
            self._forget(peer.id)
