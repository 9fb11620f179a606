"""What the fidelity check does around the two runs. The runs themselves: tests/e2e/test_fidelity.py."""

import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from tests.unit.lab.pages.reading import all_of, asks_for, parsed, text_of

from grapevine_agent.config.firmware import load_profile
from grapevine_agent.data.preparing import Samples
from grapevine_lab.fidelity.comparable import check_comparable
from grapevine_lab.fidelity.compare import Comparison, Medians, compare, gap_between
from grapevine_lab.fidelity.draw import plots_of_sides
from grapevine_lab.fidelity.measured import Pace, _is_said_again, from_first_round, measurements_of, until_round
from grapevine_lab.fidelity.onlooker import Notes, Passed
from grapevine_lab.fidelity.page import page_of
from grapevine_lab.fidelity.people import make_people
from grapevine_lab.fidelity.real import RealRun, _url_at
from grapevine_lab.fidelity.report import Found, print_report, write_report
from grapevine_lab.fidelity.shares import alone_at_most, write_share
from grapevine_lab.pages import html_of
from grapevine_lab.scenarios import find_scenario
from grapevine_lab.simulator.brokers import BrokerPlan
from grapevine_lab.simulator.experiment import Prepared, begin, prepare
from grapevine_lab.simulator.measurements import Measurements, Reading, Sample
from grapevine_lab.simulator.panels import draw_plots
from grapevine_lab.simulator.results import _fixed
from grapevine_lab.simulator.scenario import read_scenario
from grapevine_proto import topics
from grapevine_proto.bulk import pieces_of, write_piece
from grapevine_proto.codec import seal, seal_apart, with_hops
from grapevine_proto.errors import ConfigError
from grapevine_proto.manifest import DataContract
from grapevine_proto.messages import Body, Message, Metrics, ModelUpdate
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import ChunkTopic, InboxTopic, TaskTopic, Topic

SHIPPED = find_scenario("fidelity")
TASK = "ab" * 32
ROOT = "grapevine/fidelity-test"
WATTS = 4.0


@cache
def prepared() -> Prepared:
    return prepare(read_scenario(SHIPPED, quick=True))


def changed(*changes: str) -> Prepared:
    return replace(prepared(), scenario=read_scenario(SHIPPED, quick=True, changes=changes))


# --- which scenarios can be compared --------------------------------------------------------------


def test_the_scenario_that_comes_with_grapevine_can_be_compared() -> None:
    check_comparable(prepared())
    check_comparable(replace(prepared(), scenario=read_scenario(SHIPPED)))


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("scenario.mode=rounds", "scenario.mode"),
        ("nodes.num=21", "nodes.num"),
        ("nodes.num=1", "nodes.num"),
        ("nodes.trainer=none", "nodes.trainer"),
        ("nodes.speeds=lognormal", "nodes.speeds"),
        ("nodes.training_time=exponential", "nodes.training_time"),
        ("nodes.max_share=1.0", "nodes.max_share"),
        ("nodes.max_pending=1024", "nodes.max_pending"),
        ("topology.kind=ring", "topology.kind"),
        ("network.loss=0.1", "network.loss"),
        ("network.up_bps=1e6", "network.up_bps"),
        ("availability.kind=flaky", "availability.kind"),
        ("server.present=[[0, inf]]", "server.present"),
        ("measure.every_rounds=2", "measure.every_rounds"),
        ('measure.models=["merged"]', "measure.models"),
        ("measure.num_nodes=2", "measure.num_nodes"),
    ],
)
def test_what_real_agents_cannot_follow_is_refused_with_key_and_remedy(change: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"fidelity\.toml: {key} = .*(write|leave)"):
        check_comparable(changed(change))


def test_a_profile_without_power_figures_is_refused() -> None:
    with pytest.raises(ConfigError, match="raspberry-pi-4b"):
        check_comparable(replace(prepared(), profile=load_profile("generic")))


# --- shares and configurations --------------------------------------------------------------------


def contract(*, scale: float = 1.0, offset: float = 0.0) -> DataContract:
    told = prepared().built.draft.data
    return replace(told, scale=scale, offset=offset, minimum_samples=1)


