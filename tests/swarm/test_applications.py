"""Applications among many agents: each decides alone, and all come to one end, though peers come and go and lie."""

from __future__ import annotations

import heapq
from collections.abc import Collection
from dataclasses import replace
from types import SimpleNamespace

import pytest
from tests.containers import IMAGE
from tests.swarm.digits import built_digits, digits_manifest
from tests.swarm.world import Node, World

from grapevine_agent.core.apps import places
from grapevine_agent.core.apps.app_book import AppEntry
from grapevine_agent.core.effects import Effect
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.settings import CoreSettings, EngineRules, ReviewPolicy
from grapevine_agent.requests.applications import ApplicationRequests
from grapevine_proto.application import (
    ApplicationSpec,
    Component,
    Container,
    Hours,
    LabelTest,
    LearningTask,
    Preference,
    Where,
)
from grapevine_proto.application_codec import MAX_SPEC_BYTES, application_id, encode_application
from grapevine_proto.codec import seal
from grapevine_proto.messages import ApplicationPublication, Message, PeerAnnouncement, PeerState
from grapevine_proto.records import MAX_APPS_PER_AUTHOR
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import AppTopic, PeerTopic, writer_of

HEARTBEAT_S = 1.0
STEP_S = 0.05
SETTLED_S = 8.0
VIEWER = Component(name="viewer", workload=Container(image=IMAGE), replicas=5)


class Stepped(World):
    """Time in steps, for many nodes: who has something to do is asked in each, and not at each message."""

    def run(self, for_s: float) -> None:
        end_s = self.now_s + for_s
        while self.now_s < end_s - 1e-9:
            self.now_s = min(end_s, self.now_s + STEP_S)
            while self._events and self._events[0][0] <= self.now_s:
                heapq.heappop(self._events)[2]()
            for node in self.nodes:
                if node.up and node.core.deadline_s() <= self.now_s:
                    self.perform(node, node.core.tick(self.moment()))


class Crowd:
    """Agents that run containers, an engineer, and a reviewer whom all trust."""

    def __init__(self, num_agents: int, seed: int = 3) -> None:
        self.world = Stepped(seed)
        self.reviewer_key, self.engineer_key = self.world.key(), self.world.key()
        self.policy = ReviewPolicy(approvals=1, trusted=frozenset({self.reviewer_key.peer_id}))
        self.reviewer = self._add(self.reviewer_key, role="observer")
        self.engineer = self._add(self.engineer_key, role="observer")
        self.agents = [self.join(number) for number in range(num_agents)]

    def join(self, number: int) -> Node:
        labels = (("floor", str(number % 4)),)
        rules = EngineRules(images=frozenset({IMAGE}), memory_mb=1_000, cpu_thousandths=8_000)
        return self._add(self.world.key(), engine=rules, labels=labels, traits=("container-engine",))

    def _add(self, key: SigningKey, **settings: object) -> Node:
        base = CoreSettings(peer=key.peer_id, heartbeat_s=HEARTBEAT_S, consent="never", review=self.policy)
        return self.world.add(replace(base, **settings), key)  # type: ignore[arg-type]

    def apply(self, *components: Component, name: str = "lakeside", approved: bool = True) -> str:
        application = self.world.apply(self.engineer, *(components or (VIEWER,)), name=name)
        self.world.run(0.5)
        if approved:
            self.world.approve(self.reviewer, application)
        return application

    def delete(self, name: str = "lakeside") -> None:
        self.world.perform(self.engineer, self.engineer.core.delete_application(name, "", self.world.moment()))

    def reload(self, **policy: object) -> None:
        """Every owner's configuration is read again."""
        for node in self.agents:
            settings = replace(node.core.settings, review=replace(self.policy, **policy))  # type: ignore[arg-type]
            self.world.perform(node, node.core.set_settings(settings, self.world.moment()))

    def running(self, component: str = "viewer") -> set[str]:
        """Who runs it."""
        word = f"{self.engineer.peer}/lakeside/{component}"
        return {node.peer for node in self.agents if node.up and word in node.core.apps.containers.asked}

    def settle(self) -> None:
        self.world.run(SETTLED_S)


