"""Simulated crowds whose models stand still: what becomes of messages, connections and devices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.swarm.simulations import PROTOCOL, outcome_of, prepared_of

from grapevine_lab.simulator.experiment import Run, begin
from grapevine_lab.simulator.run import Outcome


def world_of(folder: Path, *changes: str) -> Run:
    return begin(prepared_of(folder, PROTOCOL, *changes), seed=0)


def last(outcome: Outcome, column: str) -> list[float]:
    """Each node's last value."""
    samples = outcome.measurements.samples
    nodes, values = samples.column("node"), samples.column(column)
    return [float(values[nodes == node][-1]) for node in range(int(nodes.max()) + 1)]


def test_rounds_are_sent_to_every_neighbour_and_only_to_them(tmp_path: Path) -> None:
    outcome = outcome_of(tmp_path, PROTOCOL, "scenario.mode=rounds", "topology.kind=ring")
    assert outcome.rounds == 12
    assert set(last(outcome, "num_neighbours")) == {2}
    run = world_of(tmp_path, "scenario.mode=rounds", "topology.kind=ring")
    run.world.run(8.2)
    for device, learner in run.world.population.learners(run.task):
        assert learner.num_sent == 2 * learner.model.version
        near = {run.world.devices[other].peer for other in run.graph.neighbors(device.index)}
        assert learner.merging.shares.keys() == {device.peer, *near}


def test_without_loss_everything_that_is_sent_is_received(tmp_path: Path) -> None:
    run = world_of(tmp_path, "scenario.mode=rounds", "measure.every_rounds=100")
    run.world.run(6.3)  # between two rounds: nothing is on its way
    sent = sum(learner.num_sent for _, learner in run.world.population.learners(run.task))
    received = sum(sum(learner.model.versions.values()) for _, learner in run.world.population.learners(run.task))
    assert sent == 8 * 7 * 13
    assert received == 8 * 7 * 12  # what the last round has brought is merged when the next one begins
    assert not any(device.rejected for device in run.world.devices)


def test_a_lossy_link_loses_updates_in_proportion_and_no_records(tmp_path: Path) -> None:
    run = world_of(tmp_path, "scenario.mode=rounds", "network.loss=0.3", "nodes.num=12")
    merged: list[float] = []
    for k in range(1, 25):
        run.world.run(0.5 * k + 0.3)
        merged += [len(learner.merging.shares) - 1 for _, learner in run.world.population.learners(run.task)][
            : 12 * (k > 2)
        ]
    assert all(learner.targets(run.world.clock.moment()) for _, learner in run.world.population.learners(run.task))
    assert np.mean(merged) == pytest.approx(0.7 * 11, rel=0.05)


def test_a_partition_keeps_groups_apart_until_it_is_healed(tmp_path: Path) -> None:
    cut = "network.cut=[{ from_s = 3.0, until_s = 6.0, groups = [[0, 1, 2, 3], [4, 5, 6, 7]] }]"
    run = world_of(tmp_path, "scenario.mode=rounds", cut)
    ours = {device.peer for device in run.world.devices[:4]}
    run.world.run(2.9)
    learner = run.world.devices[0].learner(run.task)
    assert learner is not None
    assert len(learner.merging.shares) == 8
    run.world.run(5.9)
    assert learner.merging.shares.keys() == ours
    run.world.run(7.5)
    assert len(learner.merging.shares) == 8


def test_bandwidth_delays_what_latency_alone_would_not(tmp_path: Path) -> None:
    # An update of 19 kB takes 0.3 s up a link of half a megabit, and there is one every half a second.
    quick = outcome_of(tmp_path, PROTOCOL, "topology.kind=ring")
    slow = outcome_of(tmp_path, PROTOCOL, "topology.kind=ring", "network.up_bps=520000", "network.down_bps=520000")
    assert np.mean(last(slow, "staleness")) > np.mean(last(quick, "staleness"))
    assert np.mean(last(slow, "joules")) > np.mean(last(quick, "joules"))  # the radio is on for longer