def samples(x: object) -> Samples:
    array = np.asarray(x, np.float32).reshape(-1, 8, 8)
    y = np.arange(len(array)) % 10
    return Samples(x=array, y=y, x_test=array[::-1].copy(), y_test=y[::-1].copy())


def test_pixels_are_written_as_whole_numbers_that_become_the_same_samples(tmp_path: Path) -> None:
    pixels = np.arange(4 * 64, dtype=np.float32)
    scaled = (pixels - np.float32(128.0)) * np.float32(1 / 255)

    write_share(tmp_path / "share.npz", samples(scaled), contract(scale=1 / 255, offset=128.0))

    with np.load(tmp_path / "share.npz") as archive:
        assert archive["x"].ravel().tolist() == pixels.tolist()


def test_measured_numbers_are_written_as_they_are(tmp_path: Path) -> None:
    measured = np.random.default_rng(0).normal(size=4 * 64).astype(np.float32)

    write_share(tmp_path / "share.npz", samples(measured), contract())

    with np.load(tmp_path / "share.npz") as archive:
        assert np.array_equal(archive["x"].ravel(), measured)


def test_samples_that_no_file_could_give_back_are_refused(tmp_path: Path) -> None:
    between = np.linspace(1.0, 1.000_01, 4 * 64, dtype=np.float32)
    with pytest.raises(ConfigError, match="another data set"):
        write_share(tmp_path / "share.npz", samples(between), contract(scale=1.0, offset=1e6))


def test_alone_a_node_can_tell_only_what_it_has_seen() -> None:
    shares = begin(prepared(), 0).samples
    for share in shares:
        counts = np.bincount(share.y_test, minlength=10) / len(share.y_test)
        assert alone_at_most(share) == pytest.approx(counts[np.unique(share.y)].sum())
        assert 0.35 < alone_at_most(share) < 0.45


def test_agents_are_configured_as_the_simulated_nodes_are(tmp_path: Path) -> None:
    from grapevine_agent.config.agent_toml import load_config

    run = begin(prepared(), 0)
    settings = run.world.devices[0].settings

    people = make_people(
        tmp_path,
        urls=["mqtt://127.0.0.1:1", "mqtt://127.0.0.1:2"],
        places=((0,), (0, 1), (1,)),
        gateways=(1,),
        root=ROOT,
        settings=settings,
        shares=run.samples,
        contract=run.manifest.data,
    )

    assert len(people.agents) == 3
    for agent in people.agents:
        config = load_config(agent.config, {})
        assert config.agent.consent == "auto"
        assert config.agent.profile == settings.limits.profile == "raspberry-pi-4b"
        assert config.mqtt.heartbeat_s == settings.heartbeat_s == 10.0
        assert set(config.review.trusted) == {reviewer.peer_id for reviewer in people.reviewers}
        assert config.data[0].kind == "digits-8x8"
    told = [load_config(each.config, {}).mqtt for each in people.agents]
    assert [(len(each.brokers), each.connect, each.gateway) for each in told] == [
        (1, "first", False),
        (2, "all", True),
        (1, "first", False),
    ]
    assert told[2].brokers[0].endswith(":2")
    assert load_config(people.engineer.config, {}).mqtt.connect == "all"
    assert all(load_config(each.config, {}).agent.consent == "never" for each in (people.engineer, *people.reviewers))


# --- what an onlooker takes down ------------------------------------------------------------------


def said(key: SigningKey, topic: Topic, body: Body, *, sequence: int = 1) -> tuple[str, bytes]:
    message = Message(sender=key.peer_id, session=1, sequence=sequence, body=body, created_at_ms=12_500)
    return topics.build(ROOT, topic), seal(message, topic, key)


def metrics(round_: int, *, energy_j: float = 0.0, metric: float = 0.5) -> Metrics:
    return Metrics(
        task=TASK,
        round=round_,
        age=10 * round_,
        loss=1 - metric,
        metric=metric,
        num_evaluated=360,
        energy_j=energy_j,
        num_peers=1,
    )


