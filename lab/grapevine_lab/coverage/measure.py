"""One named model, built into a program, sent through the codec, checked, and trained beside eager PyTorch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from grapevine_lab.coverage.models import NamedModel
from grapevine_proto.program import Program
from grapevine_proto.program_codec import decode_program, encode_program
from grapevine_tasks.authoring.export import build_program
from grapevine_tasks.checks import ProgramLimits, check_program
from grapevine_tasks.interpreter import Interpreter
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.weights import decode_weights

FEWEST_PAIRS = 7


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What was found of one model. Differences are the largest of any element, over the largest gradient."""

    num_nodes: int  # of the train graph
    num_operators: int  # different ones
    program_bytes: int
    num_parameters: int
    gradient_difference: float
    output_difference: float
    batch: int
    pairs: tuple[float, ...] = ()  # eager's time of a step over the interpreter's, of each pair

    @property
    def speed(self) -> float:
        """The median of the pairs: 1 is as fast as eager PyTorch, 0.5 takes twice as long."""
        return statistics.median(self.pairs)

    @property
    def is_exact(self) -> bool:
        """Whether outputs and gradients are eager's, to the bit."""
        return self.gradient_difference == 0 and self.output_difference == 0


def cover(model: NamedModel, *, seed: int = 0, seconds: float = 0.0) -> Coverage:
    """Build a model and compare a training step, an evaluation and, for so long, the time of training steps.

    Raises TaskError when the model cannot be a task.
    """
    torch.manual_seed(seed)
    module = model.build()
    built, weights = build_program(module, model.batch_of(3))
    encoded = encode_program(built)
    program = decode_program(encoded)
    report = check_program(program, ProgramLimits(largest_batch=model.batch, evaluation_batch=model.batch))
    both = _BothWays(module, program, weights)
    x = model.batch_of(model.batch)
    gradients, outputs = both.differences(x, seed)
    return Coverage(
        num_nodes=len(program.train.nodes),
        num_operators=len(report.operators),
        program_bytes=len(encoded),
        num_parameters=report.num_parameters,
        gradient_difference=gradients,
        output_difference=outputs,
        batch=model.batch,
        pairs=both.time_pairs(x, seconds) if seconds else (),
    )


class _BothWays:
    """The same weights and step, in eager PyTorch and interpreted."""

    def __init__(self, module: nn.Module, program: Program, weights: bytes) -> None:
        self._module = module
        self._interpreter = Interpreter(program)
        layout = ModelLayout.of(program)
        named = {n: torch.from_numpy(t.copy()) for n, t in layout.split(*decode_weights(layout, weights)).items()}
        self._parameters = [named[entry.name].requires_grad_() for entry in layout.parameters]
        self._names = [entry.name for entry in layout.parameters]
        self._buffers = [named[entry.name] for entry in layout.buffers]

    def differences(self, x: Tensor, seed: int) -> tuple[float, float]:
        """Of a step's gradients, relative to the largest, and of the outputs in both modes."""
        torch.manual_seed(seed)
        expected, wanted = self._eager(x)
        torch.manual_seed(seed)
        output, gradients = self._interpreted(x)
        largest = max(float(each.abs().max()) for each in wanted)
        apart = max(float((a - b).abs().max()) for a, b in zip(gradients, wanted, strict=True)) / largest
        outputs = float((output - expected).detach().abs().max())
        with torch.no_grad():
            evaluated = self._interpreter.run("eval", (x,), self._parameters, self._buffers)[0]
            outputs = max(outputs, float((evaluated - self._module.eval()(x)).abs().max()))
        return apart, outputs

    def time_pairs(self, x: Tensor, seconds: float) -> tuple[float, ...]:
        """Steps of both in turn, for so many seconds; which comes first changes from pair to pair."""
        self._eager(x)
        self._interpreted(x)
        pairs: list[float] = []
        until = time.monotonic() + seconds
        while len(pairs) < FEWEST_PAIRS or time.monotonic() < until:
            if len(pairs) % 2:
                eager, ours = _timed(lambda: self._eager(x)), _timed(lambda: self._interpreted(x))
            else:
                ours, eager = _timed(lambda: self._interpreted(x)), _timed(lambda: self._eager(x))
            pairs.append(eager / ours)
        return tuple(pairs)

    def _eager(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        named = dict(self._module.train().named_parameters())
        output: Tensor = self._module(x)
        return output, torch.autograd.grad(output.square().mean(), [named[name] for name in self._names])

    def _interpreted(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        output, self._buffers = self._interpreter.run("train", (x,), self._parameters, self._buffers)
        return output, torch.autograd.grad(output.square().mean(), self._parameters)


def _timed(step: Callable[[], object]) -> float:
    begin = time.perf_counter()
    step()
    return time.perf_counter() - begin
