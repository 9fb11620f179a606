"""A module in eager PyTorch and the program that was built from it, run through the same passes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from grapevine_proto.errors import TaskError
from grapevine_proto.program import Program
from grapevine_tasks.authoring.probes import Stage, Trial
from grapevine_tasks.interpreter import Interpreter

Kind: TypeAlias = Literal["output", "gradient", "buffer"]
Outcome: TypeAlias = dict[tuple[Kind, str], Tensor]  # of one pass, by what it is and whose
Drawing: TypeAlias = Callable[[], AbstractContextManager[Any]]


class UnusableError(Exception):
    """The module cannot run like this; its cause is what it raised, if it did."""


class DrawnElsewhereError(TaskError):
    """The module draws numbers otherwise than by PyTorch's generator; `stage` is a pass in which it does."""

    def __init__(self, stage: Stage) -> None:
        super().__init__("the module does not give the same for the same seed")
        self.stage = stage


class OwnSide:
    """The engineer's module in eager PyTorch. It is changed: see `put_back`."""

    def __init__(self, module: nn.Module, program: Program) -> None:
        self._module = module
        named = dict(module.named_parameters())
        self._trained = {p.name: named[p.name] for p in program.parameters}
        # What the program holds as a constant has a gradient of zero there.
        self._parameters = self._trained | {n: t for n, t in named.items() if t.requires_grad}
        self._names = [name for name, tensor in module.named_buffers() if tensor.dtype == torch.float32]
        self._held = [
            (layer, name, tensor, tensor.detach().clone())
            for layer in module.modules()
            for name, tensor in layer._buffers.items()
            if tensor is not None
        ]

    def outcomes(self, trial: Trial, drawing: Drawing = nullcontext) -> Iterator[Outcome]:
        """What comes out of each stage, one after the other. Raises UnusableError and DrawnElsewhereError."""
        self._begin(trial)
        for number in range(len(trial.stages)):
            try:
                outcome = self._run(trial, number, drawing)
            except DrawnElsewhereError:
                raise
            except Exception as error:  # whatever the engineer's own forward() raises
                raise UnusableError(f"{type(error).__name__}: {error}") from error
            finite = all(bool(t.isfinite().all()) for (kind, _), t in outcome.items() if kind != "buffer")
            if not finite:
                raise UnusableError("its numbers or gradients are not finite")
            yield outcome

    def _begin(self, trial: Trial) -> None:
        with torch.no_grad():
            for parameter, weight in zip(self._trained.values(), trial.weights, strict=True):
                parameter.copy_(weight)
            for layer, name, tensor, held in self._held:
                layer._buffers[name] = tensor.copy_(held)

    def _run(self, trial: Trial, number: int, drawing: Drawing) -> Outcome:
        stage = trial.stages[number]
        self._module.train(stage.form == "train")
        for parameter in self._parameters.values():
            parameter.grad = None
        with _drawn(trial, number, drawing):
            drawn = python_draws()
            with torch.set_grad_enabled(bool(stage.gradient)), _without_fast_paths():
                output = self._module(stage.x)
            if python_draws() != drawn:
                raise DrawnElsewhereError(stage)
            _go_back(output, trial, stage)
        buffers = {name: self._module.get_buffer(name).detach().clone() for name in self._names}
        return _outcome(output, self._parameters, buffers, stage)


class ProgramSide:
    """The program, as a device's trainer runs it."""

    def __init__(self, program: Program, weights: Mapping[str, Tensor]) -> None:
        self._program = program
        self._interpreter = Interpreter(program)
        self._buffers = {b.name: weights[b.name].detach().clone() for b in program.buffers}
        self._constant = {name: tensor for name, tensor in weights.items() if name not in self._buffers}

    def outcomes(self, trial: Trial, drawing: Drawing = nullcontext) -> Iterator[Outcome]:
        """What comes out of each stage, one after the other."""
        leaves = [weight.clone().requires_grad_() for weight in trial.weights]
        named = dict(zip((p.name for p in self._program.parameters), leaves, strict=True))
        buffers = list(self._buffers.values())
        for number, stage in enumerate(trial.stages):
            for leaf in leaves:
                leaf.grad = None
            with _drawn(trial, number, drawing):
                with torch.set_grad_enabled(bool(stage.gradient)):
                    output, buffers = self._interpreter.run(stage.form, [stage.x], leaves, buffers)
                _go_back(output, trial, stage)
            now = self._constant | dict(zip(self._buffers, buffers, strict=True))
            yield _outcome(output, named, now, stage)


@contextmanager
def _without_fast_paths() -> Iterator[None]:
    """Within, layers of attention compute what they say.

    Without gradients they take a shorter way by themselves, and that gives zeros for what is padded.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _go_back(output: Tensor, trial: Trial, stage: Stage) -> None:
    """The way back from the output, with a gradient that is drawn at random."""
    if stage.gradient and output.requires_grad:
        draw = torch.Generator().manual_seed(trial.seed)
        torch.autograd.backward(output, stage.gradient * torch.randn(output.shape, generator=draw))


def _outcome(output: Tensor, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], stage: Stage) -> Outcome:
    outcome: Outcome = {("output", ""): output.detach()}
    if stage.gradient:
        for name, each in parameters.items():
            outcome["gradient", name] = torch.zeros_like(each) if each.grad is None else each.grad
    return outcome | {("buffer", name): buffer for name, buffer in buffers.items()}


@contextmanager
def _drawn(trial: Trial, number: int, drawing: Drawing) -> Iterator[None]:
    """Within, what is drawn at random depends on the trial and the stage alone."""
    seed = 100 * trial.seed + number
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    with drawing():
        yield


def python_draws() -> tuple[Any, ...]:
    """Where Python's and NumPy's generators are: not the same once something was drawn."""
    numpy = np.random.get_state(legacy=False)
    return random.getstate(), repr(numpy["state"]["pos"]), numpy["state"]["key"].tobytes(), numpy["gauss"]


class SameDraws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Each random operator draws from the same state: in whichever order, equals are drawn for equals."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            torch.manual_seed(0)
        return func(*args, **(kwargs or {}))


@contextmanager
def states_kept() -> Iterator[None]:
    """Within, all generators may be used; afterwards they are where they were."""
    own, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        yield
    random.setstate(own)
    np.random.set_state(numpy)
