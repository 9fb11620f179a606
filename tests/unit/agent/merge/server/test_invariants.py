"""What must hold for every server strategy, whatever the models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.unit.agent.merge.server.pieces import Server, update, vector

from grapevine_agent.merge.server import SERVER_STRATEGIES, ServerContext, ServerStart, ServerUpdate
from grapevine_agent.merge.server.deltas import cosines, norm

AT_ONCE: dict[str, dict[str, float]] = {
    "doubly-weighted": {},
    "fedavg": {},
    "fedasync": {},
    "fedbuff": {"buffer": 1},
    "cfl": {"settle_rounds": 0, "eps1": 1e6, "eps2": 0},
    "flic": {"cluster_round": 0, "gather_rounds": 0},
}  # constants with which whatever can happen happens at the first aggregation
EVERY = pytest.mark.parametrize("name", SERVER_STRATEGIES)

numbers = st.floats(-1e3, 1e3, width=32)
models = st.lists(numbers, min_size=3, max_size=3)
variances = st.lists(st.floats(2**-10, 1e3, width=32), min_size=2, max_size=2)


@st.composite
def heard(draw: st.DrawFn) -> list[ServerUpdate]:
    peers = draw(st.lists(st.sampled_from("klmnxyz"), min_size=1, max_size=7, unique=True))
    return [
        update(
            peer,
            draw(models),
            base=draw(st.none() | models),
            buffers=draw(variances),
            base_version=draw(st.integers(0, 3)),
            age=draw(st.integers(0, 2**53)),
            samples=draw(st.integers(0, 2**53)),
        )
        for peer in peers
    ]


def test_the_table_names_every_strategy_with_its_source_memory_and_ranges() -> None:
    assert set(SERVER_STRATEGIES) == {"doubly-weighted", "fedavg", "fedasync", "fedbuff", "cfl", "flic"} == set(AT_ONCE)
    for entry in SERVER_STRATEGIES.values():
        assert entry.source
        assert entry.memory
        for constant in entry.constants.values():
            assert constant.low <= constant.default <= constant.high
            assert constant.meaning
        given_all = {constant: entry.constants[constant].low for constant in entry.constants}
        assert entry.with_defaults(given_all) == given_all


@EVERY
def test_nothing_new_gives_nothing(name: str) -> None:
    server = Server(name, [1, 2], constants=AT_ONCE[name])
    assert server.aggregate() == []
    assert server.aggregate(update("k", [1, 3], base=[1, 2]))
    assert server.aggregate() == []


@EVERY
@given(model=models, buffers=variances, num_peers=st.integers(1, 6), says_base=st.booleans())
def test_equal_untrained_models_give_that_model(
    name: str, model: list[float], buffers: list[float], num_peers: int, says_base: bool
) -> None:
    server = Server(name, model, buffers, constants=AT_ONCE[name])
    base = model if says_base else None
    merged = server.model(*(update(peer, model, base=base, buffers=buffers) for peer in "klmnxy"[:num_peers]))
    np.testing.assert_allclose(merged.parameters, np.array(model, np.float32), rtol=1e-6)
    np.testing.assert_allclose(merged.buffers, np.array(buffers, np.float32), rtol=1e-6)
    assert merged.members == ()


@EVERY
@given(start=models, buffers=variances, first=heard(), second=heard())
def test_models_are_finite_variances_positive_and_what_was_published_does_not_change(
    name: str, start: list[float], buffers: list[float], first: list[ServerUpdate], second: list[ServerUpdate]
) -> None:
    server = Server(name, start, buffers, constants=AT_ONCE[name])
    published = server.aggregate(*first)
    copies = [(model.parameters.copy(), model.buffers.copy()) for model in published]
    for model in (*published, *server.aggregate(*second)):
        assert np.isfinite(model.parameters).all()
        assert (model.buffers > 0).all()
        assert model.parameters.dtype == model.buffers.dtype == np.float32
        assert tuple(sorted(model.contributors)) == model.contributors
        assert not model.members or set(model.contributors) <= set(model.members)
    for model, (parameters, floats) in zip(published, copies, strict=True):
        np.testing.assert_array_equal(model.parameters, parameters)
        np.testing.assert_array_equal(model.buffers, floats)


@pytest.mark.parametrize("name", ["doubly-weighted", "fedavg", "fedasync"])
@given(start=models, updates=heard())
def test_convex_strategies_stay_in_the_convex_hull(name: str, start: list[float], updates: list[ServerUpdate]) -> None:
    merged = Server(name, start, [1, 1], constants=AT_ONCE[name]).model(*updates)
    corners = np.stack([each.parameters for each in updates] + ([vector(*start)] if name == "fedasync" else []))
    slack = 1e-5 * np.abs(corners).max()
    assert (merged.parameters >= corners.min(axis=0) - slack).all()
    assert (merged.parameters <= corners.max(axis=0) + slack).all()


@pytest.mark.parametrize("name", ["doubly-weighted", "fedavg", "cfl", "flic"])
@given(start=models, updates=heard(), data=st.data())
def test_gathered_strategies_do_not_depend_on_the_order_of_arrival(
    name: str, start: list[float], updates: list[ServerUpdate], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(updates))
    one = Server(name, start, [1, 1], constants=AT_ONCE[name]).aggregate(*updates)
    other = Server(name, start, [1, 1], constants=AT_ONCE[name]).aggregate(*shuffled)
    assert [(model.members, model.contributors) for model in one] == [
        (model.members, model.contributors) for model in other
    ]
    for model, same in zip(one, other, strict=True):  # what is folded in as it comes differs in its last digits
        np.testing.assert_allclose(model.parameters, same.parameters, rtol=1e-5, atol=1e-2)
        np.testing.assert_allclose(model.buffers, same.buffers, rtol=1e-5)


@pytest.mark.parametrize("name", ["cfl", "flic"])
@given(start=models, updates=heard())
def test_clusters_part_the_members_that_have_changed_something(
    name: str, start: list[float], updates: list[ServerUpdate]
) -> None:
    published = Server(name, start, [1, 1], constants=AT_ONCE[name]).aggregate(*updates)
    named = [peer for model in published for peer in model.members]
    assert len(named) == len(set(named))
    if len(published) > 1:
        changed = {
            each.peer
            for each in updates
            if (each.parameters != (vector(*start) if each.base is None else each.base)).any()
        }
        assert set(named) == changed
    assert [model.cluster for model in published] == list(range(len(published)))


Exact: TypeAlias = NDArray[np.float64]

SIZE = 150_001  # more than two blocks, and not a multiple of one


def reference_step(start: Exact, deltas: list[Exact], weights: Sequence[float]) -> Exact:
    return start + sum(weight * delta for weight, delta in zip(weights, deltas, strict=True)) / sum(weights)


def reference_mix(start: Exact, ends: list[Exact], weights: Sequence[float]) -> Exact:
    for staleness, end in enumerate(ends):
        alpha = 0.6 * (1 + staleness) ** -0.5
        start = (1 - alpha) * start + alpha * end
    return start


REFERENCES: dict[str, Callable[[Exact, list[Exact], list[Exact], Sequence[int]], Exact]] = {
    "doubly-weighted": lambda _, ends, __, weights: np.average(ends, axis=0, weights=weights),
    "fedavg": lambda _, ends, __, weights: np.average(ends, axis=0, weights=weights),
    "fedasync": lambda start, ends, _, weights: reference_mix(start, ends, weights),
    "fedbuff": lambda start, _, deltas, __: reference_step(start, deltas, [1.0] * len(deltas)),
    "cfl": lambda start, _, deltas, weights: reference_step(start, deltas, weights),
    "flic": lambda start, _, deltas, weights: reference_step(start, deltas, weights),
}


@EVERY
def test_a_float64_reference_agrees(name: str) -> None:
    rng = np.random.default_rng(7)
    start = rng.normal(size=SIZE).astype(np.float32)
    ends = [(start + rng.normal(scale=0.1, size=SIZE)).astype(np.float32) for _ in range(5)]
    weights = [3, 1, 4, 1, 5]
    entry = SERVER_STRATEGIES[name]
    strategy = entry.make(ServerStart(parameters=start, buffers=start[:0]))
    context = ServerContext(constants=entry.with_defaults({"buffer": 5}))
    for peer, end, weight in zip("klmno", ends, weights, strict=True):
        strategy.accept(
            ServerUpdate(peer=peer, parameters=end, buffers=start[:0], base=start, age=weight, samples=weight), context
        )
    (merged,) = strategy.aggregate(context)
    exact = [end.astype(np.float64) for end in ends]
    expected = REFERENCES[name](
        start.astype(np.float64), exact, [end - start.astype(np.float64) for end in exact], weights
    )
    assert np.abs(merged.parameters - expected).max() <= 1e-5 * np.abs(expected).max()


def test_norms_and_cosines_of_long_vectors_lose_no_digits() -> None:
    long = np.full(3_000_001, 0.1, np.float32)
    exact = float(np.float32(0.1)) * 3_000_001**0.5
    assert norm(long) == pytest.approx(exact, rel=1e-12)
    other = long.copy()
    other[::2] *= -1
    assert cosines([long], [long, other, np.zeros_like(long)]) == pytest.approx(np.array([[1, -1 / 3_000_001, 0]]))


def test_vectors_near_the_largest_and_the_smallest_numbers_have_cosines() -> None:
    huge, tiny = np.full(4, 3e38, np.float32), np.full(4, 1e-45, np.float32)
    assert cosines([huge, tiny], [tiny, -tiny]).tolist() == [[pytest.approx(1), pytest.approx(-1)]] * 2


@pytest.mark.parametrize("name", ["fedbuff", "cfl", "flic"])
def test_deltas_of_enormous_models_do_not_become_infinite(name: str) -> None:
    largest = 1e30 if name == "fedbuff" else 3e38  # what an intake lets in
    server = Server(name, [largest], constants=AT_ONCE[name])
    for model in server.aggregate(update("k", [largest], base=[-largest])):
        assert np.isfinite(model.parameters).all()
