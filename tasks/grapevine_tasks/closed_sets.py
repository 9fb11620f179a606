"""The names out of which a task chooses: losses, metrics, optimisers, schedules, and their constants.

Here is what each is called, what it takes and how far its constants go. What it computes stands in
`grapevine_agent.training`, beside PyTorch, in tables with the same names. Steps of input pipelines
are in `grapevine_tasks.pipelines`, merge strategies in `grapevine_agent.merge`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from grapevine_tasks.field_errors import FieldTaskError
from grapevine_tasks.suggestions import did_you_mean


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A constant's bounds. Without a default it must be given."""

    low: float
    high: float
    default: float | None = None
    is_whole: bool = False


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A loss: what its target is, and what constants it has.

    `takes` is "classes" (int64 [], `num_classes` of them), "numbers" (float32 of the model's output's
    shape), "zeros and ones" (the same with numbers from 0 to 1, or 2 classes) or "reconstruction"
    (float32 [d], of an output of [d + 2·l]).
    """

    takes: str
    summary: str
    constants: Mapping[str, Constant] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric, and the losses that go with it."""

    summary: str
    losses: tuple[str, ...]
    higher_is_better: bool = True


@dataclass(frozen=True, kw_only=True)
class Named:
    """An optimiser or a schedule."""

    summary: str
    constants: Mapping[str, Constant] = field(default_factory=dict)


_OF_NUMBERS = ("mse", "l1", "huber", "smooth-l1", "elbo")

LOSSES: Mapping[str, Loss] = {
    "cross-entropy": Loss(
        takes="classes",
        summary="softmax and negative log-likelihood of the class",
        constants={"label_smoothing": Constant(low=0, high=0.99, default=0)},
    ),
    "binary-cross-entropy": Loss(
        takes="zeros and ones", summary="sigmoid and negative log-likelihood of each number that is 0 or 1"
    ),
    "mse": Loss(takes="numbers", summary="mean of squared errors"),
    "l1": Loss(takes="numbers", summary="mean of absolute errors"),
    "huber": Loss(
        takes="numbers",
        summary="½e² for errors up to `delta`, δ(|e| − ½δ) beyond; the mean",
        constants={"delta": Constant(low=1e-6, high=1e6, default=1)},
    ),
    "smooth-l1": Loss(
        takes="numbers",
        summary="½e²/β for errors up to `beta`, |e| − ½β beyond; the mean",
        constants={"beta": Constant(low=1e-6, high=1e6, default=1)},
    ),
    "elbo": Loss(
        takes="reconstruction",
        summary="of a variational autoencoder: ½ Σe² of the reconstruction + `beta` · KL to N(0, 1); mean over samples",
        constants={"beta": Constant(low=0, high=1e4, default=1)},
    ),
}

METRICS: Mapping[str, Metric] = {
    "accuracy": Metric(summary="share of samples whose most likely class is right", losses=("cross-entropy",)),
    "top-5-accuracy": Metric(
        summary="share of samples whose class is among the five most likely", losses=("cross-entropy",)
    ),
    "binary-accuracy": Metric(
        summary="share of numbers on the right side of ½ after the sigmoid", losses=("binary-cross-entropy",)
    ),
    "mse": Metric(summary="mean of squared errors", losses=_OF_NUMBERS, higher_is_better=False),
    "mae": Metric(summary="mean of absolute errors", losses=_OF_NUMBERS, higher_is_better=False),
    "rmse": Metric(
        summary="root of the mean of squared errors over all test samples", losses=_OF_NUMBERS, higher_is_better=False
    ),
}

_ADAM = {
    "beta1": Constant(low=0, high=0.99999, default=0.9),
    "beta2": Constant(low=0, high=0.9999999, default=0.999),
    "eps": Constant(low=1e-12, high=1, default=1e-8),
}

OPTIMISERS: Mapping[str, Named] = {
    "sgd": Named(
        summary="stochastic gradient descent, with `momentum` and L2 `weight_decay`; `nesterov` is 0 or 1",
        constants={"nesterov": Constant(low=0, high=1, default=0, is_whole=True)},
    ),
    "adam": Named(summary="Adam (Kingma & Ba 2015), with L2 `weight_decay`", constants=_ADAM),
    "adamw": Named(summary="Adam with decoupled `weight_decay` (Loshchilov & Hutter 2019)", constants=_ADAM),
}

_STEPS = Constant(low=1, high=1e12, is_whole=True)
_SHARE = Constant(low=0, high=1, default=0)

SCHEDULES: Mapping[str, Named] = {
    "constant": Named(summary="the learning rate η stays as it is"),
    "step": Named(
        summary="η · `factor` ^ (age // `every`)",
        constants={"every": _STEPS, "factor": Constant(low=1e-6, high=1, default=0.1)},
    ),
    "exponential": Named(
        summary="η · `factor` ^ (age / `every`)",
        constants={
            "every": Constant(low=1, high=1e12, default=1, is_whole=True),
            "factor": Constant(low=1e-6, high=1),
        },
    ),
    "cosine": Named(
        summary="from η down to `final` · η along half a cosine of `steps` steps",
        constants={"steps": _STEPS, "final": _SHARE},
    ),
    "warm-up": Named(summary="up to η in a straight line of `warm_up` steps", constants={"warm_up": _STEPS}),
    "warm-up-cosine": Named(
        summary="up to η in a straight line of `warm_up` steps, then down to `final` · η along half a cosine "
        "that ends at step `steps`",
        constants={"warm_up": _STEPS, "steps": _STEPS, "final": _SHARE},
    ),
}


def read_constants(where: str, known: Mapping[str, Constant], given: Mapping[str, float]) -> dict[str, float]:
    """All constants, with defaults for those that are not given.

    `where` is their place in a task file. Raises TaskError naming the constant, its value and what to write.
    """
    for name in given:
        if name not in known:
            remedy = did_you_mean(name, known) if known else "there are none to give here: remove it"
            raise FieldTaskError(f"{where}.{name}", f"{where} has no constant {name!r}; {remedy}")
    read = {}
    for name, constant in known.items():
        value = given.get(name, constant.default)
        wanted = f"write a {'whole ' if constant.is_whole else ''}number from {constant.low:g} to {constant.high:g}"
        if value is None:
            raise FieldTaskError(where, f"{where} lacks {name!r}: {wanted}")
        is_in = math.isfinite(value) and constant.low <= value <= constant.high
        if not is_in or (constant.is_whole and value != int(value)):
            raise FieldTaskError(f"{where}.{name}", f"{where}.{name} is {value:g}; {wanted}")
        read[name] = float(value)
    return read
