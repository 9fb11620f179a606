"""What a server holds of its members does not grow with their number, and models that were restored catch up."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from tests.unit.agent.merge.server.pieces import Server, members, update

from grapevine_agent.merge.server import SERVER_STRATEGIES, ServerContext, ServerStart, ServerUpdate
from grapevine_agent.merge.server.deltas import cosines
from grapevine_agent.merge.server.sketch import SKETCH_SIZE, Sketcher

EVERY = pytest.mark.parametrize("name", SERVER_STRATEGIES)
CLUSTERS = pytest.mark.parametrize("name", ["cfl", "flic"])
NOW = {"cfl": {"settle_rounds": 0.0}, "flic": {"cluster_round": 0.0, "gather_rounds": 0.0}}
P = 20_000


def vectors_in(held: object, seen: set[int]) -> Iterable[np.ndarray]:
    """Every vector that an object holds, once."""
    if id(held) in seen:
        return
    seen.add(id(held))
    if isinstance(held, np.ndarray):
        yield held
    elif isinstance(held, dict):
        for each in held.values():
            yield from vectors_in(each, seen)
    elif isinstance(held, list | tuple | set):
        for each in held:
            yield from vectors_in(each, seen)
    elif hasattr(held, "__dict__"):
        yield from vectors_in(vars(held), seen)


@EVERY
def test_a_server_of_ten_times_as_many_members_holds_no_more_models(name: str) -> None:
    entry = SERVER_STRATEGIES[name]
    start = np.zeros(P, np.float32)
    strategy = entry.make(ServerStart(parameters=start, buffers=start[:0], num_places=8))
    context = ServerContext(constants=entry.with_defaults({}), round_s=10.0, forget_s=60.0, max_share=0.5)
    rng = np.random.default_rng(1)
    held = []
    for number in range(600):
        model = rng.normal(size=P).astype(np.float32)
        strategy.accept(
            ServerUpdate(
                peer=f"{number:05}", parameters=model, buffers=model[:0], age=number, samples=5, heard_s=number / 20
            ),
            context,
        )
        if number in (59, 599):
            held.append(sum(vector.nbytes for vector in vectors_in(strategy, set())) / (4 * P))
    compared = 256 * SKETCH_SIZE / P if entry.clusters else 0
    assert held[1] <= max(held[0], 12) + compared
    assert strategy.aggregate(context)


@CLUSTERS
def test_with_more_members_than_places_members_are_told_apart_by_sketches(name: str) -> None:
    rng = np.random.default_rng(5)
    start = np.zeros(P, np.float32)
    right, left = rng.normal(size=(2, P)).astype(np.float32) / P**0.5 * 3
    left -= right * (left @ right / (right @ right)) + right / 2
    entry = SERVER_STRATEGIES[name]
    strategy = entry.make(ServerStart(parameters=start, buffers=start[:0], num_places=4))
    constants = entry.with_defaults({**NOW[name], **({"eps1": 2.5} if name == "cfl" else {})})
    context = ServerContext(constants=constants)
    for number in range(12):
        change = (right, left)[number % 2] + rng.normal(size=P).astype(np.float32) / P**0.5 / 5
        strategy.accept(
            ServerUpdate(
                peer=f"{'rl'[number % 2]}{number:02}", parameters=change, buffers=start[:0], base=start, samples=1
            ),
            context,
        )
    one, other = strategy.aggregate(context)
    assert {tuple({peer[0] for peer in model.members}) for model in (one, other)} == {("r",), ("l",)}
    assert len(one.members) == len(other.members) == 6
    np.testing.assert_allclose(one.parameters, (right + left) / 2, atol=0.01)  # both go on from everybody's step


@CLUSTERS
@pytest.mark.parametrize("num_places", [256, 2])
def test_a_step_is_the_same_with_sketches(name: str, num_places: int) -> None:
    server = Server(name, [1, 1], [9], num_places=num_places)
    model = server.model(
        update("k", [3, 1], base=[1, 1], buffers=[2], samples=1, age=4),
        update("l", [1, 9], base=[1, 1], buffers=[6], samples=3, age=5),
        update("m", [1, 1], base=[1, 1], buffers=[5], samples=4, age=5),
    )
    assert model.parameters.tolist() == pytest.approx([1 + 2 / 8, 1 + 3 * 8 / 8])
    assert model.buffers.tolist() == pytest.approx([5])
    assert (model.age, model.contributors) == (5, ("k", "l", "m"))
    second = server.model(update("m", [1, 17], base=[1, 9], samples=4, buffers=[5]))
    assert second.parameters.tolist() == pytest.approx([1 + 2 / 8, 4 + 8])
    assert server.aggregate() == []


def test_sketches_keep_angles_and_lengths() -> None:
    rng = np.random.default_rng(2)
    long = rng.normal(size=(3, 60_001)).astype(np.float32)
    long[2] = long[0] + 0.5 * long[1]
    sketch = Sketcher(np.random.default_rng(3), 60_001)
    exact, short = cosines(list(long), list(long)), cosines([sketch(v) for v in long], [sketch(v) for v in long])
    np.testing.assert_allclose(short, exact, atol=0.06)
    assert np.linalg.norm(sketch(long[0])) == pytest.approx(np.linalg.norm(long[0]), rel=0.06)
    brief = rng.normal(size=50).astype(np.float32)
    np.testing.assert_array_equal(Sketcher(rng, 50)(brief), brief)


# --- after a restart ------------------------------------------------------------------------------

GOES_ON: dict[str, dict[str, float]] = {
    "fedasync": {"alpha": 0.01},
    "fedbuff": {"buffer": 2.0},
    "cfl": {},
    "flic": {},
}
FROM_A_MODEL = pytest.mark.parametrize("name", GOES_ON)


@FROM_A_MODEL
def test_an_old_model_that_was_restored_gives_way_to_what_its_members_have_come_to(name: str) -> None:
    server = Server(name, [0.0], [1.0], version=50, age=500, is_restored=True, constants=GOES_ON[name], max_share=0.5)
    model = server.model(
        update("k", [10.0], base=[9.0], buffers=[4], age=5000, samples=1, base_version=50),
        update("l", [12.0], base=[11.0], buffers=[6], age=5200, samples=1, base_version=50),
    )
    assert model.parameters.tolist() == pytest.approx([11])
    assert model.buffers.tolist() == pytest.approx([5])
    assert model.age == 5100
    # From here on it goes on as ever.
    second = server.model(
        update("k", [12.0], base=[11.0], buffers=[5], age=5100, samples=1, base_version=51),
        update("l", [12.0], base=[11.0], buffers=[5], age=5100, samples=1, base_version=51),
    )
    assert 11 < second.parameters[0] <= 12


@FROM_A_MODEL
def test_a_restored_model_that_is_ahead_of_its_members_goes_on(name: str) -> None:
    server = Server(name, [20.0], version=50, age=6000, is_restored=True, constants=GOES_ON[name])
    model = server.model(*(update(peer, [11.0], base=[10.0], age=5000, samples=1, base_version=50) for peer in "kl"))
    assert model.parameters[0] > 19


@CLUSTERS
def test_clusters_catch_up_one_by_one_and_are_silent_until_they_are_heard(name: str) -> None:
    before = Server(name, [0, 0], constants=NOW[name])
    pulls = {"k": (2, 0.5), "l": (2, -0.5), "x": (-2, 0.5), "y": (-2, -0.5)}
    assert len(before.aggregate(*(update(peer, pull, base=[0, 0], samples=1) for peer, pull in pulls.items()))) == 2
    server = Server(name, [0, 0], version=1, round=1, is_restored=True, constants={**NOW[name], "max_clusters": 2})
    server.restore(before.strategy.state())
    assert server.aggregate() == []
    models = server.aggregate(update("k", [9, 9], base=[8, 9], age=70), update("l", [7, 9], base=[6, 9], age=90))
    assert members(models) == [("k", "l")]
    assert (models[0].parameters.tolist(), models[0].age) == ([8, 9], 80)
    models = server.aggregate(update("x", [-9, 0], base=[-8, 0], age=70))
    assert members(models) == [("x", "y")]
    assert models[0].parameters.tolist() == [-9, 0]