@pytest.fixture
def crowd() -> Crowd:
    crowd = Crowd(8)
    crowd.settle()
    return crowd


@pytest.mark.timeout(300)  # a minute and a half of twenty agents
def test_twenty_agents_agree_on_five_replicas_and_churn_moves_no_more_than_it_must() -> None:
    crowd = Crowd(20)
    crowd.settle()
    crowd.apply()
    crowd.settle()
    first = crowd.running()
    assert len(first) == 5
    assert {node.core.apps.parts[crowd.engineer.peer, "lakeside", "viewer"].chosen for node in crowd.agents} == {
        tuple(node.core.apps.parts[crowd.engineer.peer, "lakeside", "viewer"].chosen) for node in crowd.agents[:1]
    }
    # One that does not run it goes: nothing moves.
    idle = next(node for node in crowd.agents if node.peer not in first)
    crowd.world.kill(idle)
    crowd.settle()
    assert crowd.running() == first
    # One that runs it dies: one other takes its place, and nobody else moves.
    dead = next(node for node in crowd.agents if node.peer in first)
    crowd.world.kill(dead)
    crowd.world.run(3 * SETTLED_S)
    second = crowd.running()
    assert len(second) == 5
    assert first - second == {dead.peer}
    # It comes back, and gets its place again.
    crowd.world.connect(dead)
    crowd.world.run(3 * SETTLED_S)
    assert crowd.running() == first
    # Five newcomers take at most what is theirs.
    crowd.agents += [crowd.join(number) for number in range(5)]
    crowd.world.run(3 * SETTLED_S)
    third, newcomers = crowd.running(), {node.peer for node in crowd.agents[-5:]}
    assert len(third) == 5
    assert third - first <= newcomers


def test_nothing_runs_that_is_not_approved_and_a_deletion_ends_it(crowd: Crowd) -> None:
    application = crowd.apply(approved=False)
    crowd.settle()
    assert not crowd.running()
    crowd.world.approve(crowd.reviewer, application)
    crowd.settle()
    assert len(crowd.running()) == 5
    crowd.delete()
    crowd.world.run(1.0)
    assert not crowd.running()
    crowd.apply()  # the name may be used again
    crowd.settle()
    assert len(crowd.running()) == 5


def test_a_rejection_ends_it_at_once(crowd: Crowd) -> None:
    application = crowd.apply()
    crowd.settle()
    crowd.world.approve(crowd.reviewer, application, approved=False)
    crowd.world.run(1.0)
    assert not crowd.running()


def test_a_new_version_waits_for_its_approval_while_the_one_before_runs_and_moves_nobody(crowd: Crowd) -> None:
    crowd.apply()
    crowd.settle()
    before = crowd.running()
    second = crowd.apply(replace(VIEWER, replicas=6), approved=False)
    crowd.settle()
    assert crowd.running() == before
    crowd.world.approve(crowd.reviewer, second)
    crowd.settle()
    assert len(crowd.running()) == 6
    assert crowd.running() > before


def test_a_reload_ends_nothing_whose_next_version_waits(crowd: Crowd) -> None:
    crowd.apply()
    crowd.settle()
    second = crowd.apply(replace(VIEWER, replicas=6), approved=False)
    crowd.settle()
    before = crowd.running()
    crowd.reload()
    crowd.settle()
    assert crowd.running() == before != set()
    crowd.reload(trusted=frozenset({crowd.world.key().peer_id}))  # nobody who has spoken of either is trusted
    crowd.settle()
    assert not crowd.running()
    crowd.reload()
    crowd.world.approve(crowd.reviewer, second)
    crowd.settle()
    assert len(crowd.running()) == 6


