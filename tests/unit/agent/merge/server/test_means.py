"""`fedavg` and `doubly-weighted`, on models small enough to check by hand."""

from __future__ import annotations

import numpy as np
import pytest
from tests.unit.agent.merge.server.pieces import Server, update

from grapevine_agent.merge.server.interface import MAX_NAMED, ClusterModel

BOTH = pytest.mark.parametrize("name", ["fedavg", "doubly-weighted"])


def test_fedavg_weighs_by_the_size_of_the_data_sets() -> None:
    model = Server("fedavg", [9, 9], [9]).model(
        update("k", [0, 4], buffers=[1], samples=100, age=3), update("l", [4, 8], buffers=[5], samples=300, age=2)
    )
    assert model.parameters.tolist() == [3, 7]
    assert model.buffers.tolist() == [4]
    assert (model.age, model.contributors, model.members, model.cluster) == (2, ("k", "l"), (), 0)


def test_doubly_weighted_weighs_by_age() -> None:
    model = Server("doubly-weighted", [9], [9]).model(
        update("k", [0], buffers=[1], age=10), update("l", [4], buffers=[5], age=30)
    )
    assert (model.parameters.tolist(), model.buffers.tolist(), model.age) == ([3], [4], 25)


def test_the_exponent_of_the_age_weight_is_the_tasks_choice() -> None:
    model = Server("doubly-weighted", constants={"p": 2.0}).model(update("k", [0], age=1), update("l", [10], age=3))
    assert model.parameters.tolist() == [9]


@BOTH
def test_where_all_weights_are_zero_all_members_weigh_the_same(name: str) -> None:
    assert Server(name).model(update("k", [0]), update("l", [4])).parameters.tolist() == [2]


@BOTH
def test_one_member_alone_is_the_model(name: str) -> None:
    model = Server(name, [7]).model(update("k", [4], samples=5, age=2))
    assert (model.parameters.tolist(), model.contributors) == ([4], ("k",))


def test_the_newest_update_of_a_member_speaks_for_it() -> None:
    model = Server("doubly-weighted").model(update("k", [100]), update("l", [0]), update("k", [4]))
    assert model.parameters.tolist() == [2]


def test_a_member_counts_once_in_a_round_however_often_it_speaks() -> None:
    server = Server("fedavg")
    model = server.model(*(update("k", [4], samples=1) for _ in range(9)), update("l", [0], samples=1))
    assert model.parameters.tolist() == [2]
    # Whose data set has grown counts for what it has grown by, and the next round begins anew.
    model = server.model(update("k", [4], samples=1), update("k", [8], samples=2), update("l", [0], samples=2))
    assert model.parameters.tolist() == [(4 + 8) / 4]


@BOTH
def test_the_share_of_one_member_is_bounded(name: str) -> None:
    liar = update("k", [1], age=10**9, samples=10**9)
    honest = [update(peer, [0], age=1, samples=1) for peer in "lm"]
    assert Server(name, max_share=0.5).model(liar, *honest).parameters.tolist() == pytest.approx([0.5])


@BOTH
def test_of_too_many_members_those_heard_last_are_named(name: str) -> None:
    crowd = [update(f"{number:04}", [0]) for number in range(MAX_NAMED)]
    model = Server(name).model(*crowd, update("0000", [0]), update("z", [0]))
    assert len(model.contributors) == MAX_NAMED
    assert "0000" in model.contributors  # it had been heard again
    assert "0001" not in model.contributors


@BOTH
def test_many_members_have_their_mean(name: str) -> None:
    rng = np.random.default_rng(3)
    values, ages = rng.normal(size=6000), rng.integers(1, 100, 6000)
    ages[4096:] = 1  # nobody is named of those who were heard longest ago; what they said is in the round's sum
    members = [
        update(f"{k:04}", [value], age=int(age), samples=int(age))
        for k, (value, age) in enumerate(zip(values, ages, strict=True))
    ]
    model = Server(name, max_share=0.5).model(*members[:4096])
    assert model.parameters[0] == pytest.approx(np.average(values[:4096], weights=ages[:4096]), abs=1e-5)
    if name == "fedavg":
        model = Server(name, max_share=0.5).model(*members)
        assert model.parameters[0] == pytest.approx(np.average(values, weights=ages), abs=1e-5)


@BOTH
@pytest.mark.parametrize("largest", [1, 10**7, 2**53])
def test_weights_of_any_size_give_the_mean(name: str, largest: int) -> None:
    weights = [1, largest, 3, largest, 2]
    values = [1e30, -1e30, 3e29, 2e29, 5e28]
    crowd = [
        update(peer, [value], age=weight, samples=weight)
        for peer, value, weight in zip("klmno", values, weights, strict=True)
    ]
    expected = np.average(values, weights=weights)
    assert Server(name).model(*crowd).parameters[0] == pytest.approx(expected, abs=1e24)