def test_a_node_that_is_cut_off_goes_on_and_one_that_is_switched_off_does_not(tmp_path: Path) -> None:
    flaky = ["availability.kind=flaky", "availability.mean_on_s=3", "availability.mean_off_s=1", "scenario.rounds=30"]
    network = outcome_of(tmp_path, PROTOCOL, *flaky, "availability.away=network")
    assert min(last(network, "version")) >= 29
    assert not all(network.measurements.samples.column("online"))
    minute = ["availability.mean_on_s=20", "availability.mean_off_s=4", "scenario.rounds=0", "scenario.duration_s=60"]
    power = outcome_of(tmp_path, PROTOCOL, *flaky, "availability.away=power", *minute)
    assert min(last(power, "version")) > 40
    assert np.mean(last(power, "version")) < 115
    whole = 60 * 2.7  # watts of an idle Raspberry Pi 4
    assert all(
        joules < whole + 3.7 * trained
        for joules, trained in zip(last(power, "joules"), last(power, "training_s"), strict=True)
    )


@pytest.mark.parametrize("mode", ["rounds", "free-running"])
@pytest.mark.parametrize("away", ["network", "power"])
def test_a_node_that_is_away_at_the_start_comes_later(tmp_path: Path, mode: str, away: str) -> None:
    day = ["availability.kind=diurnal", f"availability.away={away}", "availability.day_s=100", "availability.share=0.3"]
    slow = "task.training.round_interval_s=4.0"  # what they say meanwhile decides nothing about who is there
    run = world_of(tmp_path, "nodes.num=30", f"scenario.mode={mode}", slow, *day)
    run.world.run(5.0)
    assert 1 <= sum(device.online for device in run.world.devices) <= 15
    run.world.run(50.0)
    assert 1 <= sum(device.online for device in run.world.devices) <= 20


def test_a_device_that_comes_back_goes_on_from_its_disk(tmp_path: Path) -> None:
    from grapevine_lab.simulator.events import Boot, Off

    run = world_of(tmp_path)
    run.world.run(12.0)
    before = run.world.devices[3].learner(run.task)
    assert before is not None
    run.world.clock.at(12.0, Off(3))
    run.world.run(14.0)
    other = run.world.devices[0].learner(run.task)
    assert other is not None
    assert len(other.targets(run.world.clock.moment())) == 6  # its will was heard
    run.world.clock.at(14.0, Boot(3))
    run.world.run(14.2)
    again = run.world.devices[3].learner(run.task)
    assert again is not None
    assert before.model.version - 11 <= again.model.version <= before.model.version + 1  # saved every five seconds
    run.world.run(16.0)
    assert len(other.targets(run.world.clock.moment())) == 7


def test_real_signatures_make_no_difference_to_what_happens(tmp_path: Path) -> None:
    plain = outcome_of(tmp_path, PROTOCOL, "scenario.mode=rounds")
    signed = outcome_of(tmp_path, PROTOCOL, "scenario.mode=rounds", "network.signatures=true")
    assert last(plain, "messages_received") == last(signed, "messages_received")
    assert last(plain, "staleness") == last(signed, "staleness")


def test_latencies_between_sites_are_those_of_the_matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "net_latency"
    folder.mkdir()
    np.savez(folder / "wan_rtt_227.npz", latency_ms=np.array([[5.0, 200.0], [200.0, 5.0]], np.float32))
    monkeypatch.setenv("GRAPEVINE_DATA", str(tmp_path))
    run = world_of(tmp_path, "network.wan=true")
    network = run.world.network
    assert set(network.sites) == {0, 1}
    near, far = network.sites.index(network.sites[0], 1), network.sites.index(1 - network.sites[0])
    assert network.latency_s(0, near) == pytest.approx(0.005)
    assert network.latency_s(0, far) == pytest.approx(0.2)


def test_the_bound_that_agents_report_goes_by_the_updates_that_they_make(tmp_path: Path) -> None:
    def reported(*changes: str) -> float:
        samples = outcome_of(tmp_path, PROTOCOL, "nodes.training_time=fixed", *changes).measurements.samples
        last = samples.column("round") == samples.column("round").max()
        return float(np.median(samples.column("staleness_bound")[last]))

    interval_s = 0.5  # of the task; ten steps of 0.2 s take four times as long
    assert reported("nodes.step_s=0.2") == pytest.approx(reported("nodes.step_s=0.001") * interval_s / 2.0, rel=0.15)
