"""Every strategy against its formula, written out in float64 without regard for memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.unit.agent.merge.by_hand import merge

from grapevine_agent.merge import STRATEGIES, Merged, Voice

Matrix = NDArray[np.float64]  # one model a row

SIZES = (100_003, 1, 50_000, 4096)
SPANS = [slice(stop - size, stop) for size, stop in zip(SIZES, np.cumsum(SIZES).tolist(), strict=True)]
SEED, EPOCH, EXPERIENCES = 5, 80, {"peer 0": 10, "elsewhere": 5000}


def crowd(num: int = 5) -> list[Voice]:
    """Models that share a past, in tensors of very different scale and mean."""
    rng = np.random.default_rng(1)
    scales = np.concatenate([np.full(size, 10.0**k) for size, k in zip(SIZES, (0, 3, -4, 2), strict=True)])
    means = np.concatenate([np.full(size, mean) for size, mean in zip(SIZES, (0.1, 9, 5e-2, -300), strict=True)])
    past = means + scales * rng.standard_normal(scales.size)
    voices = []
    for k in range(num):
        base = past + 0.1 * scales * rng.standard_normal(scales.size)
        parameters = base + 0.02 * scales * rng.standard_normal(scales.size)
        voices.append(
            Voice(
                peer=f"peer {k}",
                parameters=parameters.astype(np.float32),
                base=base.astype(np.float32),
                buffers=np.empty(0, np.float32),
                age=1000 + 37 * k,
                experience=20_000 + 999 * k,
                samples=300 + 211 * k,
            )
        )
    return voices


def stacked(voices: Sequence[Voice]) -> Matrix:
    return np.stack([voice.parameters for voice in voices]).astype(np.float64)


def by_weights(voices: Sequence[Voice], weights: Sequence[float]) -> Matrix:
    mean: Matrix = np.average(stacked(voices), axis=0, weights=weights)
    return mean


def in_turn(voices: Sequence[Voice], shares: Sequence[float]) -> Matrix:
    models = stacked(voices)
    own: Matrix = models[0]
    for share, other in zip(shares, models[1:], strict=True):
        own = (1 - share) * own + share * other
    return own


def s_prime(own: Matrix, other: Matrix, origin: Matrix) -> float:
    one, two = own - origin, other - origin
    return float((one @ two / np.linalg.norm(one) / np.linalg.norm(two) + 1) / 2)


def age_weighted(voices: Sequence[Voice]) -> Matrix:
    age, shares = voices[0].age, []
    for voice in voices[1:]:
        shares.append(voice.age / (age + voice.age))
        age = round((1 - shares[-1]) * age + shares[-1] * voice.age)
    return in_turn(voices, shares)


def chisme(voices: Sequence[Voice]) -> Matrix:
    assert voices[0].base is not None
    origin, own, mu = voices[0].base.astype(np.float64), voices[0].parameters.astype(np.float64), 20_000.0
    others = {"elsewhere": 5000}
    for voice in voices[1:]:
        others[voice.peer] = voice.experience
        alpha = voice.experience / (mu + sum(others.values()))
        s = s_prime(own, voice.parameters.astype(np.float64), origin)
        omega = s / (1 + s)
        eta = alpha * omega / ((1 - alpha) * (1 - omega) + alpha * omega)
        own, mu = (1 - eta) * own + eta * voice.parameters, (1 - eta) * mu + eta * voice.experience
    return own


def cos_sim_dfl(voices: Sequence[Voice]) -> Matrix:
    assert voices[0].base is not None
    models, origin = stacked(voices), voices[0].base.astype(np.float64)
    return by_weights(
        voices,
        [v.samples * s_prime(models[0], model, origin) for v, model in zip(voices, models, strict=True)],
    )


def delta_sum(voices: Sequence[Voice]) -> Matrix:
    bases = np.stack([voice.base for voice in voices if voice.base is not None]).astype(np.float64)
    factor = 0.23  # .15 + 80/1000, within [1/5, 2/5]
    merged: Matrix = bases.mean(0) + factor * (stacked(voices) - bases).sum(0)
    return merged


def variance_corrected(voices: Sequence[Voice]) -> Matrix:
    models = stacked(voices)
    mean: Matrix = models.mean(0)
    for span in SPANS:
        part = mean[span]
        if part.var() > 0:
            stretch = np.sqrt(models[:, span].var(axis=1).mean() / part.var())
            mean[span] = (part - part.mean()) * stretch + part.mean()
    return mean


def krum(voices: Sequence[Voice]) -> Matrix:
    models = stacked(voices)
    squares = ((models[:, None] - models) ** 2).sum(2)
    chosen: Matrix = models[np.argmin(np.sort(squares, axis=1)[:, 1:3].sum(1))]
    return chosen


REFERENCES: dict[str, Callable[[Sequence[Voice]], Matrix]] = {
    "average": lambda voices: stacked(voices).mean(0),
    "fedavg": lambda voices: by_weights(voices, [voice.samples for voice in voices]),
    "age-weighted": age_weighted,
    "doubly-weighted": lambda voices: by_weights(voices, [voice.age for voice in voices]),
    "random-mix": lambda voices: in_turn(voices, [1 - b for b in np.random.default_rng(SEED).random(len(voices) - 1)]),
    "variance-corrected": variance_corrected,
    "delta-sum": delta_sum,
    "cos-sim-dfl": cos_sim_dfl,
    "chisme": chisme,
    "trimmed-mean": lambda voices: np.sort(stacked(voices), axis=0)[1:-1].mean(0),
    "median": lambda voices: np.median(stacked(voices), axis=0),
    "krum": krum,
    "follow-server": lambda voices: stacked(voices)[0],  # none of them is a server
}


def merged(name: str, voices: Sequence[Voice]) -> Merged:
    return merge(name, *voices, epoch=EPOCH, experiences=EXPERIENCES, spans=SPANS, seed=SEED)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_agrees_with_its_formula_in_float64(name: str) -> None:
    voices = crowd()
    found, reference = merged(name, voices).parameters, REFERENCES[name](voices)
    assert found.dtype == np.float32
    for span in SPANS:
        largest = np.abs(reference[span]).max()
        assert np.abs(found[span] - reference[span]).max() <= 1e-5 * largest


@pytest.mark.parametrize("name", STRATEGIES)
def test_no_finite_model_merges_to_nan_not_even_the_largest(name: str) -> None:
    largest = np.finfo(np.float32).max
    rng = np.random.default_rng(0)
    for scale in (1e-45, 1e-38, 1e-20, 1e20, 1e37):
        voices = [
            Voice(
                peer=f"peer {k}",
                parameters=(scale * rng.uniform(-1, 1, sum(SIZES[3:]))).astype(np.float32),
                base=(scale * rng.uniform(-1, 1, sum(SIZES[3:]))).astype(np.float32),
                buffers=np.empty(0, np.float32),
                samples=1,
                experience=1,
                age=1,
            )
            for k in range(5)
        ]
        assert (np.abs(merge(name, *voices, epoch=500).parameters) <= largest).all()
