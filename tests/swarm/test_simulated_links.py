"""The simulated way up: a window of unacknowledged messages, and what becomes of one that is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.swarm.simulations import PROTOCOL, outcome_of, prepared_of

from grapevine_agent.net.outbox import MAX_UNDER_WAY
from grapevine_agent.net.unanswered import ANSWER_S
from grapevine_lab.simulator import events as ev
from grapevine_lab.simulator.device import Device
from grapevine_lab.simulator.experiment import Run, begin

TOPIC = "inbox/somebody/else"


def world_of(folder: Path, *changes: str) -> Run:
    run = begin(prepared_of(folder, PROTOCOL, "network.latency_s=0.1", *changes), seed=0)
    run.world.run(3.0)
    return run


def put(run: Run, device: Device, number: int, *, qos: int = 1, for_s: float = 15.0, size: int = 0) -> None:
    payload = b"%d" % number + bytes(size)
    deadline_s = run.world.clock.now_s + for_s
    device.outbox.enqueue(TOPIC, payload, deadline_s=deadline_s, qos=qos)
    run.world.post.drain(device)


def heard_of(run: Run) -> list[tuple[float, int]]:
    """Fill in what the broker hears on our topic from now on: when, and which number."""
    heard: list[tuple[float, int]] = []
    publish = run.world.post.broker.publish

    def listen(client: str, topic: str, payload: bytes, qos: int, retain: bool, now_s: float) -> object:
        if topic == TOPIC:
            heard.append((now_s, int(payload.rstrip(b"\0"))))
        return publish(client, topic, payload, qos, retain, now_s)

    run.world.post.broker.publish = listen  # type: ignore[method-assign,assignment]
    return heard


def quiet(run: Run) -> Device:
    """A device of which nothing is under way, and whose core says nothing more."""
    device = run.world.devices[0]
    for other in run.world.devices:
        other.tick_stamp += 1_000_000
    run.world.run(run.world.clock.now_s + 1.0)
    run.world.post.settle(device.attachments[0])
    assert len(device.outbox) == 0
    return device


def test_so_many_go_at_once_and_the_next_when_the_first_was_acknowledged(tmp_path: Path) -> None:
    run = world_of(tmp_path)
    device, heard = quiet(run), heard_of(run)
    begin_s = run.world.clock.now_s
    for number in range(MAX_UNDER_WAY * 2 + 1):
        put(run, device, number)
    put(run, device, 999, qos=0)
    run.world.run(begin_s + 1.0)
    times = np.array([time_s - begin_s for time_s, number in heard if number != 999])
    assert [number for _, number in heard if number != 999] == list(range(MAX_UNDER_WAY * 2 + 1))
    assert times == pytest.approx([0.0] * MAX_UNDER_WAY + [0.1] * MAX_UNDER_WAY + [0.2])
    assert (begin_s, 999) in heard  # it waits for no acknowledgement
    run.world.post.settle(device.attachments[0])
    assert len(device.outbox) == 0


def test_where_there_is_no_latency_nothing_waits(tmp_path: Path) -> None:
    run = world_of(tmp_path, "network.latency_s=0")
    device, heard = quiet(run), heard_of(run)
    for number in range(1_000):
        put(run, device, number)
    assert {time_s for time_s, _ in heard} == {run.world.clock.now_s}
    assert len(heard) == 1_000
    assert not device.attachments[0].acks


def test_what_is_lost_goes_again_over_a_new_connection_after_the_deadline(tmp_path: Path) -> None:
    run = world_of(tmp_path)
    device, heard = quiet(run), heard_of(run)
    begin_s, connection = run.world.clock.now_s, device.attachments[0].connection
    run.world.network.loses_up = lambda: True  # type: ignore[method-assign]
    put(run, device, 1, for_s=60.0)
    put(run, device, 2)  # of which nobody wants to know any more by then
    put(run, device, 3, qos=0)
    del run.world.network.loses_up
    put(run, device, 4, for_s=60.0)
    run.world.run(begin_s + ANSWER_S - 0.1)
    assert [number for _, number in heard] == [4]
    assert device.attachments[0].connection == connection
    run.world.run(begin_s + ANSWER_S + 0.1)
    assert not device.online
    run.world.run(begin_s + ANSWER_S + 1.5)
    assert device.online
    assert [number for _, number in heard] == [4, 1]
    assert begin_s + ANSWER_S + 0.5 < heard[-1][0] < begin_s + ANSWER_S + 1.1
    assert len(device.outbox._under_way) <= len(device.attachments[0].acks)


def test_what_was_not_acknowledged_when_the_connection_was_lost_goes_again(tmp_path: Path) -> None:
    run = world_of(tmp_path)
    device, heard = quiet(run), heard_of(run)
    put(run, device, 1)
    run.world.run(run.world.clock.now_s + 0.15)
    put(run, device, 2)
    run.world._happen(ev.Drop(0))
    run.world._happen(ev.Join(0))
    run.world.run(run.world.clock.now_s + 0.5)
    assert [number for _, number in heard] == [1, 2, 2]


def test_a_node_that_is_away_does_not_come_back_before_its_time(tmp_path: Path) -> None:
    run = world_of(tmp_path)
    device = quiet(run)
    run.world.network.loses_up = lambda: True  # type: ignore[method-assign]
    put(run, device, 1)
    del run.world.network.loses_up
    run.world.run(run.world.clock.now_s + ANSWER_S + 0.2)
    assert not device.online
    run.world._happen(ev.Drop(0))
    run.world.run(run.world.clock.now_s + 5.0)
    assert not device.online
    run.world._happen(ev.Join(0))
    assert device.online


def test_between_sites_a_round_trip_is_the_mean_way_to_the_others(tmp_path: Path) -> None:
    run = world_of(tmp_path)
    network = run.world.network
    assert network.round_trip_s(3) == 0.1
    network.latencies_s, network.sites = np.array([[0.0, 0.4], [0.2, 0.0]]), [0, 0, 1, 1]
    assert [network.round_trip_s(node) for node in range(4)] == pytest.approx([0.2, 0.2, 0.1, 0.1])


def test_losses_on_the_way_up_are_survived_and_repeat_with_the_seed(tmp_path: Path) -> None:
    changes = ("network.up_loss=0.03", "scenario.rounds=50", "task.training.round_interval_s=0.5", "nodes.num=4")
    lossy, again, plain = (
        outcome_of(tmp_path, PROTOCOL, *(changes if some else changes[1:])) for some in (True, True, False)
    )
    assert lossy.rounds == plain.rounds == 50
    columns = [each.measurements.samples.column("bytes_sent") for each in (lossy, again, plain)]
    assert np.array_equal(columns[0], columns[1])
    assert not np.array_equal(columns[0], columns[2])
    online = lossy.measurements.samples.column("online")
    assert 0.5 < online.mean() < 1.0  # somebody was on the way back now and then
    assert plain.measurements.samples.column("online").all()