@BOTH
def test_a_restart_needs_nothing_of_the_strategy(name: str) -> None:
    server = Server(name)
    server.hear(update("k", [1]))
    state = server.strategy.state()
    assert (dict(state.vectors), dict(state.counters)) == ({}, {})
    started_again = Server(name)
    started_again.restore(state)
    assert started_again.aggregate() == []
    assert started_again.model(update("k", [1])).parameters.tolist() == [1]


def test_fedavg_takes_who_was_heard_in_the_round_and_no_other() -> None:
    server = Server("fedavg")
    server.model(update("k", [0], age=5), update("l", [4], age=1))
    second = server.model(update("l", [8], age=2))
    assert (second.parameters.tolist(), second.contributors) == ([8], ("l",))
    assert second.age == 2  # it is the model of `l` alone


def test_doubly_weighted_keeps_who_was_not_heard_again_until_it_is_forgotten() -> None:
    server = Server("doubly-weighted", forget_s=10.0)
    server.model(update("k", [0], heard_s=0), update("l", [4], heard_s=0))
    second = server.model(update("l", [8], heard_s=9), now_s=10)
    assert (second.parameters.tolist(), second.contributors) == ([4], ("k", "l"))
    third = server.model(update("l", [8], heard_s=11), now_s=11)
    assert (third.parameters.tolist(), third.contributors) == ([8], ("l",))


def rounds_of_a_crowd(server: Server, periods: dict[str, float], until_s: float) -> ClusterModel:
    """Members that speak once in so many seconds each, their models being the time; a model a second."""
    said: list[tuple[float, str]] = []
    for number, (peer, period_s) in enumerate(periods.items()):
        phase_s = period_s * ((0.618 * number) % 1)
        said += [(phase_s + k * period_s, peer) for k in range(int((until_s - phase_s) / period_s) + 1)]
    model: ClusterModel | None = None
    next_s = 1.0
    for time_s, peer in sorted(said):
        while time_s > next_s:
            model = next(iter(server.aggregate(now_s=next_s)), model)
            next_s += 1.0
        server.hear(update(peer, [time_s], age=1, heard_s=time_s, every_s=periods[peer]))
    assert model is not None
    return model


@pytest.mark.parametrize("slow", [0, 10])
def test_doubly_weighted_is_near_the_mean_of_each_members_newest_model(slow: int) -> None:
    periods = {f"{k:02}": 3.0 + 0.01 * k for k in range(20)} | {f"s{k}": 12.0 + 0.1 * k for k in range(slow)}
    server = Server("doubly-weighted", forget_s=40.0, round_s=3.0, max_share=0.5)
    model = rounds_of_a_crowd(server, periods, until_s=200.5)
    assert len(model.contributors) == len(periods)
    newest = []
    for number, period_s in enumerate(periods.values()):
        phase_s = period_s * ((0.618 * number) % 1)
        newest.append(phase_s + period_s * int((200 - phase_s) / period_s))
    assert model.parameters[0] == pytest.approx(np.mean(newest), abs=0.35)  # of models 3 to 12 s apart


def test_who_speaks_ever_more_often_weighs_hardly_more() -> None:
    periods = {f"{k:02}": 3.0 for k in range(20)}
    shares = {}
    for name, period_s in (("honest", 3.0), ("pushing", 0.01)):
        server = Server("doubly-weighted", forget_s=40.0, round_s=3.0, max_share=0.5)
        said = [(0.15 * k + 3.0 * turn, peer, 0.0) for k, peer in enumerate(periods) for turn in range(20)]
        said += [(period_s * k, "x", 1.0) for k in range(int(59 / period_s) + 1)]
        for time_s, peer, value in sorted(said):
            server.hear(update(peer, [value], age=1, heard_s=time_s))
        shares[name] = float(server.model(now_s=60.0).parameters[0])
    assert shares["honest"] == pytest.approx(1 / 21, rel=0.5)
    assert shares["pushing"] < 2.5 / 21


def test_of_a_crowd_that_comes_and_goes_nothing_is_left() -> None:
    server = Server("doubly-weighted", forget_s=10.0, round_s=3.0)
    for turn in range(50):
        now_s = 20.0 * turn
        server.model(*(update(f"{turn}-{k}", [turn], heard_s=now_s) for k in range(5)), now_s=now_s)
        model = server.model(update("k", [turn], heard_s=now_s + 1), now_s=now_s + 1)
        assert model.parameters[0] == pytest.approx(turn)
        assert len(model.contributors) == 6


def test_doubly_weighted_gives_nothing_while_members_only_fade() -> None:
    server = Server("doubly-weighted", forget_s=10.0)
    server.model(update("k", [0], heard_s=0), update("l", [4], heard_s=5))
    assert server.aggregate(now_s=12) == []
    assert server.aggregate(now_s=100) == []