def test_labels_say_where_and_replicas_can_be_kept_apart(crowd: Crowd) -> None:
    here = Where(terms=((LabelTest(key="floor", operator="In", values=("1", "2")),),))
    crowd.apply(
        Component(name="near", workload=Container(image=IMAGE), where=here),
        Component(name="spread", workload=Container(image=IMAGE), where=Where(apart_by="floor")),
        Component(
            name="rather",
            workload=Container(image=IMAGE),
            replicas=5,
            where=Where(
                preferred=(Preference(weight=10, term=(LabelTest(key="floor", operator="In", values=("3",)),)),)
            ),
        ),
    )
    crowd.settle()
    floors = {node.peer: dict(node.core.settings.labels)["floor"] for node in crowd.agents}
    assert crowd.running("near") == {peer for peer, floor in floors.items() if floor in "12"}
    assert sorted(floors[peer] for peer in crowd.running("spread")) == ["0", "1", "2", "3"]
    on_three = {peer for peer, floor in floors.items() if floor == "3"}
    assert len(crowd.running("rather")) == 5
    assert crowd.running("rather") > on_three


def test_where_one_cannot_run_it_another_does(crowd: Crowd) -> None:
    crowd.apply()
    crowd.settle()
    before = crowd.running()
    failing = next(node for node in crowd.agents if node.peer in before)
    word = f"{crowd.engineer.peer}/lakeside/viewer"
    told = failing.core.component_told(word, is_running=False, why="no space left", now=crowd.world.moment())
    crowd.world.perform(failing, told)
    crowd.settle()
    assert before - crowd.running() == {failing.peer}
    assert len(crowd.running()) == 5
    crowd.world.run(60.0)  # it is tried again
    assert crowd.running() == before


def test_hours_end_and_begin_it_for_all_at_once(crowd: Crowd) -> None:
    begin = crowd.world.moment().wall_ms // 60_000 + 2
    crowd.apply(replace(VIEWER, hours=Hours(spans=((begin % 1_440, begin % 1_440 + 1),))))
    crowd.settle()
    assert not crowd.running()
    crowd.world.run(begin * 60 - crowd.world.moment().wall_ms / 1000 + 2.0)
    assert len(crowd.running()) == 5
    crowd.world.run(60.0)
    assert not crowd.running()


def test_who_only_says_that_it_is_there_takes_no_place(crowd: Crowd) -> None:
    crowd.apply()
    crowd.settle()
    before = crowd.running()
    offers = crowd.agents[0].core.apps.offers()
    for _ in range(30):
        liar = crowd.world.key()
        said = PeerAnnouncement(name="me", offers=offers, traits=("container-engine",))
        for leaf, body in (("state", PeerState(online=True)), ("announcement", said)):
            topic = PeerTopic(liar.peer_id, leaf)  # type: ignore[arg-type]
            message = Message(sender=liar.peer_id, session=crowd.world.moment().wall_ms, sequence=1, body=body)
            crowd.world.say(topic.below_root(), seal(message, topic, liar), retain=True)
    crowd.settle()
    assert crowd.running() == before


def say(crowd: Crowd, key: SigningKey, topic: AppTopic, body: ApplicationPublication) -> None:
    crowd.world.run(0.01)
    wall_ms = crowd.world.moment().wall_ms
    message = Message(sender=key.peer_id, session=wall_ms, sequence=wall_ms, body=body)
    crowd.world.say(topic.below_root(), seal(message, topic, key), retain=True)


def publish(crowd: Crowd, key: SigningKey, name: str, *components: Component) -> str:
    """A stranger's application. Returns its id."""
    spec = encode_application(ApplicationSpec(name=name, author=key.peer_id, components=components or (VIEWER,)))
    say(crowd, key, AppTopic(key.peer_id, name), ApplicationPublication(spec=spec))
    return application_id(spec)


