"""Programs that once took more than their bound, one kind each, made as small as can be measured.

`python -m tests.unit.tasks.hostile.memory.cases` measures all of them and prints what they took, as JSON.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from tests.unit.tasks.hostile.memory.draft import Draft
from tests.unit.tasks.hostile.memory.measure import measure, prepare
from tests.unit.tasks.hostile.memory.programs import Trial
from tests.unit.tasks.hostile.memory.run import figures

from grapevine_proto.manifest import Optimiser, TrainingPlan
from grapevine_proto.program import Argument, Operator, Ref

SGD = Optimiser(learning_rate=1e-6)
ADAM = Optimiser(name="adam", learning_rate=1e-9)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One program: `write` gets an input of `features` and gives the output."""

    write: Callable[[Draft], Ref]
    features: tuple[int, ...] = (8000,)
    batch: int = 256
    loss: str = "mse"
    optimiser: Optimiser = SGD
    with_onednn: bool = True

    def trial(self) -> Trial:
        """Ready to be measured."""
        draft = Draft(random.Random(0), self.features, batch=self.batch)
        output = self.write(draft)
        shape = tuple(size or 0 for size in draft.numbers(output)[1:])
        return Trial(
            seed=0,
            program=draft.finished(output),
            plan=TrainingPlan(
                optimiser=self.optimiser, loss=self.loss, metric="mse", batch_size=self.batch, steps_per_round=2
            ),
            target_shape=shape,
            with_onednn=self.with_onednn,
            num_threads=1,
        )


def learned(draft: Draft) -> Ref:
    """The input times a parameter: as large, and with a gradient."""
    return draft.put(Operator.MUL, Ref(0), draft.parameter(1))


def mean(draft: Draft, value: Ref) -> Ref:
    """One number for each sample."""
    dims = tuple(range(1, len(draft.type_of(value.value).shape)))
    return draft.put(Operator.MEAN, value, dims, False)


def one(operator: Operator, *arguments: Argument) -> Callable[[Draft], Ref]:
    """One operator on a learned value, and its mean."""
    return lambda draft: _reduced(draft, draft.put(operator, learned(draft), *arguments))


def _reduced(draft: Draft, value: Ref) -> Ref:
    return mean(draft, value) if len(draft.type_of(value.value).shape) > 1 else value


def recurrence(operator: Operator, gates: int, units: int = 1) -> Callable[[Draft], Ref]:
    """A recurrent layer over inputs [steps, features]."""

    def write(draft: Draft) -> Ref:
        steps, features = draft.numbers(Ref(0))[1:]
        assert steps
        assert features
        weights = tuple(
            draft.parameter(*shape)
            for shape in ((gates * units, features), (gates * units, units), (gates * units,), (gates * units,))
        )
        state = draft.put(Operator.FULL, (1, draft.size_of(Ref(0), 0), units), 0.0)
        states = (state, state) if operator is Operator.LSTM else (state,)
        relu = (False,) if operator is Operator.RNN else ()
        output = draft.put(operator, Ref(0), *states, weights, True, 1, 0.0, True, False, True, *relu)
        return mean(draft, output)

    return write


def cells(operator: Operator, gates: int) -> Callable[[Draft], Ref]:
    """Many steps, each a node of its own."""

    def write(draft: Draft) -> Ref:
        weights = [draft.parameter(*shape) for shape in ((gates, 1), (gates, 1), (gates,), (gates,))]
        hidden = cell = draft.put(Operator.FULL, (draft.size_of(Ref(0), 0), 1), 0.0)
        for _ in range(200):
            if operator is Operator.LSTM_CELL:
                hidden = draft.put(operator, Ref(0), hidden, cell, *weights)
                cell = Ref(hidden.value + 1)
            else:
                hidden = draft.put(operator, Ref(0), hidden, *weights)
        return hidden

    return write


def attention(dropout: float = 0.0, *, learned_mask: bool = False) -> Callable[[Draft], Ref]:
    """Of a learned value with itself."""

    def write(draft: Draft) -> Ref:
        x = learned(draft)
        words = draft.numbers(x)[-2] or 0
        mask = draft.parameter(words, words) if learned_mask else None
        return mean(draft, draft.put(Operator.ATTENTION, x, x, x, mask, dropout, False, None))

    return write


def _layers_of_a_permuted_value(draft: Draft) -> Ref:
    """Each linear layer folds it, and keeps a copy of its own."""
    permuted = draft.put(Operator.TRANSPOSE, learned(draft), 1, 2)
    outputs = [draft.put(Operator.LINEAR, permuted, draft.parameter(1, 100), None) for _ in range(8)]
    return mean(draft, draft.put(Operator.CONCATENATE, tuple(outputs), 2))


def _matrices_with_one(draft: Draft) -> Ref:
    """A few rows times many small matrices: they are copied for each."""
    x = draft.put(Operator.UNSQUEEZE, draft.put(Operator.UNSQUEEZE, learned(draft), 1), 1)
    return mean(draft, draft.put(Operator.MATMUL, draft.parameter(8, 1, 1, 8000), x))


