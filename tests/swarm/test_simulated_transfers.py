"""Brokers with a packet limit in a simulation: what is too large goes in chunks, by the agent's own transfers."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from tests.swarm.simulations import LEARNING, PROTOCOL, outcome_of, prepared_of
from tests.swarm.test_simulated_runs import simulate

from grapevine_agent.core import effects as fx
from grapevine_lab.simulator import events as ev
from grapevine_lab.simulator.broker_sessions import Delivery
from grapevine_lab.simulator.experiment import Prepared, Run, begin, prepare
from grapevine_lab.simulator.packets import packet_of
from grapevine_lab.simulator.run import Outcome, run_seed
from grapevine_lab.simulator.scenario import read_scenario
from grapevine_lab.simulator.tally import Tally
from grapevine_proto.codec import open_envelope
from grapevine_proto.errors import ConfigError
from grapevine_proto.topics import parse_below_root, parse_chunk_below_root

LIMIT = 16_384  # the model of the digits takes 19 kB
HUB = f"broker=[{{ name = 'hub', packet_limit_bytes = {LIMIT} }}]"
QUIET_HUB = f"broker=[{{ name = 'hub', packet_limit_bytes = {LIMIT}, packet_limit_announced = false }}]"
SLOW = ("scenario.rounds=0", "scenario.duration_s=60", "task.training.round_interval_s=2")

WIDE = """
from torch import nn


def build() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, {hidden}), nn.ReLU(), nn.Linear({hidden}, 10))
"""
LARGE = """
[scenario]
duration_s = 120

[task]
path = "wide"

[task.training]
round_interval_s = 60
steps_per_round = 1

[data]
name = "digits"

[nodes]
num = 2
trainer = "none"
heartbeat_s = 5

[[broker]]
name = "hub"
packet_limit_bytes = 131_072
"""
LARGE_CHUNKS = 41


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scenario with a model of 4.9 MB."""
    from grapevine_tasks.catalogue import catalogue_task

    folder = tmp_path_factory.mktemp("wide")
    (folder / "wide").mkdir()
    (folder / "wide" / "model.py").write_text(WIDE.format(hidden=16_300))
    (folder / "wide" / "task.toml").write_text((catalogue_task("digits") / "task.toml").read_text())
    (folder / "scenario.toml").write_text(LARGE)
    return folder / "scenario.toml"


@pytest.fixture(scope="module")
def large(wide: Path) -> Prepared:
    return prepare(read_scenario(wide))


def changed(prepared: Prepared, path: Path, *changes: str) -> Prepared:
    """The same task, with other surroundings."""
    from dataclasses import replace

    return replace(prepared, scenario=read_scenario(path, changes=changes))


def overheard(run: Run) -> list[tuple[float, int, str, str, bytes]]:
    """Fill in what reaches brokers: when, at which, by whom, on which topic, and what."""
    heard: list[tuple[float, int, str, str, bytes]] = []
    for hub in run.world.post.hubs:
        publish = hub.broker.publish

        def listen(
            client: str, topic: str, payload: bytes, *rest: Any, publish: Any = publish, number: int = hub.number
        ) -> list[Delivery]:
            heard.append((run.world.clock.now_s, number, client, topic, payload))
            return cast(list[Delivery], publish(client, topic, payload, *rest))

        hub.broker.publish = listen  # type: ignore[method-assign,assignment]
    return heard


def tally_of(run: Run) -> Tally:
    return sum((device.transfers for device in run.world.devices), Tally())


def merged_by(run: Run, until_s: float) -> dict[int, set[int]]:
    """Whose models each node has merged until then."""
    merged: dict[int, set[int]] = defaultdict(set)
    index_of = run.world.population.index_of
    for time_s in range(int(run.world.clock.now_s) + 1, int(until_s) + 1):
        run.world.run(float(time_s))
        for device, learner in run.world.population.learners(run.task):
            merged[device.index] |= {index_of(peer) for peer in learner.merging.shares} - {device.index}
    return merged