def test_what_strangers_say_of_applications_is_looked_at_together_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = Crowd(1)
    crowd.apply()
    node = crowd.agents[0]
    manifest = digits_manifest(node.peer, created_at_ms=crowd.world.moment().wall_ms)
    task = crowd.world.publish_task(node, manifest, built_digits().weights)
    crowd.settle()
    looked, marked = 0, set[str]()
    look, mark = node.core.apps._look, node.core.tasks.assessor.mark

    def counted(approved: list[AppEntry], now: Moment) -> list[Effect]:
        nonlocal looked
        looked += 1
        return look(approved, now)

    def noted(tasks: Collection[str]) -> None:
        marked.update(tasks)
        mark(tasks)

    monkeypatch.setattr(node.core.apps, "_look", counted)
    monkeypatch.setattr(node.core.tasks.assessor, "mark", noted)
    stranger = crowd.world.key()
    for number in range(100):
        publish(crowd, stranger, "again", Component(name="x", workload=LearningTask(task=task), replicas=number + 1))
    crowd.world.run(0.1)
    assert node.core.apps.book.naming(task)
    assert looked <= 4  # in a second, of which one is the heartbeat's
    assert not marked  # a stranger has no say in it
    looked = 0
    crowd.delete()  # of one that matters
    crowd.world.run(0.6)
    assert looked
    assert not crowd.running()


def test_the_same_application_said_again_goes_on(crowd: Crowd) -> None:
    application = crowd.apply()
    crowd.settle()
    before = crowd.running()
    theirs = crowd.engineer.core.apps.book.by_id[application].encoded
    again = ApplicationPublication(spec=theirs)
    say(crowd, crowd.engineer_key, AppTopic(crowd.engineer.peer, "lakeside"), again)
    crowd.settle()
    assert crowd.running() == before != set()


def test_strangers_take_no_places_from_what_is_reviewed_and_give_them_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "MOST_FOLLOWED", 4)
    crowd = Crowd(1)
    node = crowd.agents[0]
    crowd.reload(approvals=0)
    crowd.settle()
    strangers = [crowd.world.key() for _ in range(5)]
    names = ["one", "two", "three", "four", "five"]
    for key, name in zip(strangers, names, strict=True):
        publish(crowd, key, name, replace(VIEWER, name=name))
    crowd.settle()
    assert followed(node) == set(names[:4])
    service = SimpleNamespace(core=node.core, identity=SimpleNamespace(peer_id=node.peer))
    here = ApplicationRequests(service).explain("five")["components"][0]["here"]  # type: ignore[arg-type]
    assert here["state"] == "no place"
    names_before = followed(node)
    unsaid = crowd.apply(approved=False)
    crowd.settle()
    assert followed(node) == names_before
    crowd.world.approve(crowd.reviewer, unsaid)  # whom the owner trusts
    crowd.settle()
    assert "lakeside" in followed(node)
    assert len(followed(node)) == 4
    topic = AppTopic(strangers[1].peer_id, "two")
    say(crowd, strangers[1], topic, ApplicationPublication(deleted=True))
    crowd.settle()
    assert len(followed(node)) == 4  # one of those that were left out has its place
    crowd.reload(approvals=1)
    crowd.settle()
    assert followed(node) == {"lakeside"}
    kept = {each.name for each in node.core.records._kept if isinstance(each, AppTopic)}
    assert kept == {"lakeside"}


def test_an_application_whose_verdict_is_taken_back_gives_up_its_place() -> None:
    crowd = Crowd(1)
    node = crowd.agents[0]
    application = crowd.apply()
    crowd.settle()
    assert followed(node) == {"lakeside"}
    crowd.world.perform(crowd.reviewer, crowd.reviewer.core.revoke(application, reason="", now=crowd.world.moment()))
    crowd.settle()
    assert not followed(node)
    assert not crowd.running()
    crowd.world.approve(crowd.reviewer, application)
    crowd.settle()
    assert followed(node) == {"lakeside"}


