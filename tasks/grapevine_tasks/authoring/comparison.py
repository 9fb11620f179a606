"""A built program against the module that it was built from: outputs, gradients, and buffers after steps.

`torch.export` follows what a module computes, not what it says of gradients, nor what it keeps beside its buffers.
A function with a `backward` of its own, a hook, a counter in Python: all that is lost without a word, and the
program would be another model. So before anything is written both run side by side,

    train, 5 samples ▶ train, 3 samples ▶ eval, 5 samples ▶ eval without gradients, 3 samples

from the weights as they are, and again from others near them, with the same numbers, the same seed and a random
gradient from behind; buffers go from step to step on each side by itself.

When two tensors are the same. Both sides run the same kernels on the same machine and mostly agree to the bit;
where building writes a layer with simpler operators, they differ by rounding, some 1e-7 of the tensor's largest
number. `RELATIVE` is a thousand times that, and ten times less than the least that was ever wrong. A gradient
that is zero but for rounding (of a bias before batch normalisation) has no digit right on either side, so
`FLOOR` of the largest gradient is allowed as well. What is beyond that is looked at twice more: where numbers are
drawn, each draw is made from the same state on both sides, since one side may draw in another order; then the
module runs once more with everything changed by two units in the last place, and what that changes is allowed
`NUDGES` times: what is chaotic cannot be compared.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from grapevine_proto.errors import TaskError
from grapevine_proto.program import Program
from grapevine_tasks.authoring.probes import Stage, Trial, trials
from grapevine_tasks.interpreter import Interpreter

RELATIVE = 1e-4  # of a tensor's largest number
FLOOR = 1e-6  # of the largest number of its kind
NUDGES = 16.0
Kind = Literal["output", "gradient", "buffer"]
Outcome = dict[tuple[Kind, str], Tensor]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One tensor that the program has otherwise than the module."""

    form: Literal["train", "eval"]
    kind: Kind
    name: str  # of the parameter or buffer
    by: float  # at most, of any number
    largest: float  # of the module's own
    has: float  # the largest of the program's own
    stage: Stage


def differences(
    module: nn.Module, program: Program, weights: Mapping[str, Tensor], example: Tensor
) -> list[Difference]:
    """What the program has otherwise than the module, in the first pass where there is something; empty if nothing.

    Args:
        module: Changed: see `put_back`.
        program: Of this module, checked.
        weights: Its parameters and buffers by their names, as they are; not changed.
        example: A batch; its numbers count if they are not all the same.

    Raises:
        ModuleFailsError: When the module itself cannot take a training step with any samples that were tried.
        DrawnElsewhereError: When it draws numbers that no program can.
    """
    own = _Own(module, program)
    built = _Built(program, weights)
    with _states_kept():
        for ways in trials(example, program, tuple(weights[p.name].detach() for p in program.parameters)):
            if found := _compared(own, built, ways):
                return found
    return []


def _compared(own: _Own, built: _Built, ways: Sequence[Trial]) -> list[Difference]:
    """In the first of several ways in which the module runs."""
    failure: _UnusableError | None = None
    for trial in ways:
        try:
            for number, (expected, outcome) in enumerate(zip(own.outcomes(trial), built.outcomes(trial), strict=True)):
                if _beyond(expected, outcome):
                    return _looked_at_twice(own, built, trial, number)
        except _UnusableError as error:
            if failure is None or failure.__cause__ is None:
                failure = error
        else:
            return []
    assert failure is not None
    raise ModuleFailsError(str(failure)) from failure.__cause__


def _looked_at_twice(own: _Own, built: _Built, trial: Trial, number: int) -> list[Difference]:
    def at(side: _Side, trial: Trial) -> Outcome:
        return next(islice(side.outcomes(trial, drawing=_SameDraws), number, None))

    expected, outcome = at(own, trial), at(built, trial)
    if not (found := _beyond(expected, outcome)):
        return []
    if _beyond(expected, at(own, trial)):
        raise DrawnElsewhereError(trial.stages[number])
    nudged = at(own, trial.nudged())
    return [
        Difference(
            form=trial.stages[number].form,
            kind=key[0],
            name=key[1],
            by=by,
            largest=_largest(expected[key]),
            has=_largest(outcome[key]) if key in outcome else 0.0,
            stage=trial.stages[number],
        )
        for key, by in found.items()
        if by > NUDGES * _apart(expected[key], nudged[key])
    ]


def _beyond(expected: Outcome, outcome: Outcome) -> dict[tuple[Kind, str], float]:
    """What differs by more than rounding, and by how much."""
    largest: dict[str, float] = {}
    for (kind, _), tensor in expected.items():
        largest[kind] = max(largest.get(kind, 0.0), _largest(tensor))
    # What the program holds as a constant has no gradient there.
    apart = {key: _apart(tensor, outcome.get(key, torch.zeros(tensor.shape))) for key, tensor in expected.items()}
    return {
        key: by for key, by in apart.items() if not by <= RELATIVE * _largest(expected[key]) + FLOOR * largest[key[0]]
    }