@pytest.mark.parametrize("hub", [HUB, QUIET_HUB], ids=["announced", "learnt"])
def test_models_above_the_limit_arrive_and_nothing_above_it_passes(tmp_path: Path, hub: str) -> None:
    run = begin(prepared_of(tmp_path, PROTOCOL, hub, *SLOW), 0)
    heard, arrived = overheard(run), run.world.post.arrive
    sizes = []

    def arrive(event: ev.Arrive) -> bool:
        sizes.append(len(event.delivery.payload))
        return arrived(event)

    run.world.post.arrive = arrive  # type: ignore[method-assign]
    merged = merged_by(run, 60.0)
    assert all(merged[node] == set(range(8)) - {node} for node in range(8))
    found = tally_of(run)
    assert found.made > 200
    assert found.bytes_given == pytest.approx(found.made * 4 * 4_810, rel=0.05)
    assert max(sizes) < LIMIT
    limits = {device.attachments[0].max_packet_bytes(60.0) for device in run.world.devices}
    if hub == HUB:
        assert limits == {LIMIT}
        assert max(packet_of(topic, payload) for _, _, _, topic, payload in heard) <= LIMIT
        assert found.given_up == 0
    else:
        assert all(limit <= LIMIT for limit in limits)  # each of them has learnt it
        assert all(device.online for device in run.world.devices)
        late = [packet_of(topic, payload) for time_s, _, _, topic, payload in heard if time_s > 30.0]
        assert max(late) <= LIMIT


def test_without_a_limit_everything_goes_whole(tmp_path: Path) -> None:
    run = begin(prepared_of(tmp_path, PROTOCOL, "broker=[{ name = 'hub' }]", *SLOW), 0)
    heard = overheard(run)
    run.world.run(30.0)
    assert run.world.carrying is None
    assert not any(parse_chunk_below_root(topic) for _, _, _, topic, _ in heard)
    assert max(len(payload) for _, _, _, _, payload in heard) > 4 * 4_810


def test_what_is_learned_in_chunks_is_what_is_learned_whole(tmp_path: Path) -> None:
    whole, chunks = (outcome_of(tmp_path, LEARNING, "scenario.rounds=30", *more) for more in ((), (HUB,)))
    medians = []
    for outcome in (whole, chunks):
        readings = outcome.measurements.readings
        final = (readings.column("round") == 30) & (readings.column("model") == 2)
        medians.append(float(np.median(readings.column("metric")[final])))
    assert medians[1] == pytest.approx(medians[0], abs=0.04)
    assert not whole.transfers
    assert chunks.transfers["made"] > 100


def _fetch(run: Run) -> Iterator[float]:
    """The first transfer of a run, step by step: how much of it has come."""
    run.world.run(1.0)
    while True:
        run.world.step()
        for device in run.world.devices:
            if device.carrier is not None and (lines := device.carrier.fetching.lines()):
                missing, chunks = lines[0]["missing"], lines[0]["chunks"]
                assert isinstance(missing, int)
                assert isinstance(chunks, int)
                yield 1.0 - missing / chunks