@pytest.mark.parametrize("is_pushed_out", [True, False])
def test_one_that_had_no_room_comes_back_once_it_is_approved(is_pushed_out: bool) -> None:
    crowd = Crowd(1)
    node = crowd.agents[0]
    node.core.records.tasks_budget.most_bytes = 40_000  # for which the heaviest leaves
    wanted = replace(VIEWER, workload=Container(image=IMAGE, command=("y" * 900,) * 10))
    if is_pushed_out:
        application = crowd.apply(wanted, approved=False)
    for _ in range(20):
        publish(crowd, crowd.world.key(), "other")
    if not is_pushed_out:
        node.core.records.tasks_budget.author_bytes = 100  # there is no room for anybody
        application = crowd.apply(wanted, approved=False)
    crowd.settle()
    assert application not in node.core.apps.book.by_id
    crowd.world.approve(crowd.reviewer, application)
    crowd.settle()
    assert crowd.running() == {node.peer}
    assert AppTopic(crowd.engineer.peer, "lakeside").below_root() not in node.filters


def followed(node: Node) -> set[str]:
    apps = node.core.apps
    return {entry.name for entry in apps.book.entries.values() if apps.places.is_followed(entry)}


def test_floods_and_lies_about_authors_cost_a_bounded_part_of_memory() -> None:
    crowd = Crowd(1)
    crowd.settle()
    node = crowd.agents[0]

    stranger = crowd.world.key()
    for number in range(3 * MAX_APPS_PER_AUTHOR):
        name = f"app-{number}"
        spec = encode_application(ApplicationSpec(name=name, author=stranger.peer_id, components=(VIEWER,)))
        say(crowd, stranger, AppTopic(stranger.peer_id, name), ApplicationPublication(spec=spec))
    approved = crowd.apply()
    crowd.world.run(1.0)
    liar = crowd.world.key()
    theirs = node.core.apps.book.by_id[approved].encoded
    say(
        crowd, liar, AppTopic(liar.peer_id, "lakeside"), ApplicationPublication(spec=theirs)
    )  # what is approved, as its own
    say(
        crowd, liar, AppTopic(liar.peer_id, "app-1"), ApplicationPublication(spec=spec)
    )  # the stranger's, in another's name
    say(crowd, liar, AppTopic(liar.peer_id, "huge"), ApplicationPublication(spec=b"\x0a" * (MAX_SPEC_BYTES + 1)))
    say(crowd, liar, AppTopic(liar.peer_id, "noise"), ApplicationPublication(spec=b"\xff" * 100))
    nested = b"\x22\x7f" * 60  # components within components, which do not exist
    say(crowd, liar, AppTopic(liar.peer_id, "cyclic"), ApplicationPublication(spec=nested))
    crowd.world.run(1.0)
    assert len(node.core.apps.book.entries) == MAX_APPS_PER_AUTHOR + 1
    assert {topic.peer for topic in node.core.apps.book.entries} == {stranger.peer_id, crowd.engineer.peer}
    assert not any(writer_of(topic) == liar.peer_id for topic in node.core.records._kept)
    crowd.delete()
    crowd.world.run(1.0)
    assert {"over-quota", "forged", "too-big", "malformed"} <= set(node.dropped)
    for _ in range(400):  # many authors with the largest there are share one budget
        author = crowd.world.key()
        spec = encode_application(
            ApplicationSpec(
                name="large",
                author=author.peer_id,
                components=(
                    VIEWER,
                    replace(VIEWER, name="x", workload=Container(image=IMAGE, command=("y" * 990,) * 15)),
                ),
            )
        )
        say(crowd, author, AppTopic(author.peer_id, "large"), ApplicationPublication(spec=spec))
    crowd.world.run(1.0)
    held = sum(len(entry.encoded) for entry in node.core.apps.book.entries.values())
    assert held < 16 * 2**20
    assert node.core.apps.deadline_s() == float("inf")  # and none of it is looked at again