def _largest(tensor: Tensor) -> float:
    return float(tensor.nan_to_num(0.0, 0.0, 0.0).abs().max()) if tensor.numel() else 0.0


def _apart(a: Tensor, b: Tensor) -> float:
    """The largest difference; infinity where one of both is no number, or not of that shape."""
    if a.shape != b.shape or not torch.equal(a.isfinite(), b.isfinite()):
        return float("inf")
    return _largest(a - b)


class _UnusableError(Exception):
    """The module cannot run like this; its cause is what it raised, if it did."""


class ModuleFailsError(TaskError):
    """The module itself can take no training step; the cause is what it raised, if it did."""


class DrawnElsewhereError(TaskError):
    """The module draws numbers otherwise than by PyTorch's generator; `stage` is a pass in which it does."""

    def __init__(self, stage: Stage) -> None:
        super().__init__("the module does not give the same for the same seed")
        self.stage = stage


class _Side(Protocol):
    """Either of the two that are compared."""

    def outcomes(self, trial: Trial, drawing: Callable[[], AbstractContextManager[Any]] = ...) -> Iterator[Outcome]:
        """What comes out of each stage, one after the other."""


class _Own:
    """The engineer's module in eager PyTorch."""

    def __init__(self, module: nn.Module, program: Program) -> None:
        self._module = module
        self._parameters = {p.name: module.get_parameter(p.name) for p in program.parameters}
        self._constant = {
            name: parameter
            for name, parameter in module.named_parameters()
            if parameter.requires_grad and name not in self._parameters
        }
        self._names = [name for name, tensor in module.named_buffers() if tensor.dtype == torch.float32]
        self._held = [
            (layer, name, tensor, tensor.detach().clone())
            for layer in module.modules()
            for name, tensor in layer._buffers.items()
            if tensor is not None
        ]

    def outcomes(
        self, trial: Trial, drawing: Callable[[], AbstractContextManager[Any]] = nullcontext
    ) -> Iterator[Outcome]:
        """What comes out of each stage, one after the other."""
        self._begin(trial)
        for number, stage in enumerate(trial.stages):
            try:
                outcome = self._outcome(trial, number, stage, drawing)
            except DrawnElsewhereError:
                raise
            except Exception as error:  # whatever the engineer's own forward() raises
                raise _UnusableError(f"{type(error).__name__}: {error}") from error
            if not all(tensor.isfinite().all() for tensor in outcome.values()):
                raise _UnusableError("its numbers or gradients are not finite")
            yield outcome

    def _begin(self, trial: Trial) -> None:
        with torch.no_grad():
            for parameter, weight in zip(self._parameters.values(), trial.weights, strict=True):
                parameter.copy_(weight)
            for layer, name, tensor, held in self._held:
                layer._buffers[name] = tensor.copy_(held)

    def _outcome(
        self, trial: Trial, number: int, stage: Stage, drawing: Callable[[], AbstractContextManager[Any]]
    ) -> Outcome:
        self._module.train(stage.form == "train")
        parameters = self._parameters | self._constant
        for parameter in parameters.values():
            parameter.grad = None
        with _drawn(trial, number, drawing):
            drawn = python_draws()
            with torch.set_grad_enabled(bool(stage.gradient)):
                output = self._module(stage.x)
            if python_draws() != drawn:
                raise DrawnElsewhereError(stage)
            _go_back(output, trial, stage)
        gradients = {name: parameter.grad for name, parameter in parameters.items()}
        buffers = {name: self._module.get_buffer(name).detach().clone() for name in self._names}
        return _outcome(output, gradients, parameters, buffers, stage)


class _Built:
    """The program, as a device's trainer runs it."""

    def __init__(self, program: Program, weights: Mapping[str, Tensor]) -> None:
        self._program = program
        self._interpreter = Interpreter(program)
        self._buffers = [weights[b.name].detach().clone() for b in program.buffers]
        floats = {name: tensor for name, tensor in weights.items() if tensor.dtype == torch.float32}
        self._constant = {n: t for n, t in floats.items() if n not in {b.name for b in program.buffers}}

    def outcomes(
        self, trial: Trial, drawing: Callable[[], AbstractContextManager[Any]] = nullcontext
    ) -> Iterator[Outcome]:
        """What comes out of each stage, one after the other."""
        leaves = [weight.clone().requires_grad_() for weight in trial.weights]
        named = dict(zip((p.name for p in self._program.parameters), leaves, strict=True))
        buffers = list(self._buffers)
        for number, stage in enumerate(trial.stages):
            for leaf in leaves:
                leaf.grad = None
            with _drawn(trial, number, drawing):
                with torch.set_grad_enabled(bool(stage.gradient)):
                    output, buffers = self._interpreter.run(stage.form, [stage.x], leaves, buffers)
                _go_back(output, trial, stage)
            now = self._constant | dict(zip((b.name for b in self._program.buffers), buffers, strict=True))
            yield _outcome(output, {name: leaf.grad for name, leaf in named.items()}, named, now, stage)