@pytest.mark.parametrize("what", ["receiver", "sender", "broker"])
def test_a_transfer_that_is_cut_goes_on_where_it_was(large: Prepared, wide: Path, what: str) -> None:
    run = begin(changed(large, wide, "network.up_bps=10_000_000", "network.down_bps=10_000_000"), 0)
    whole: list[str] = []
    for device in run.world.devices:
        assert device.settings.role == "member"
    for share in _fetch(run):
        if share > 0.5:
            break
    getting = next(d for d in run.world.devices if d.carrier is not None and len(d.carrier.fetching))
    assert getting.core is not None
    fetched = getting.core.fetched

    def hear(received: Any, now: Any) -> list[fx.Effect]:
        whole.append(received.message.sender)
        return fetched(received, now)

    getting.core.fetched = hear  # type: ignore[method-assign]
    before = getting.carrier.fetching.num_bytes  # type: ignore[union-attr]
    assert before > 2_000_000
    post, now_s = run.world.post, run.world.clock.now_s
    if what == "broker":
        post.crash(empties=False)
        post.restart()
    cut = [getting.index] if what == "receiver" else [1 - getting.index] if what == "sender" else [0, 1]
    for node in cut:
        run.world._happen(ev.Drop(node))
        run.world.clock.at(now_s + 3.0, ev.Join(node))
    run.world.run(now_s + 40.0)
    assert whole
    found = tally_of(run)
    assert found.made >= 1
    assert found.resumed >= 1
    assert found.given_up == 0
    assert 0.0 < found.share_again < 0.1
    assert getting.carrier.fetching.num_bytes == LARGE_CHUNKS_BYTES  # type: ignore[union-attr]


LARGE_CHUNKS_BYTES = 4 * (64 * 16_300 + 16_300 + 16_300 * 10 + 10)


def test_what_is_short_goes_before_chunks(large: Prepared, wide: Path) -> None:
    run = begin(changed(large, wide, "network.up_bps=1_000_000", "network.down_bps=1_000_000"), 0)
    heard = overheard(run)
    run.world.run(90.0)
    chunks = [(time_s, len(payload)) for time_s, _, _, topic, payload in heard if parse_chunk_below_root(topic)]
    assert len(chunks) > 60
    late_s = []
    for time_s, _, _, topic, payload in heard:
        if topic.endswith("/heartbeat"):
            made_ms = open_envelope(payload, parse_below_root(topic), check=lambda *_: None).message.created_at_ms
            late_s.append(time_s - (made_ms - run.world.clock.moment().wall_ms) / 1000 - run.world.clock.now_s)
    assert len(late_s) > 20
    assert max(late_s) < 2 * 8 * 120_300 / 1_000_000  # behind one chunk that has begun to leave, or two


def test_gateways_carry_chunks_where_all_brokers_are_narrow(tmp_path: Path) -> None:
    names = ("a", "b", "c")
    brokers = ", ".join(f"{{ name = '{name}', packet_limit_bytes = {LIMIT} }}" for name in names)
    at = "nodes.brokers={ a = 2, 'a+b' = 1, b = 2, 'b+c' = 1, c = 2, 'c+a' = 1 }"
    run = begin(prepared_of(tmp_path, PROTOCOL, f"broker=[{brokers}]", at, "nodes.num=9", "nodes.gateways=3", *SLOW), 0)
    merged = merged_by(run, 60.0)
    assert all(len(peers) == 8 for peers in merged.values())
    gateway = run.world.devices[2]
    assert gateway.forwarding.num_bytes > 100_000
    assert not any(device.rejected["too-large"] for device in run.world.devices)


def test_what_a_gateway_is_to_carry_to_a_narrow_broker_goes_in_chunks_and_the_rest_whole(tmp_path: Path) -> None:
    brokers = f"broker=[{{ name = 'a' }}, {{ name = 'b', packet_limit_bytes = {LIMIT} }}]"
    at = "nodes.brokers={ a = 3, 'a+b' = 1, b = 3 }"
    run = begin(prepared_of(tmp_path, PROTOCOL, brokers, at, "nodes.num=7", "nodes.gateways=1", *SLOW), 0)
    run.world.run(10.0)  # until everybody has heard what the gateway carries
    before = run.world.devices[3].rejected["too-large"]
    heard = overheard(run)
    merged = merged_by(run, 60.0)
    assert run.world.devices[3].rejected["too-large"] == before
    assert all(merged[node] == set(range(7)) - {node} for node in range(7))
    assert max(packet_of(topic, payload) for _, number, _, topic, payload in heard if number == 1) <= LIMIT
    assert max(packet_of(topic, payload) for _, number, _, topic, payload in heard if number == 0) > LIMIT


