"""Several brokers in a simulation: records spread by themselves, gateways and bridges carry, and cuts heal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from tests.swarm.simulations import LEARNING, PROTOCOL, outcome_of, prepared_of

from grapevine_lab.simulator.broker_sessions import Delivery
from grapevine_lab.simulator.device import Device
from grapevine_lab.simulator.experiment import Run, begin
from grapevine_lab.simulator.run import run_seed
from grapevine_proto.topics import PeerTopic, TaskTopic

SITES = "broker=[{ name = 'a' }, { name = 'b' }, { name = 'c' }]"
AT = "nodes.brokers={ a = 2, 'a+b' = 1, b = 2, 'b+c' = 1, c = 2, 'c+a' = 1 }"
RING = (SITES, AT, "nodes.num=9", "nodes.gateways=3")
APART = (SITES, "nodes.num=9")
BRIDGED = (*APART, "bridge=[{ owner = 'a', to = 'b' }, { owner = 'c', to = 'b' }]")
TASK = "ab" * 32
SLOW = ("scenario.rounds=0", "scenario.duration_s=400", "task.training.round_interval_s=20")


def world_of(folder: Path, *changes: str, seed: int = 0) -> Run:
    return begin(prepared_of(folder, PROTOCOL, *SLOW, *changes), seed)


def reviews(run: Run, device: Device, task: str = TASK, reason: str = "well") -> None:
    assert device.core is not None
    until_ms = run.world.now(device).wall_ms + 3_600_000
    run.world.do(device, device.core.review(task, approved=True, reason=reason, valid_until_ms=until_ms))


def know(run: Run, author: Device, task: str = TASK, *, on: bool = True) -> list[int]:
    topic = TaskTopic(author.peer, task, "review")
    return [each.index for each in run.world.devices if each.core and (each.core.records.get(topic) is not None) is on]


def see(run: Run, other: Device) -> list[int]:
    found = []
    for each in run.world.devices:
        assert each.core is not None
        known = each.core.members.peers.get(other.peer)
        if known is not None and known.online:
            found.append(each.index)
    return found


def until(run: Run, true: Callable[[], bool], within_s: float) -> float:
    """How long it took."""
    began_s = run.world.clock.now_s
    while not true():
        run.world.step()
        assert run.world.clock.now_s <= began_s + within_s
    return run.world.clock.now_s - began_s


def holdings(run: Run) -> list[dict[str, bytes]]:
    """What everybody holds of records that last, and what brokers retain of them."""
    held = []
    for each in run.world.devices:
        assert each.core is not None
        mine = [(r.topic.below_root(), r.envelope) for r in each.core.records if isinstance(r.topic, TaskTopic)]
        assert len({topic for topic, _ in mine}) == len(mine)
        held.append(dict(sorted(mine)))
    for hub in run.world.post.hubs:
        retained = [each for each in hub.broker._retained.matching("peer/#") if "/task/" in each.topic]
        held.append(dict(sorted((each.topic, bytes(each.payload)) for each in retained)))
    return held


ALL = list(range(9))


@pytest.mark.parametrize("changes", [RING, BRIDGED], ids=["gateways", "bridges"])
def test_a_record_of_one_site_is_known_at_all_within_seconds(tmp_path: Path, changes: tuple[str, ...]) -> None:
    run = world_of(tmp_path, *changes)
    run.world.run(30.0)  # everybody is on, and what brokers retain has come
    author = run.world.devices[0]
    reviews(run, author)
    assert until(run, lambda: know(run, author) == ALL, 5.0) > 0.0
    assert see(run, author) == ALL[1:]


def test_records_spread_by_whoever_is_at_two_brokers_and_presence_does_not(tmp_path: Path) -> None:
    run = world_of(tmp_path, SITES, AT, "nodes.num=9")
    run.world.run(30.0)
    author = run.world.devices[0]
    reviews(run, author)
    until(run, lambda: know(run, author) == ALL, 5.0)
    assert see(run, author) == [1, 2, 8]  # at the same broker; nobody is a gateway


def test_brokers_that_nothing_joins_know_nothing_of_each_other(tmp_path: Path) -> None:
    run = world_of(tmp_path, *APART)
    run.world.run(30.0)
    author = run.world.devices[0]
    reviews(run, author)
    run.world.run(60.0)
    assert know(run, author) == [0, 1, 2]
    assert see(run, author) == [1, 2]


def test_messages_go_by_the_nearest_broker_and_each_is_taken_once(tmp_path: Path) -> None:
    run = world_of(tmp_path, *RING, "task.training.round_interval_s=1", "scenario.duration_s=60")
    merged: dict[int, set[str]] = {node: set() for node in ALL}
    for time_s in range(1, 61):
        run.world.run(float(time_s))
        for device, learner in run.world.population.learners(run.task):
            merged[device.index] |= learner.merging.shares.keys()
    assert all(len(peers) == 9 for peers in merged.values())  # something of everybody has come to everybody
    gateway = run.world.devices[2]
    assert gateway.core is not None
    assert gateway.core.brokers.route(run.world.devices[0].peer) == 0
    assert gateway.core.brokers.route(run.world.devices[3].peer) == 1
    assert gateway.forwarding.num_messages > 100
    for device in run.world.devices:  # what comes by two brokers is known by its number
        assert device.rejected.keys() <= {"replayed", "stale"}, device.rejected


def test_a_killed_broker_is_missed_by_those_alone_who_are_there_and_comes_back(tmp_path: Path) -> None:
    fault = "faults=[{ kind = 'broker', broker = 'b', at_s = 30, for_s = 40, empties = true }]"
    run = world_of(tmp_path, *RING, fault)
    run.world.run(29.0)
    devices = run.world.devices
    assert see(run, devices[3]) == [0, 1, 2, 4, 5, 6, 7, 8]
    before = {each.index: each.sealer.session for each in devices}
    run.world.run(32.0)
    assert [each.online for each in devices] == [True, True, True, False, False, True, True, True, True]
    assert [each.online for each in devices[2].attachments] == [True, False]
    assert [each.online for each in devices[5].attachments] == [False, True]
    reviews(run, devices[0])
    run.world.run(45.0)
    assert know(run, devices[0]) == [0, 1, 2, 5, 6, 7, 8]
    assert {2, 5} <= set(see(run, devices[0]))  # who are met by their other broker
    run.world.run(115.0)
    assert all(each.online for device in devices for each in device.attachments)
    assert know(run, devices[0]) == ALL
    for each in devices:
        assert see(run, each) == [node for node in ALL if node != each.index]
    after = {each.index: each.sealer.session for each in devices}
    assert {node for node in ALL if after[node] != before[node]} == {3, 4}  # the others never were away
    states = [each.topic for each in run.world.post.hubs[1].broker._retained.matching("peer/+/state")]
    assert len(states) == 9


@pytest.mark.parametrize("changes", [RING, BRIDGED], ids=["gateways", "bridges"])
def test_sites_that_were_cut_off_hold_the_same_once_they_are_joined_again(
    tmp_path: Path, changes: tuple[str, ...]
) -> None:
    cuts = "{ kind = 'cut', site = 'a', at_s = 30, for_s = 60 }, { kind = 'cut', site = 'b', at_s = 40, for_s = 60 }"
    run = world_of(tmp_path, *changes, f"faults=[{cuts}]")
    run.world.run(50.0)
    here, there, third = (run.world.devices[node] for node in (0, 3, 6))
    assert all(each.online for each in run.world.devices)  # everybody has the broker of its own site
    for k, author in enumerate((here, there, third)):
        reviews(run, author, f"{k:02x}" * 32)
        reviews(run, author, "cd" * 32, reason=f"of {author.index}")
    run.world.run(85.0)
    assert not set(know(run, here, "00" * 32)) & {3, 4, 6, 7}
    assert not set(know(run, there, "01" * 32)) & {0, 1, 6, 7}
    run.world.run(160.0)
    held = holdings(run)
    assert len(held[0]) == 3 + 6  # the task, its two reviews, and two of each
    assert all(each == held[0] for each in held)
    for each in run.world.devices:
        assert see(run, each) == [node for node in ALL if node != each.index]


def test_what_is_published_is_retained_once_at_each_bridged_broker_and_nothing_goes_round(tmp_path: Path) -> None:
    run = world_of(tmp_path, *BRIDGED)
    said: Counter[tuple[int, str]] = Counter()
    for hub in run.world.post.hubs:
        publish = hub.broker.publish

        def listen(
            client: str, topic: str, *rest: Any, publish: Any = publish, number: int = hub.number
        ) -> list[Delivery]:
            if topic.endswith(f"{TASK}/review"):
                said[number, client] += 1
            return cast(list[Delivery], publish(client, topic, *rest))

        hub.broker.publish = listen  # type: ignore[method-assign,assignment]
    run.world.run(30.0)
    author = run.world.devices[0]
    reviews(run, author)
    run.world.run(60.0)
    assert said == {(0, author.peer): 1, (1, "bridge 0"): 1, (2, "bridge 1"): 1}
    topic = TaskTopic(author.peer, TASK, "review").below_root()
    assert all(hub.broker._retained.get(topic) for hub in run.world.post.hubs)


def test_a_bridge_brings_what_was_said_while_a_broker_was_away(tmp_path: Path) -> None:
    fault = "faults=[{ kind = 'broker', broker = 'b', at_s = 20, for_s = 20 }]"
    run = world_of(tmp_path, *BRIDGED, fault)
    run.world.run(25.0)
    author = run.world.devices[0]
    reviews(run, author)
    run.world.run(39.0)
    assert know(run, author) == [0, 1, 2]
    run.world.run(80.0)
    assert know(run, author) == ALL
    assert see(run, author) == ALL[1:]


def test_a_broker_with_a_latency_of_its_own_is_passed_over_where_another_is_as_near(tmp_path: Path) -> None:
    slow = "broker=[{ name = 'a', latency_s = 0.5 }, { name = 'b', latency_s = 0.01 }]"
    run = world_of(tmp_path, slow, "nodes.num=3", "nodes.brokers=[['a', 'b'], ['a', 'b'], 'a']")
    run.world.run(30.0)
    core, others = run.world.devices[0].core, run.world.devices[1:]
    assert core is not None
    assert [core.brokers.route(each.peer) for each in others] == [1, 0]


def test_several_brokers_repeat_to_the_bit_and_go_on_after_a_break(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = "{ kind = 'cut', site = 'a', at_s = 30, for_s = 9 }"
    kill = "{ kind = 'broker', broker = 'c', at_s = 35, for_s = 9 }"
    changes = (
        *RING,
        f"faults=[{cut}, {kill}]",
        "scenario.duration_s=90",
        "network.up_bps=1_000_000",
        "network.jitter_s=0.01",
        "network.up_loss=0.01",
    )
    prepared = prepared_of(tmp_path, PROTOCOL, *changes)
    whole = run_seed(prepared, 3)
    looks = iter([False] * 3 + [True] + [False] * 10**6)
    monkeypatch.setattr("grapevine_lab.simulator.run.LOOK_EVERY_S", 0.0)
    with pytest.raises(KeyboardInterrupt):
        run_seed(prepared, 3, keep=tmp_path / "kept", stopping=lambda: next(looks))
    monkeypatch.undo()
    again = run_seed(prepared, 3, keep=tmp_path / "kept", resume=True)
    assert again.num_events == whole.num_events
    assert again.measurements == whole.measurements


def test_learners_at_three_sites_reach_what_one_site_with_all_of_them_does(tmp_path: Path) -> None:
    size = ("nodes.num=9", "scenario.rounds=50")
    together, apart, joined = (
        outcome_of(tmp_path, LEARNING, *size, *changes) for changes in ((), (SITES,), (SITES, AT, "nodes.gateways=3"))
    )
    medians = []
    for outcome in (together, apart, joined):
        readings = outcome.measurements.readings
        final = (readings.column("round") == 50) & (readings.column("model") == 2)
        medians.append(float(np.median(readings.column("metric")[final])))
    assert medians[2] > medians[0] - 0.02
    assert medians[1] < medians[0] - 0.1  # alone, a site has not seen all digits


def test_a_gateway_carries_for_those_alone_whom_it_listens_to(tmp_path: Path) -> None:
    run = world_of(tmp_path, *RING, "topology.kind=ring")
    run.world.run(60.0)
    retained = [each.topic for each in run.world.post.hubs[1].broker._retained.matching("peer/+/state")]
    known = [node for node in ALL if PeerTopic(run.world.devices[node].peer, "state").below_root() in retained]
    assert 1 in known  # beside the gateway at node 2 …
    assert 0 not in known  # … which is told of nobody else here


def test_a_server_is_met_at_every_broker(tmp_path: Path) -> None:
    outcome = outcome_of(
        tmp_path,
        PROTOCOL,
        *APART,
        "server.present=[[0, inf]]",
        "server.heartbeat_s=2",
        "scenario.rounds=0",
        "scenario.duration_s=30",
    )
    samples = outcome.measurements.samples
    late = samples.column("time_s") > 25.0
    assert set(samples.column("server")[late]) == {1}  # reachable
    assert len(set(samples.column("node")[late])) == 9