def test_an_onlooker_notes_whose_models_are_in_an_update_and_forgets_the_model() -> None:
    key, notes = SigningKey.generate(), Notes(root=ROOT)
    update = ModelUpdate(
        task=TASK,
        window=1,
        version=4,
        age=40,
        experience=1280,
        samples=200,
        full=np.ones(8, np.float32),
        contributions={"c" * 20: 3},
    )

    name, payload = said(key, InboxTopic("b" * 20, key.peer_id), update)
    notes.take(name, payload)

    assert notes.passed == [
        Passed(
            t_s=12.5,
            sender=key.peer_id,
            receiver="b" * 20,
            leaf="inbox",
            num_bytes=len(payload),
            versions={"c" * 20: 3, key.peer_id: 4},
        )
    ]


def test_an_onlooker_counts_the_rounds_that_agents_have_behind_them_and_what_is_wrong() -> None:
    key, notes = SigningKey.generate(), Notes(root=ROOT)
    name, payload = said(key, TaskTopic(key.peer_id, TASK, "metrics"), metrics(6))

    notes.take(name, payload)
    notes.take(name, payload[:-1])
    notes.take("somewhere/else", payload)

    assert notes.rounds == {key.peer_id: 5}
    assert len(notes.passed) == 1
    assert notes.rejected.total() == 2
    assert notes.rejected["topic"] == 1


def test_an_onlooker_notes_which_broker_a_message_passed_and_how_far_it_had_come() -> None:
    key, notes = SigningKey.generate(), Notes(root=ROOT)
    name, payload = said(key, TaskTopic(key.peer_id, TASK, "metrics"), metrics(6))

    notes.take(name, payload)
    notes.take(name, bytes(with_hops(payload, 2)), 1)

    assert [(each.broker, each.hops) for each in notes.passed] == [(0, 0), (1, 2)]


def test_an_onlooker_counts_chunks_and_knows_what_is_in_an_update_when_the_last_one_has_passed() -> None:
    key, notes = SigningKey.generate(), Notes(root=ROOT)
    full = np.arange(5_000, dtype=np.float32)
    update = ModelUpdate(
        task=TASK, window=1, version=4, age=40, experience=9, samples=2, full=full, contributions={"c" * 20: 3}
    )
    topic = InboxTopic("b" * 20, key.peer_id)
    message = Message(sender=key.peer_id, session=1, sequence=1, body=update, created_at_ms=12_500)
    sealed = seal_apart(message, topic, key)
    chunks = ChunkTopic("b" * 20, key.peer_id, sealed.bulk.transfer)

    notes.take(topics.build(ROOT, topic), sealed.payload, 1)
    pieces = list(pieces_of(sealed.content, 0, len(sealed.content), index=False, at_most=15_000))
    for piece in pieces:
        notes.take(topics.build(ROOT, chunks), write_piece(piece), 1)
    notes.take(topics.build(ROOT, chunks), b"\xff", 1)

    assert [each.versions for each in notes.passed] == [{}, {}, {"c" * 20: 3, key.peer_id: 4}]
    assert [each.is_chunk for each in notes.passed] == [False, True, True]
    assert sum(each.num_bytes for each in notes.passed[1:]) > 20_000
    assert notes.rejected == {"malformed": 1}


def test_a_chunk_was_carried_where_its_sender_is_not() -> None:
    run = replace(real_run(), peers=(A, B), places=((0,), (0, 1)), gateways=(1,))
    here, there = (
        Passed(t_s=1.0, sender=A, receiver=B, leaf="inbox", num_bytes=9, broker=k, is_chunk=True) for k in (0, 1)
    )
    assert not _is_said_again(run, here)
    assert _is_said_again(run, there)


def test_a_broker_that_says_nothing_of_its_limit_is_spoken_to_in_the_older_version() -> None:
    loud, quiet = (BrokerPlan(packet_limit_bytes=16_384, packet_limit_announced=each) for each in (True, False))
    assert _url_at("mqtt://localhost:1", loud) == "mqtt://localhost:1"
    assert _url_at("mqtt://localhost:1", quiet) == "mqtt://localhost:1?version=3.1.1"