def test_a_bridge_does_not_carry_what_the_other_broker_has_no_packet_for(tmp_path: Path) -> None:
    brokers = f"broker=[{{ name = 'a' }}, {{ name = 'b', packet_limit_bytes = {LIMIT} }}]"
    run = begin(prepared_of(tmp_path, PROTOCOL, brokers, "bridge=[{ owner = 'a', to = 'b' }]", *SLOW), 0)
    heard = overheard(run)
    merged = merged_by(run, 30.0)
    assert run.world.post.bridges.all[0].is_up
    assert {number for _, number, client, _, _ in heard if client == "bridge 0"} == {0, 1}
    assert max(packet_of(topic, payload) for _, number, _, topic, payload in heard if number == 1) <= LIMIT
    assert all({4, 5, 6, 7} & merged[node] for node in range(8))


@pytest.mark.parametrize("hub", [HUB, QUIET_HUB], ids=["announced", "learnt"])
def test_transfers_repeat_to_the_bit_and_go_on_after_a_break(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: str
) -> None:
    kill = "faults=[{ kind = 'broker', at_s = 35, for_s = 9 }, { kind = 'off', nodes = [1], at_s = 50, for_s = 9 }]"
    changes = (hub, kill, "scenario.duration_s=90", "network.up_bps=1_000_000", "network.up_loss=0.01")
    prepared = prepared_of(tmp_path, PROTOCOL, *changes, "network.loss=0.02")
    whole, same = run_seed(prepared, 3), run_seed(prepared, 3)
    assert _told(same) == _told(whole)
    looks = iter([False] * 40 + [True] + [False] * 10**6)
    monkeypatch.setattr("grapevine_lab.simulator.run.LOOK_EVERY_S", 0.0)
    with pytest.raises(KeyboardInterrupt):
        run_seed(prepared, 3, keep=tmp_path / "kept", stopping=lambda: next(looks))
    monkeypatch.undo()
    again = run_seed(prepared, 3, keep=tmp_path / "kept", resume=True)
    assert _told(again) == _told(whole)
    assert again.measurements == whole.measurements == same.measurements
    assert whole.transfers["made"] > 50


def _told(outcome: Outcome) -> tuple[object, ...]:
    return outcome.num_events, outcome.transfers, outcome.rejected, outcome.num_delivered


def test_a_manifest_that_no_packet_holds_is_said_with_the_least_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grapevine_lab.simulator.experiment.BESIDE_A_MANIFEST_BYTES", 4_000)
    with pytest.raises(ConfigError, match=r"broker\.packet_limit_bytes = 4096 of 'hub': .* write \d+ or more"):
        prepared_of(tmp_path, PROTOCOL, HUB.replace(str(LIMIT), "4096"))


def test_the_summary_says_what_transfers_came_to(tmp_path: Path) -> None:
    prepared_of(tmp_path, PROTOCOL)
    out = tmp_path / "out"
    printed = simulate(tmp_path / "scenario.toml", out, "--set", HUB, "--set", "scenario.rounds=4")
    summary = json.loads((out / "summary.json").read_text())
    assert summary["transfers"]["made"] == summary["runs"][0]["transfers"]["made"] > 0
    assert summary["transfers"]["share_again"] == 0.0
    assert printed.returncode == 0, printed.stderr
    assert "transfers in chunks, all nodes" in printed.stdout
    assert "sent again, of bytes in chunks (%)" in printed.stdout
    page = (out / "summary.html").read_text()
    assert "transfers in chunks, all nodes" in page
    assert "grapevine simulate scenario.toml --set" in page
    again = tmp_path / "again"
    simulate(tmp_path / "scenario.toml", again, "--set", "scenario.rounds=4")
    assert json.loads((again / "summary.json").read_text())["transfers"] is None
    assert "packet_limit_bytes" not in (again / "scenario.json").read_text()
