"""`fedasync` and `fedbuff`, on models small enough to check by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest
from tests.unit.agent.merge.server.pieces import Server, update

from grapevine_agent.merge.server.interface import MAX_NAMED


def test_fedasync_mixes_a_fresh_update_by_alpha() -> None:
    model = Server("fedasync", [0, 10], [1]).model(update("k", [10, 0], buffers=[6], age=4))
    assert model.parameters.tolist() == pytest.approx([6, 4])
    assert model.buffers.tolist() == pytest.approx([4])
    assert (model.age, model.contributors) == (2, ("k",))  # 0.6 of 4


def test_fedasync_counts_each_mixed_update_as_a_version() -> None:
    # s = 0, then s = 3 for the fourth that started from the same model: α = 0.6/√(1 + 3)
    server = Server("fedasync", [0])
    server.hear(*(update(peer, [0]) for peer in "klm"))
    assert server.model(update("n", [10])).parameters.tolist() == pytest.approx([3])


def test_fedasync_counts_staleness_from_the_model_that_was_merged() -> None:
    server = Server("fedasync", [0])
    server.model(update("k", [0]), update("l", [0]), update("m", [0]))  # published as version 1
    assert server.model(update("k", [10], base_version=1)).parameters.tolist() == pytest.approx([6])
    assert server.model(update("l", [16], base_version=2)).parameters.tolist() == pytest.approx([12])
    # The initial model is five versions behind.
    expected = 12 + 0.6 * 6**-0.5 * (100 - 12)
    assert server.model(update("m", [100], base_version=0)).parameters.tolist() == pytest.approx([expected])


@pytest.mark.parametrize(("constants", "expected"), [({"alpha": 1.0}, 10.0), ({"alpha": 0.0}, 0.0), ({"a": 0.0}, 6.0)])
def test_fedasync_takes_its_constants_from_the_task(constants: dict[str, float], expected: float) -> None:
    server = Server("fedasync", [0], constants=constants)
    assert server.model(update("k", [10])).parameters.tolist() == pytest.approx([expected])


def test_fedasync_takes_a_version_from_the_future_as_the_newest() -> None:
    assert Server("fedasync", [0]).model(update("k", [10], base_version=99)).parameters.tolist() == pytest.approx([6])


def test_fedbuff_waits_until_its_buffer_is_full() -> None:
    server = Server("fedbuff", [1, 1], [3], constants={"buffer": 2, "eta": 0.5})
    assert server.aggregate(update("k", [3, 1], base=[1, 1], buffers=[5], age=7)) == []
    model = server.model(update("l", [1, 9], base=[1, 3], buffers=[1], age=2))
    assert model.parameters.tolist() == [1 + 0.25 * 2, 1 + 0.25 * 6]
    assert model.buffers.tolist() == pytest.approx([0.5 * 3 + 0.5 * 3])
    assert (model.age, model.contributors) == (2, ("k", "l"))  # half of the mean of 7 and 2


def test_fedbuff_publishes_only_what_a_step_has_taken_in() -> None:
    server = Server("fedbuff", [0], constants={"buffer": 2})
    model = server.model(*(update(peer, [2], base=[0], age=age) for peer, age in (("k", 1), ("l", 2), ("m", 9))))
    assert (model.parameters.tolist(), model.age, model.contributors) == ([2], 2, ("k", "l"))


def test_fedbuff_scales_by_staleness() -> None:
    # Three steps were taken since the initial model: 1/√(1 + 3)
    server = Server("fedbuff", [0], [4], constants={"buffer": 1})
    for version in range(3):
        server.model(update("k", [0], base=[0], buffers=[4], base_version=version))
    model = server.model(update("l", [8], base=[0], buffers=[8], base_version=0))
    assert model.parameters.tolist() == [4]
    assert model.buffers.tolist() == [6]  # the mean of 4 and 8, as for a model whose base is θ


def test_fedbuff_may_take_several_steps_between_two_heartbeats() -> None:
    server = Server("fedbuff", [0], constants={"buffer": 2})
    # The second pair started from the same model as the first, and comes one step late.
    model = server.model(*(update(peer, [2], base=[0]) for peer in "klmn"))
    assert model.parameters.tolist() == pytest.approx([2 + 2 / 2**0.5])


def test_fedbuff_takes_a_delta_without_a_base_from_the_version_that_was_merged() -> None:
    server = Server("fedbuff", [0], constants={"buffer": 1})
    for before, after in pairwise([0, 1, 3, 6]):  # versions 1, 2, 3
        server.model(update("k", [after], base=[before], base_version=server.context.version))
    model = server.model(update("l", [5], base_version=2))  # Δ = 5 − 3, one step stale
    assert model.parameters.tolist() == pytest.approx([6 + 2 / 2**0.5])


def test_fedbuff_takes_a_base_that_is_no_longer_held_as_the_oldest_that_is() -> None:
    server = Server("fedbuff", [0], constants={"buffer": 1})
    for value in range(1, 13):  # versions 1 to 12 are the models 1 to 12; 5 to 12 are held
        server.model(update("k", [value], base=[value - 1], base_version=server.context.version))
    model = server.model(update("l", [7], base_version=1))  # Δ = 7 − 5, eleven steps stale
    assert model.parameters.tolist() == pytest.approx([12 + 2 / 12**0.5])


BOTH = pytest.mark.parametrize("name", ["fedasync", "fedbuff"])
CONSTANTS: dict[str, dict[str, float]] = {"fedasync": {}, "fedbuff": {"buffer": 1}}


def after_three_steps(name: str) -> Server:
    server = Server(name, [0], constants=CONSTANTS[name])
    for version in range(3):
        server.model(update("k", [0], base=[0], base_version=version))
    return server


@BOTH
def test_after_a_restart_staleness_is_counted_as_before(name: str) -> None:
    server = after_three_steps(name)
    started_again = Server(name, [0], version=3, round=3, constants=CONSTANTS[name])
    started_again.restore(server.strategy.state())
    for value in (8, 80):  # the second is one version behind
        one, other = (each.model(update("k", [value], base=[0], base_version=3)) for each in (server, started_again))
        assert one.parameters.tolist() == other.parameters.tolist()


@BOTH
def test_what_began_before_a_restart_counts_as_begun_at_it(name: str) -> None:
    started_again = Server(name, [0], version=3, round=3, constants=CONSTANTS[name])
    started_again.restore(after_three_steps(name).strategy.state())
    fresh = {"fedasync": 0.6, "fedbuff": 1.0}[name]
    assert started_again.model(update("l", [8], base=[0], base_version=1)).parameters.tolist() == pytest.approx(
        [8 * fresh]
    )


@BOTH
def test_contributors_are_those_heard_lately_and_not_too_many(name: str) -> None:
    server = Server(name, [0], forget_s=10, constants=CONSTANTS[name])
    server.hear(*(update(f"{number:03}", [0], heard_s=1) for number in range(MAX_NAMED + 1)))
    assert len(server.model(now_s=2).contributors) == MAX_NAMED
    assert server.model(update("k", [0], heard_s=19), now_s=20).contributors == ("k",)