# --- what is made of it ---------------------------------------------------------------------------

A, B, C, ENGINEER = "a" * 20, "b" * 20, "c" * 20, "e" * 20
PACE = Pace(num_rounds=2, num_steps=10, watts_training=WATTS)


def spoke(t_s: float, sender: str, round_: int, energy_j: float) -> Passed:
    told = metrics(round_, energy_j=energy_j, metric=0.1 * round_)
    return Passed(t_s=t_s, sender=sender, leaf="metrics", num_bytes=100, metrics=told)


def sent(t_s: float, sender: str, receiver: str, **versions: int) -> Passed:
    named = {{"a": A, "b": B}[name]: version for name, version in versions.items()}
    return Passed(t_s=t_s, sender=sender, receiver=receiver, leaf="inbox", num_bytes=1000, versions=named)


def beat(t_s: float, sender: str) -> Passed:
    return Passed(t_s=t_s, sender=sender, leaf="heartbeat", num_bytes=50)


# A starts its trainer for 6 s, then trains for 0.1 s a round; B takes a second longer to start.
PASSED = (
    spoke(106.0, A, 1, WATTS * 6.0),
    sent(106.2, A, B, a=1),
    spoke(106.6, A, 2, WATTS * 6.1),
    spoke(107.0, B, 1, WATTS * 7.0),
    beat(107.05, ENGINEER),
    beat(107.06, B),
    spoke(107.1, A, 3, WATTS * 6.2),
    spoke(107.6, B, 2, WATTS * 7.1),
    sent(107.7, B, A, b=2, a=1),
    spoke(108.1, B, 3, WATTS * 7.2),
    spoke(108.2, A, 4, WATTS * 6.3),
)


def real_run(passed: Sequence[Passed] = PASSED, seed: int = 0) -> RealRun:
    return RealRun(
        seed=seed,
        peers=(A, B),
        passed=tuple(passed),
        rounds=(3, 2),
        rejected={},
        load_before=1.0,
        load_after=2.0,
        num_cores=2,
        wall_s=20.0,
        reached_limit=False,
    )


def of_node(measured: Measurements, node: int) -> list[Sample]:
    return [row for row in measured.samples if row.node == node]


def test_a_reading_is_of_the_moment_when_its_round_began_and_counts_the_rounds_behind_it() -> None:
    measured = measurements_of(real_run(), PACE)

    found = [(row.node, row.round, round(row.time_s, 6), round(row.metric, 6)) for row in measured.readings]
    assert found == [
        (0, 0, 100.0, 0.1),
        (0, 1, 106.5, 0.2),
        (0, 2, 107.0, 0.3),
        (1, 0, 100.0, 0.1),
        (1, 1, 107.5, 0.2),
        (1, 2, 108.0, 0.3),
    ]
    assert {row.model for row in measured.readings} == {"released"}
    assert [round(row.training_s, 6) for row in of_node(measured, 0)] == [0.0, 6.0, 6.1]


def test_staleness_is_how_far_a_node_is_behind_what_the_others_had_made() -> None:
    measured = measurements_of(real_run(), PACE)

    assert [row.staleness for row in of_node(measured, 0)] == [0, 0, 1]  # B has made one update, A heard of none
    assert [row.staleness for row in of_node(measured, 1)] == [0, 2, 2]  # A has made three, B heard of the first


def test_traffic_is_counted_until_a_round_begins_and_without_the_engineers() -> None:
    measured = measurements_of(real_run(), PACE)

    a, b = of_node(measured, 0), of_node(measured, 1)
    assert [(row.messages_sent, row.bytes_sent) for row in a] == [(0, 0), (2, 1100), (3, 1200)]
    assert [(row.messages_received, row.bytes_received) for row in a] == [(0, 0), (0, 0), (0, 0)]
    assert [(row.messages_received, row.bytes_received) for row in b] == [(0, 0), (1, 1000), (1, 1000)]
    assert [(row.messages_sent, row.bytes_sent) for row in b] == [(0, 0), (2, 150), (4, 1250)]


