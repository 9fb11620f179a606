"""`cfl` and `flic`: who is put together with whom, and with which model they go on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.unit.agent.merge.server.pieces import Server, members, update

from grapevine_agent.merge.server import ServerState, ServerUpdate
from grapevine_agent.merge.server.cfl import bipartition
from grapevine_agent.merge.server.flic import alike
from grapevine_agent.merge.server.louvain import communities

NOW = {
    "cfl": {"settle_rounds": 0.0},
    "flic": {"cluster_round": 0.0, "gather_rounds": 0.0},
}  # divide at the first aggregation
BOTH = pytest.mark.parametrize("name", NOW)


def opposed(base: tuple[float, float] = (0, 0), length: float = 2, buffers: Sequence[float] = ()) -> list[ServerUpdate]:
    """Two pairs of members: `k` and `l` pull to the right, `x` and `y` to the left, each pair spread a little."""
    x, y = base
    return [
        update("k", [x + length, y + 0.5], base=base, buffers=buffers, samples=1),
        update("x", [x - length, y + 0.5], base=base, buffers=buffers, samples=1),
        update("l", [x + length, y - 0.5], base=base, buffers=buffers, samples=1),
        update("y", [x - length, y - 0.5], base=base, buffers=buffers, samples=1),
    ]


@BOTH
def test_before_a_division_it_is_federated_averaging_for_everybody(name: str) -> None:
    model = Server(name, [1, 1], [9]).model(
        update("k", [3, 1], base=[1, 1], buffers=[2], samples=1, age=4),
        update("l", [1, 9], base=[1, 1], buffers=[6], samples=3, age=5),
    )
    assert model.parameters.tolist() == [1 + 2 / 4, 1 + 3 * 8 / 4]
    assert model.buffers.tolist() == [5]
    assert (model.age, model.members, model.contributors, model.cluster) == (5, (), ("k", "l"), 0)


@BOTH
def test_a_delta_moves_the_model_once(name: str) -> None:
    server = Server(name)
    server.model(update("k", [2], base=[0]), update("l", [2], base=[0]))
    second = server.model(update("l", [5], base=[2]))
    assert (second.parameters.tolist(), second.contributors) == ([5], ("k", "l"))
    assert server.aggregate() == []


@BOTH
def test_a_delta_without_a_base_is_taken_from_the_version_that_was_merged(name: str) -> None:
    server = Server(name)
    for value in (1, 2, 3, 4, 5, 6):  # versions 1 to 6 are the models 1 to 6; 3 to 6 are held
        server.model(update("k", [value], base=[value - 1]))
    assert server.model(update("l", [6], base_version=5)).parameters.tolist() == [7]
    assert server.model(update("l", [7], base_version=1)).parameters.tolist() == [7 + 7 - 4]


@BOTH
def test_members_that_pull_apart_are_divided_and_go_on_from_one_model(name: str) -> None:
    models = Server(name, [0, 1], [5], constants=NOW[name]).aggregate(*opposed((0, 1)))
    assert members(models) == [("k", "l"), ("x", "y")]
    assert [model.parameters.tolist() for model in models] == [[2, 1], [-2, 1]]
    assert [model.cluster for model in models] == [0, 1]
    assert [model.contributors for model in models] == [("k", "l"), ("x", "y")]


@BOTH
def test_after_a_division_each_cluster_learns_from_its_own(name: str) -> None:
    server = Server(name, [0, 0], constants=NOW[name])
    server.aggregate(*opposed())
    right, *others = server.aggregate(update("k", [3, 0], base_version=1, samples=1))  # its model is [2, 0]
    assert (right.parameters.tolist(), right.cluster, others) == ([3, 0], 0, [])
    right, left = server.aggregate(update("y", [-2, 7], base_version=1), update("l", [3, 1], base=[3, 0]))
    assert right.parameters.tolist() == [3, 1]
    assert left.parameters.tolist() == [-2, 7]  # Δ = [0, 7] from its cluster's model of version 1, [−2, 0]


@BOTH
def test_a_newcomer_joins_those_it_is_like(name: str) -> None:
    server = Server(name, [0, 0], constants=NOW[name])
    server.aggregate(*opposed())
    (model,) = server.aggregate(update("z", [-9, 1], base=[0, 0], samples=1))
    assert (model.members, model.cluster) == (("x", "y", "z"), 1)
    # It stays, even if its next update is more like the others'.
    (model,) = server.aggregate(update("z", [9, 0], base=[0, 0], samples=1))
    assert "z" in model.members
    assert model.cluster == 1


@BOTH
def test_a_newcomer_that_has_changed_nothing_belongs_to_none(name: str) -> None:
    server = Server(name, [0, 0], constants=NOW[name])
    server.aggregate(*opposed())
    assert server.aggregate(update("z", [4, 4], base=[4, 4], samples=1)) == []
    (model,) = server.aggregate(update("z", [5, 4], base=[4, 4], samples=1))
    assert model.members == ("k", "l", "z")


@BOTH
def test_members_that_have_changed_nothing_take_no_part_in_a_division(name: str) -> None:
    still = update("a", [0, 0], base=[0, 0], samples=1)
    models = Server(name, [0, 0], constants=NOW[name]).aggregate(still, *opposed())
    assert members(models) == [("k", "l"), ("x", "y")]


@BOTH
@pytest.mark.parametrize("values", [[0.0, 0.0], [3.0, 4.0]])
def test_members_that_all_change_the_same_stay_together(name: str, values: list[float]) -> None:
    server = Server(name, [0, 0], constants=NOW[name])
    model = server.model(*(update(peer, values, base=[0, 0]) for peer in "klmn"))
    assert (model.parameters.tolist(), model.members) == (values, ())


@BOTH
def test_one_member_is_not_divided(name: str) -> None:
    server = Server(name, constants=NOW[name])
    assert server.model(update("k", [5], base=[0])).members == ()
    assert server.model(update("k", [0], base=[5])).members == ()


@BOTH
def test_the_number_of_clusters_is_bounded(name: str) -> None:
    model = Server(name, [0, 0], constants={"max_clusters": 1, **NOW[name]}).model(*opposed())
    assert (model.parameters.tolist(), model.members) == ([0, 0], ())


@BOTH
def test_who_is_in_which_cluster_does_not_depend_on_the_order_of_arrival(name: str) -> None:
    forward = Server(name, [0, 0], constants=NOW[name]).aggregate(*opposed())
    backward = Server(name, [0, 0], constants=NOW[name]).aggregate(*reversed(opposed()))
    assert members(forward) == members(backward)
    assert [model.parameters.tolist() for model in forward] == [model.parameters.tolist() for model in backward]


@BOTH
def test_clusters_survive_a_restart(name: str) -> None:
    server = Server(name, [0, 0], [1], constants=NOW[name])
    before = server.aggregate(*opposed(buffers=[3]))
    started_again = Server(name, [7, 7], [7], version=1, round=1, constants=NOW[name])
    started_again.restore(server.strategy.state())
    after = started_again.aggregate()
    assert members(after) == members(before)
    assert [model.parameters.tolist() for model in after] == [model.parameters.tolist() for model in before]
    assert [model.buffers.tolist() for model in after] == [model.buffers.tolist() for model in before]
    assert started_again.aggregate() == []
    (model,) = started_again.aggregate(update("x", [-3, 0], base=[-2, 0], buffers=[3]))
    assert (model.parameters.tolist(), model.members) == ([-3, 0], ("x", "y"))


@BOTH
def test_a_state_that_does_not_fit_is_passed_over(name: str) -> None:
    server = Server(name, [0, 0], constants=NOW[name])
    server.aggregate(*opposed())
    state = server.strategy.state()
    for vectors in (
        {name: np.zeros(3, np.float32) for name in state.vectors},
        {"cluster 1": np.zeros(2, np.float32), "cluster 1 buffers": np.empty(0, np.float32)},
        {"cluster": np.zeros(2, np.float32), "parameters": np.zeros(2, np.float32)},
    ):
        other = Server(name, [1, 1])
        other.restore(ServerState(vectors=vectors, counters=state.counters))
        assert other.model(update("k", [2, 1], base=[1, 1])).parameters.tolist() == [2, 1]


@BOTH
def test_members_that_were_forgotten_return_to_their_cluster(name: str) -> None:
    server = Server(name, [0, 0], forget_s=10.0, constants=NOW[name])
    server.aggregate(*opposed())
    (model,) = server.aggregate(update("k", [3, 0], base=[2, 0], heard_s=20), now_s=20)
    assert (model.contributors, model.members) == (("k",), ("k", "l"))
    (model,) = server.aggregate(update("y", [9, 9], base=[2, 0], heard_s=20), now_s=20)
    assert (model.contributors, model.members) == (("y",), ("x", "y"))


@BOTH
def test_members_that_were_not_heard_for_long_are_not_named_until_they_return(name: str) -> None:
    server = Server(name, [0, 0], forget_s=10.0, constants=NOW[name])
    server.aggregate(*opposed())
    for now_s, named in ((290, ("k", "l")), (310, ("k",)), (320, ("k",))):
        (model,) = server.aggregate(update("k", [3, 0], base=[2, 0], heard_s=now_s), now_s=now_s)
        assert model.members == named
    again = Server(name, [0, 0], forget_s=10.0, constants=NOW[name])
    again.restore(server.strategy.state())
    (model, _) = again.aggregate(update("k", [3, 0], base=[2, 0], heard_s=10_000), now_s=10_000)
    assert model.members == ("k", "l")  # it is not known since when
    (model,) = server.aggregate(update("l", [9, 9], base=[2, 0], heard_s=400), now_s=400)
    assert (model.members, model.cluster) == (("k", "l"), 0)  # it is where it was


def test_cfl_divides_only_a_model_that_has_settled_with_members_that_have_not() -> None:
    assert len(Server("cfl", [0, 0], constants=NOW["cfl"]).aggregate(*opposed())) == 2
    unsettled = update("m", [9, 0], base=[0, 0], samples=1)  # ‖mean Δ‖ = 9/5 ≥ ε₁
    assert len(Server("cfl", [0, 0], constants=NOW["cfl"]).aggregate(*opposed(), unsettled)) == 1
    at_rest = opposed(length=0.5)  # max ‖Δ‖ = 0.71 ≤ ε₂
    assert len(Server("cfl", [0, 0], constants=NOW["cfl"]).aggregate(*at_rest)) == 1
    assert len(Server("cfl", [0, 0], constants={"eps2": 0.7, **NOW["cfl"]}).aggregate(*at_rest)) == 2


def test_cfl_lets_a_cluster_settle_before_it_divides_it() -> None:
    server = Server("cfl", [0, 0], constants={"settle_rounds": 2})
    assert [len(server.aggregate(*opposed())) for _ in range(3)] == [1, 1, 2]


def test_cfl_divides_a_cluster_again() -> None:
    pulls = {"k": (4, 0), "l": (4, 0.1), "m": (-4, 0), "n": (-4, 0.1), "x": (0, 4), "y": (0.1, 4), "z": (0, -8)}
    server = Server("cfl", [0, 0], constants={"eps1": 3, "min_members": 2, **NOW["cfl"]})
    updates = [update(peer, pull, base=[0, 0], samples=1) for peer, pull in pulls.items()]
    for _ in range(4):
        models = server.aggregate(*updates)
    assert sorted(members(models)) == [("k", "l"), ("m", "n"), ("x", "y"), ("z",)]


def test_cfl_asks_for_enough_members() -> None:
    two = [update("k", [2], base=[0]), update("x", [-2], base=[0])]
    assert len(Server("cfl", constants=NOW["cfl"]).aggregate(*two)) == 1
    assert members(Server("cfl", constants={"min_members": 2, **NOW["cfl"]}).aggregate(*two)) == [("k",), ("x",)]


def test_cfl_asks_for_a_gap_if_gamma_says_so() -> None:
    # The most similar pair across is (k, x): cos = (0.25 − 4)/4.25, and √((1 − cos)/2) = 0.970
    assert len(Server("cfl", [0, 0], constants={"gamma": 0.96, **NOW["cfl"]}).aggregate(*opposed())) == 2
    assert len(Server("cfl", [0, 0], constants={"gamma": 0.98, **NOW["cfl"]}).aggregate(*opposed())) == 1


def test_a_bipartition_keeps_the_most_similar_together() -> None:
    similarities = np.array([[1, 0.1, 0.9, 0.2], [0.1, 1, 0.3, 0.8], [0.9, 0.3, 1, 0.1], [0.2, 0.8, 0.1, 1]])
    assert bipartition(similarities) == ([0, 2], [1, 3], 0.3)


@pytest.mark.parametrize("seed", range(20))
def test_a_bipartition_is_the_best_of_all(seed: int) -> None:
    n = 6
    drawn = np.random.default_rng(seed).uniform(-1, 1, (n, n))
    similarities = (drawn + drawn.T) / 2
    largest_across = []
    for chosen in range(1, 2 ** (n - 1)):
        in_one = np.array([(chosen >> row) & 1 == 1 for row in range(n)])
        largest_across.append(similarities[in_one][:, ~in_one].max())
    assert bipartition(similarities)[2] == min(largest_across)


def test_flic_clusters_once_and_in_its_round() -> None:
    server = Server("flic", [0, 0], constants={"cluster_round": 2, "gather_rounds": 0})
    assert [len(server.aggregate(*opposed())) for _ in range(3)] == [1, 1, 2]
    together = [update(peer, [5, 5], base=[0, 0]) for peer in "klxy"]
    assert members(server.aggregate(*together)) == [("k", "l"), ("x", "y")]


def test_flic_that_found_no_structure_does_not_look_again() -> None:
    server = Server("flic", [0, 0], constants=NOW["flic"])
    server.model(*(update(peer, [1, 0], base=[0, 0]) for peer in "klxy"))
    assert len(server.aggregate(*opposed())) == 1


def test_flic_compares_the_newest_updates_from_whatever_round_they_are() -> None:
    server = Server("flic", [0, 0], constants={"cluster_round": 1, "gather_rounds": 0})
    right_k, left_x, right_l, left_y = opposed()
    server.aggregate(right_k, left_x)
    # k and x are not heard again, and are clustered all the same.
    assert members(server.aggregate(right_l, left_y)) == [("k", "l"), ("x", "y")]


def test_flic_gathers_again_after_a_restart() -> None:
    server = Server("flic", [0, 0], round=60, version=60, constants={"cluster_round": 50, "gather_rounds": 2})
    right_k, left_x, right_l, left_y = opposed()
    assert len(server.aggregate(right_k, left_x)) == 1  # too few have been heard to tell
    assert len(server.aggregate(right_l)) == 1
    assert members(server.aggregate(left_y)) == [("k", "l"), ("x", "y")]


def test_flic_that_has_clustered_does_not_after_a_restart() -> None:
    server = Server("flic", [0, 0], constants=NOW["flic"])
    server.model(*(update(peer, [1, 0], base=[0, 0]) for peer in "klxy"))
    started_again = Server("flic", [1, 0], round=1, version=1, constants=NOW["flic"])
    started_again.restore(server.strategy.state())
    assert len(started_again.aggregate(*opposed((1, 0)))) == 1


def test_alike_finds_five_groups_among_fifty() -> None:
    group = np.repeat(np.arange(5), 10)
    similarities = np.where(group[:, None] == group, 1.5, 1.0)
    for self_similarity in (0.0, 2.0):
        assert alike(similarities, self_similarity, 8) == [list(range(at, at + 10)) for at in range(0, 50, 10)]


def test_loops_say_how_fine_clusters_are() -> None:
    nearly_equal = np.array([[2, 1.5, 1.4], [1.5, 2, 1.4], [1.4, 1.4, 2]])
    assert alike(nearly_equal, 2.0, 8) == [[0], [1], [2]]
    assert alike(nearly_equal, 0.0, 8) == [[0, 1, 2]]
    # Two pairs, 1.6 within and 1.2 across: joined if 1.6 > k²/2m = (1.6 + 2.4 + a loop's two ends)/4
    pairs = np.full((4, 4), 1.2)
    pairs[:2, :2] = pairs[2:, 2:] = 1.6
    assert alike(pairs, 2.0, 8) == [[0], [1], [2], [3]]
    assert alike(pairs, 1.0, 8) == [[0, 1], [2, 3]]
    assert alike(pairs, 0.0, 8) == [[0, 1, 2, 3]]


def test_communities_are_two_cliques_with_a_weak_link() -> None:
    graph = np.zeros((6, 6))
    for clique in ([0, 2, 4], [1, 3, 5]):
        graph[np.ix_(clique, clique)] = 1
    np.fill_diagonal(graph, 0)
    graph[0, 1] = graph[1, 0] = 0.5
    assert communities(graph, 6) == [[0, 2, 4], [1, 3, 5]]


def test_communities_of_a_graph_without_weights_are_its_nodes() -> None:
    assert communities(np.zeros((3, 3)), 3) == [[0], [1], [2]]


def test_too_many_communities_are_united_where_that_costs_least() -> None:
    pairs = np.zeros((6, 6))
    for one, other in ((0, 1), (2, 3), (4, 5)):
        pairs[one, other] = pairs[other, one] = 1
    pairs[1, 4] = pairs[4, 1] = 0.1
    assert communities(pairs, 6) == [[0, 1], [2, 3], [4, 5]]
    assert communities(pairs, 2) == [[0, 1, 4, 5], [2, 3]]
    assert communities(np.zeros((3, 3)), 1) == [[0, 1, 2]]


def modularity(weights: NDArray[np.float64], groups: list[list[int]]) -> float:
    total = weights.sum()
    return float(sum(weights[np.ix_(g, g)].sum() / total - (weights[g].sum() / total) ** 2 for g in groups))


@pytest.mark.parametrize("seed", range(10))
def test_communities_have_no_less_modularity_than_one_or_all_alone(seed: int) -> None:
    drawn = np.random.default_rng(seed).uniform(0, 2, (12, 12)) ** 3
    weights = (drawn + drawn.T) / 2
    found = communities(weights, 12)
    assert sorted(row for group in found for row in group) == list(range(12))
    alone = [[row] for row in range(12)]
    assert modularity(weights, found) >= max(modularity(weights, alone), modularity(weights, [list(range(12))])) - 1e-9