def _go_back(output: Tensor, trial: Trial, stage: Stage) -> None:
    """The way back from the output, with a gradient that is drawn at random."""
    if stage.gradient and output.requires_grad:
        draw = torch.Generator().manual_seed(trial.seed)
        output.backward(stage.gradient * torch.randn(output.shape, generator=draw))


def _outcome(
    self, trial: Trial, number: int, stage: Stage, drawing: Callable[[], AbstractContextManager[Any]]
) -> Outcome:
    self._module.train(stage.form == "train")
    parameters = self._parameters | self._constant
    for parameter in parameters.values():
        parameter.grad = None
    with _drawn(trial, number, drawing):
        drawn = python_draws()
        with torch.set_grad_enabled(bool(stage.gradient)):
            output = self._module(stage.x)
        if python_draws() != drawn:
            raise DrawnElsewhereError(stage)
        _go_back(output, trial, stage)
    gradients = {name: parameter.grad for name, parameter in parameters.items()}
    buffers = {name: self._module.get_buffer(name).detach().clone() for name in self._names}
    return _outcome(output, gradients, parameters, buffers, stage)


class _Built:
    """The program, as a device's trainer runs it."""

    def __init__(self, program: Program, weights: Mapping[str, Tensor]) -> None:
        self._program = program
        self._interpreter = Interpreter(program)
        self._buffers = [weights[b.name].detach().clone() for b in program.buffers]
        floats = {name: tensor for name, tensor in weights.items() if tensor.dtype == torch.float32}
        self._constant = {n: t for n, t in floats.items() if n not in {b.name for b in program.buffers}}

    def outcomes(
        self, trial: Trial, drawing: Callable[[], AbstractContextManager[Any]] = nullcontext
    ) -> Iterator[Outcome]:
        """What comes out of each stage, one after the other."""
        leaves = [weight.clone().requires_grad_() for weight in trial.weights]
        named = dict(zip((p.name for p in self._program.parameters), leaves, strict=True))
        buffers = list(self._buffers)
        for number, stage in enumerate(trial.stages):
            for leaf in leaves:
                leaf.grad = None
            with _drawn(trial, number, drawing):
                output, buffers = self._run(stage, leaves, buffers)
                if stage.gradient and output.requires_grad:
                    output.backward(_from_behind(output, trial, stage))
            now = self._constant | dict(zip((b.name for b in self._program.buffers), buffers, strict=True))
            yield _outcome(output, {name: leaf.grad for name, leaf in named.items()}, named, now, stage)

    def _run(self, stage: Stage, leaves: list[Tensor], buffers: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        with torch.set_grad_enabled(bool(stage.gradient)):
            return self._interpreter.run(stage.form, [stage.x], leaves, buffers)


def _forward(run: Callable[[], Tensor], stage: Stage) -> Tensor:
    with torch.set_grad_enabled(bool(stage.gradient)):
        return run()


def _from_behind(output: Tensor, trial: Trial, stage: Stage) -> Tensor:
    draw = torch.Generator().manual_seed(trial.seed)
    return stage.gradient * torch.randn(output.shape, generator=draw)


def _outcome(
    output: Tensor,
    gradients: Mapping[str, Tensor | None],
    parameters: Mapping[str, Tensor],
    buffers: Mapping[str, Tensor],
    stage: Stage,
) -> Outcome:
    outcome: Outcome = {("output", ""): output.detach()}
    if stage.gradient:
        for name, gradient in gradients.items():
            outcome["gradient", name] = torch.zeros_like(parameters[name]) if gradient is None else gradient
    return outcome | {("buffer", name): buffer for name, buffer in buffers.items()}


@contextmanager
def _drawn(trial: Trial, number: int, drawing: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
    """Within, what is drawn at random depends on the trial and the stage alone."""
    seed = 100 * trial.seed + number
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    with drawing():
        yield


def python_draws() -> tuple[Any, ...]:
    """Where Python's and NumPy's generators are: not the same once something was drawn."""
    name, state, *rest = np.random.get_state()
    return random.getstate(), name, state.tobytes(), *rest  # type: ignore[union-attr]


class _SameDraws(TorchDispatchMode):
    """Each random operator draws from the same state: in whichever order, equals are drawn for equals."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            torch.manual_seed(0)
        return func(*args, **(kwargs or {}))


@contextmanager
def _states_kept() -> Iterator[None]:
    """Within, all generators may be used; afterwards they are where they were."""
    own, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        yield
    random.setstate(own)
    np.random.set_state(numpy)