def test_at_several_brokers_a_message_counts_at_each_and_gateways_carry_in_turn() -> None:
    def at(broker: int, passed: Passed, hops: int = 0) -> Passed:
        return replace(passed, broker=broker, hops=hops)

    toward = sent(106.2, A, B, a=1)
    passed = (
        at(0, spoke(106.0, A, 1, WATTS * 6.0)),
        at(0, toward),  # a gateway takes it in
        at(1, toward, 1),  # and says it again
        at(1, spoke(107.0, B, 1, WATTS * 7.0)),
        at(1, beat(107.06, B)),
        at(0, beat(107.06, B), 1),
        *(at(broker, spoke(t_s, C, k, WATTS * k)) for k, t_s in ((1, 106.0), (9, 109.0)) for broker in (0, 1)),
        at(0, spoke(109.0, A, 2, WATTS * 6.1)),
        at(1, spoke(109.0, B, 2, WATTS * 7.1)),
    )
    run = replace(real_run(passed), peers=(A, B, C), rounds=(1, 1, 8), places=((0,), (1,), (0, 1)), gateways=(2,))
    measured = measurements_of(run, replace(PACE, num_rounds=9))

    a, b, c = (of_node(measured, node)[-1] for node in range(3))
    assert [(row.messages_sent, row.messages_received) for row in (a, b)] == [(2, 1), (2, 1)]
    assert c.messages_sent == 2 + 2  # what it says itself, at both; and what it has carried
    assert c.messages_received == 2 + 1  # the heartbeat at both brokers, and what it took in
    assert len(of_node(measured, 2)) == 2  # what is said at two brokers is one round


def test_what_a_bridge_has_said_again_was_sent_once_and_received_where_it_came_to() -> None:
    said = [spoke(106.0, A, 1, WATTS * 6.0), sent(106.2, A, B, a=1), spoke(109.0, A, 2, WATTS * 6.1)]
    passed = tuple(replace(each, broker=broker) for each in said for broker in (0, 1))
    own = (replace(spoke(107.0, B, 1, WATTS * 7.0), broker=1), replace(spoke(109.0, B, 2, WATTS * 7.1), broker=1))
    run = replace(real_run((*passed, *own)), peers=(A, B), rounds=(1, 1), places=((0,), (1,)))
    a, b = (of_node(measurements_of(run, PACE), node)[-1] for node in range(2))
    assert (a.messages_sent, b.messages_received) == (2, 1)


def test_a_round_whose_message_was_lost_is_missing_and_its_energy_is_shared_out() -> None:
    lost = [each for each in PASSED if not (each.sender == A and each.metrics and each.metrics.round == 2)]

    measured = measurements_of(real_run(lost), PACE)

    rows = [(row.round, round(row.time_s, 6)) for row in measured.readings if row.node == 0]
    assert rows == [(0, 100.0), (2, 107.0)]


def test_time_counts_from_when_the_first_node_has_a_round_behind_it() -> None:
    later = [replace(each, t_s=each.t_s + 1000) for each in PASSED]
    both = [measurements_of(real_run(), PACE), measurements_of(real_run(later, seed=1), PACE)]

    shifted = from_first_round(Measurements.merged(both))

    for seed in (0, 1):
        times = [round(row.time_s, 6) for row in shifted.of_seed(seed).readings]
        assert times == [-6.5, 0.0, 0.5, -6.5, 1.0, 1.5]
        assert [round(row.time_s, 6) for row in shifted.of_seed(seed).samples] == times


# --- comparing ------------------------------------------------------------------------------------