def _parts_of_large_gradients(draft: Draft) -> Ref:
    """A parameter's gradient is a part of a large one, and keeps all of it alive until the next step's end."""
    whole = draft.put(Operator.EXPAND, draft.parameter(1, 8000), (100, 8000))
    output = mean(draft, learned(draft))
    for _ in range(8):
        joined = draft.put(Operator.CONCATENATE, (whole, draft.parameter(1, 8000)), 0)
        output = draft.put(Operator.ADD, output, draft.put(Operator.MEAN, joined, (0, 1), False))
    return output


def _many_small_nodes(draft: Draft) -> Ref:
    value = learned(draft)
    for _ in range(1000):
        value = draft.put(Operator.GELU, value, False)
    return value


def _many_parameters(draft: Draft) -> Ref:
    layers = [draft.put(Operator.LINEAR, Ref(0), draft.parameter(2000, 450), None) for _ in range(3)]
    return draft.put(Operator.CONCATENATE, tuple(layers), 1)


def _large_buffers(draft: Draft) -> Ref:
    """The whole state becomes new values in each step."""
    for _ in range(2):
        buffer = draft.buffer(2_000_000)
        draft.update_of(buffer, draft.put(Operator.MUL, buffer, 0.5))
    return mean(draft, learned(draft))


ONE_CHANNEL = (1, 50, 50)
CASES: Mapping[str, Case] = {
    "RNN of many steps": Case(write=recurrence(Operator.RNN, 1), features=(800, 1), batch=1),
    "GRU of many steps": Case(write=recurrence(Operator.GRU, 3), features=(300, 1), batch=1),
    "LSTM of many steps, without oneDNN": Case(
        write=recurrence(Operator.LSTM, 4), features=(300, 1), batch=1, with_onednn=False
    ),
    "LSTM of one unit and many samples": Case(write=recurrence(Operator.LSTM, 4), features=(30, 1), batch=1000),
    "LSTM cells": Case(write=cells(Operator.LSTM_CELL, 4), features=(1,), batch=1),
    "GRU cells": Case(write=cells(Operator.GRU_CELL, 3), features=(1,), batch=1),
    "attention with dropout": Case(write=attention(0.3), features=(4, 64, 4)),
    "attention with a mask that learns": Case(write=attention(learned_mask=True), features=(4, 64, 4)),
    "attention of three dimensions": Case(write=attention(), features=(128, 4)),
    "LOGSUMEXP": Case(write=one(Operator.LOGSUMEXP, (1,), False)),
    "NORM, p = 2": Case(write=one(Operator.NORM, 2.0, (1,), False)),
    "NORM, p = 1.5": Case(write=one(Operator.NORM, 1.5, (1,), False)),
    "PROD": Case(write=one(Operator.PROD, 1, False)),
    "DEVIATION": Case(write=one(Operator.DEVIATION, (1,), 1.0, False)),
    "VARIANCE": Case(write=one(Operator.VARIANCE, (1,), 1.0, False)),
    "AMAX": Case(write=one(Operator.AMAX, (1,), False)),
    "POW": Case(write=lambda draft: draft.put(Operator.POW, learned(draft), 3.0)),
    "ERF": Case(write=lambda draft: draft.put(Operator.ERF, learned(draft))),
    "a large output with the loss l1": Case(write=learned, loss="l1"),
    "convolution of one channel": Case(
        write=lambda draft: mean(
            draft,
            draft.put(Operator.CONV2D, learned(draft), draft.parameter(1, 1, 3, 3), None, (1, 1), (1, 1), (1, 1), 1),
        ),
        features=ONE_CHANNEL,
    ),
    "convolution of many channels and few places, without oneDNN": Case(
        write=lambda draft: mean(
            draft, draft.put(Operator.CONV1D, Ref(0), draft.parameter(100, 500, 2), None, (1,), (0,), (1,), 1)
        ),
        features=(500, 8),
        batch=1,
        with_onednn=False,
    ),
    "convolution of images, without oneDNN": Case(
        write=lambda draft: mean(
            draft,
            draft.put(Operator.CONV2D, Ref(0), draft.parameter(16, 32, 3, 3), None, (1, 1), (1, 1), (1, 1), 1),
        ),
        features=(32, 14, 14),
        batch=1,
        with_onednn=False,
    ),
    "transposed convolution of one channel": Case(
        write=lambda draft: mean(
            draft,
            draft.put(
                Operator.CONV_TRANSPOSE2D,
                *(learned(draft), draft.parameter(1, 1, 3, 3), None, (1, 1), (1, 1), (0, 0), 1, (1, 1)),
            ),
        ),
        features=ONE_CHANNEL,
    ),
    "linear layers of a permuted value": Case(write=_layers_of_a_permuted_value, features=(100, 40)),
    "many matrices with one": Case(write=_matrices_with_one, features=(8000, 1), batch=100),
    "gradients that are parts of large ones": Case(write=_parts_of_large_gradients, batch=4),
    "many small nodes": Case(write=_many_small_nodes, features=(1,), batch=1),
    "many parameters": Case(write=_many_parameters, features=(450,), batch=4, optimiser=ADAM),
    "large buffers": Case(write=_large_buffers, features=(10,), batch=4),
}


def main() -> None:
    """Print what each case took, its bound and its estimate."""
    prepare()
    found = {}
    for name, case in CASES.items():
        tried = case.trial()
        bound, estimate = figures(tried)
        found[name] = {**asdict(measure(tried)), "bound": bound, "estimate": estimate}
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
