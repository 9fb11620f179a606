"""`fedavg` and `doubly-weighted`, on models small enough to check by hand."""

from __future__ import annotations

import pytest
from tests.unit.agent.merge.server.pieces import Server, update

from grapevine_agent.merge.server import MAX_MEMBERS

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


@BOTH
def test_the_newest_update_of_a_member_speaks_for_it(name: str) -> None:
    model = Server(name).model(update("k", [100]), update("l", [0]), update("k", [4]))
    assert model.parameters.tolist() == [2]


@BOTH
def test_the_share_of_one_member_is_bounded(name: str) -> None:
    liar = update("k", [1], age=10**9, samples=10**9)
    honest = [update(peer, [0], age=1, samples=1) for peer in "lm"]
    assert Server(name, max_share=0.5).model(liar, *honest).parameters.tolist() == pytest.approx([0.5])


@BOTH
def test_of_too_many_members_the_one_heard_longest_ago_goes(name: str) -> None:
    crowd = [update(f"{number:03}", [0]) for number in range(MAX_MEMBERS)]
    model = Server(name).model(*crowd, update("000", [0]), update("z", [0]))
    assert len(model.contributors) == MAX_MEMBERS
    assert "000" in model.contributors  # it had been heard again
    assert "001" not in model.contributors


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


def test_doubly_weighted_gives_nothing_while_members_only_fade() -> None:
    server = Server("doubly-weighted", forget_s=10.0)
    server.model(update("k", [0], heard_s=0), update("l", [4], heard_s=5))
    assert server.aggregate(now_s=12) == []
    assert server.aggregate(now_s=100) == []