def side(*offsets: float, num_rounds: int = 6, nodes: int = 3) -> Measurements:
    """A seed for each offset: its metric rises to 0.9 plus the offset, one message of 1 kB a round."""
    measured = Measurements()
    for seed, offset in enumerate(offsets):
        for node in range(nodes):
            for round_ in range(num_rounds + 1):
                time_s = 0.5 * round_ + 0.1 * node
                metric = 0.9 * round_ / num_rounds + offset + 0.01 * (node - 1)
                measured.add(
                    Reading(
                        seed=seed,
                        time_s=time_s,
                        round=round_,
                        node=node,
                        model="released",
                        loss=1 - metric,
                        metric=metric,
                        num_evaluated=360,
                    )
                )
                measured.add(
                    Sample(
                        seed=seed,
                        time_s=time_s,
                        round=round_,
                        node=node,
                        online=True,
                        version=round_,
                        age=10 * round_,
                        staleness=1.0 + node,
                        staleness_bound=math.nan,
                        num_neighbours=nodes - 1,
                        server="unknown",
                        messages_sent=7 + round_,
                        bytes_sent=1000 * round_,
                        messages_received=2 * round_,
                        bytes_received=500 * round_,
                        joules=math.nan,
                        training_s=0.0 if not round_ else 6.0 + 0.01 * round_,
                    )
                )
    return measured


def compared(*simulated: Measurements, real: Measurements) -> Comparison:
    return compare(simulated, real, num_rounds=6, interval_s=0.5)


def test_a_gap_is_what_lies_between_the_medians() -> None:
    one = Medians(together=np.array([0.1, 0.5, 0.9]), seeds=np.array([[0.1, 0.4, 0.9], [0.1, 0.6, 0.9]]))
    other = Medians(together=np.array([0.2, 0.4, 0.9]), seeds=np.array([[0.2, 0.4, 0.9], [0.2, 0.4, 0.8]]))

    gap = gap_between(one, other, np.array([1.0, 2.0, 3.0]))

    assert gap.mean == pytest.approx(0.2 / 3)
    assert abs(gap.largest) == pytest.approx(0.1)
    assert (gap.end, gap.num_beyond, gap.num) == (0.0, 1, 3)  # 0.1 is beyond 0 to 0, and within 0.4 to 0.6


def test_a_side_is_no_distance_from_itself() -> None:
    found = compared(side(0.0, 0.01), side(0.0, 0.01), real=side(0.0, 0.01))

    for apart in (found.metric, found.metric_over_time, found.loss):
        for gap in (apart.same_seeds, *apart.other_seeds, *apart.simulated):
            assert (gap.mean, gap.largest, gap.end, gap.num_beyond) == (0.0, 0.0, 0.0, 0)


def test_a_side_that_learns_better_is_ahead_by_as_much_everywhere() -> None:
    found = compared(side(0.05), side(0.02), side(0.0), real=side(0.0))

    assert found.metric.same_seeds.mean == pytest.approx(0.05)
    assert found.metric.same_seeds.end == pytest.approx(0.05)
    assert found.loss.same_seeds.largest == pytest.approx(-0.05)
    assert found.metric_over_time.same_seeds.mean == pytest.approx(0.05)
    assert [gap.mean for gap in found.metric.other_seeds] == pytest.approx([0.02, 0.0])
    assert [gap.mean for gap in found.metric.simulated] == pytest.approx([0.03, 0.05, 0.02])
    assert found.metric.same_seeds.num_beyond == found.metric.same_seeds.num == 6


def test_figures_are_of_each_seed_and_without_what_comes_before_the_first_round() -> None:
    figures = {each.name: each for each in compared(side(0.0, 0.05), side(0.0, 0.05), real=side(0.0, 0.0)).figures}

    end = figures["released metric at the end, median over nodes"]
    assert end.simulated == pytest.approx((0.9, 0.95, 0.9, 0.95))
    assert end.real == pytest.approx((0.9, 0.9))
    assert figures["… the worst node"].real == pytest.approx((0.89, 0.89))
    assert figures["messages sent per node and round"].real == pytest.approx((1.0, 1.0))
    assert figures["sent per node and round"].real == pytest.approx((1.0, 1.0))
    assert figures["training in a round, median"].real == pytest.approx((10.0, 10.0))
    assert figures["time from round to round"].real == pytest.approx((0.5, 0.5))
    assert figures["nodes have their first round behind them within"].real == pytest.approx((0.2, 0.2))
    assert figures["staleness from round 3 on, mean"].real == pytest.approx((2.0, 2.0))


def test_sides_of_different_sizes_are_not_compared() -> None:
    with pytest.raises(ValueError, match=r"\[3, 6\] nodes"):
        compared(side(0.0), real=side(0.0, 0.0))


def test_only_released_models_of_the_rounds_that_both_sides_did_are_kept() -> None:
    measured = side(0.0)
    measured.add(replace(measured.readings[0], model="merged"))

    kept = until_round(measured, 4)

    assert {row.round for row in kept.readings} == {row.round for row in kept.samples} == set(range(5))
    assert {row.model for row in kept.readings} == {"released"}


# --- telling --------------------------------------------------------------------------------------


def found() -> Found:
    return Found(
        scenario="Two of a kind",
        metric="accuracy",
        num_nodes=3,
        num_rounds=6,
        seeds=(0,),
        interval_s=0.5,
        alone_at_most=0.4,
        comparison=compared(side(0.05), side(0.0), real=side(0.0)),
        runs=(replace(real_run(), rejected={"stale": 2}, reached_limit=True),),
    )


def test_the_report_is_json_with_everything_but_the_single_messages(tmp_path: Path) -> None:
    write_report(replace(found(), alone_at_most=math.nan), tmp_path / "fidelity.json")

    told = json.loads((tmp_path / "fidelity.json").read_text())
    assert told["comparison"]["metric"]["same_seeds"]["mean"] == pytest.approx(0.05)
    assert told["alone_at_most"] is None
    assert told["runs"][0]["rounds"] == [3, 2]
    assert told["runs"][0]["messages"] == len(PASSED)
    assert told["runs"][0]["rejected"] == {"stale": 2}


def test_the_tables_tell_each_comparison_and_how_far_the_agents_came() -> None:
    output = io.StringIO()

    print_report(found(), Console(file=output, highlight=False))

    text = output.getvalue()
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.count("|") > 2}
    assert "+0.050 (round" in rows["accuracy by rounds"]
    assert "0.050" in rows["loss by rounds"]
    assert "2 to 3 (given up)" in rows["seed 0"]
    assert "stale 2" in rows["seed 0"]
    assert "by itself no node could pass 40.0 %" in text
    assert "1 other simulated sets" in text
    assert "messages sent per node and round" in rows


def test_the_figures_name_both_sides(tmp_path: Path) -> None:
    plots = plots_of_sides(side(0.05, 0.0), side(0.0, 0.0), metric_name="accuracy")
    written = draw_plots(plots, tmp_path, title="Two of a kind")

    assert {path.name for path in written} == {
        f"{name}.{kind}" for name in ("metric", "metric-over-time", "more") for kind in ("png", "svg")
    }
    for path in tmp_path.glob("*.svg"):
        text = path.read_text()
        assert ">simulated<" in text
        assert ">real processes<" in text


def test_the_page_lays_both_sides_over_each_other_and_says_what_chance_does() -> None:
    scenario = read_scenario(SHIPPED, quick=True, changes=["nodes.num=3"])
    plots = plots_of_sides(side(0.05, 0.0), side(0.0, 0.0), metric_name="accuracy")

    html = html_of(page_of(found(), plots, scenario, versions={"grapevine": "0"}, date="2026-11-30"))

    root = parsed(html)
    assert asks_for(root) == []
    assert len(all_of(root, "figure")) == 5
    legends = [[text_of(item) for item in each] for each in all_of(root, "ul") if each.get("class") == "legend"]
    assert legends == [["simulated", "real processes"]] * 5
    figures = {text_of(each[0]): text_of(each[1]) for each in all_of(root, "div") if text_of(each) and len(each) == 2}
    assert figures["accuracy, simulated from real, mean over rounds"] == "5.0 points"
    assert figures["simulated from simulated, other seeds"] == "5.0 points"
    code = [text_of(each) for each in all_of(root, "code")]
    assert code[0] == "python -m grapevine_lab.fidelity fidelity --quick --set nodes.num=3 --seeds 1 --out fidelity"
    assert code[1].startswith("# ")


def test_what_a_page_tells_of_a_scenario_makes_no_other_one() -> None:
    scenario = replace(prepared().scenario, text="# the same, with a remark", options=("--set", "nodes.num=3"))

    assert _fixed(replace(prepared(), scenario=scenario)) == _fixed(prepared())
