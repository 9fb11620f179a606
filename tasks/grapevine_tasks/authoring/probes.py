"""The numbers with which a program is held against its module: batches, weights, and what comes back as gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from grapevine_proto.program import Operator, Program, Ref

NUM_SAMPLES = (5, 3)  # of the two batches: a number that was taken for the batch's cannot be both
_LOOKS_UP = {Operator.EMBEDDING, Operator.INDEX_SELECT}
_FEW_WORDS = 2  # where nothing says how many there are
Way: TypeAlias = Callable[[int, torch.Generator], Tensor]
_NUDGE = 2.0**-21  # two units in the last place of a float32 number, or four


@dataclass(frozen=True)
class Stage:
    """One pass: in which form, with which samples, and how large the gradient is that comes from behind."""

    form: Literal["train", "eval"]
    x: Tensor
    gradient: float  # 0: under `no_grad`, as models are evaluated


@dataclass(frozen=True)
class Trial:
    """Passes one after the other, from these weights and this seed; what buffers hold goes from one to the next."""

    seed: int
    weights: tuple[Tensor, ...]
    stages: tuple[Stage, ...]

    def nudged(self) -> Trial:
        """The same with every float changed by so little that it may as well be rounding."""
        draw = torch.Generator().manual_seed(self.seed)
        weights = tuple(_nudged(each, draw) for each in self.weights)
        return replace(self, weights=weights, stages=tuple(replace(s, x=_nudged(s.x, draw)) for s in self.stages))


def trials(example: Tensor, program: Program, weights: tuple[Tensor, ...]) -> Iterator[list[Trial]]:
    """Two trials, each in several ways of which the first that the module can run with is meant.

    The first has the weights as they are. The second has others near them: layers that begin at zero let no
    gradient pass, and what stands before them could not be seen. Its gradients are larger, because what a module
    does to them may begin at some size.
    """
    for seed, gradient in ((1, 1.0), (2, 1000.0)):
        draw = torch.Generator().manual_seed(seed)
        found = []
        for way in _ways(example, program):
            first, second = (way(num, draw) for num in NUM_SAMPLES)
            stages = (
                Stage("train", first, gradient),
                Stage("train", second, gradient),
                Stage("eval", first, gradient),
                Stage("eval", second, 0.0),
            )
            near = tuple(each + 0.05 * _size(each) * _normal(each.shape, draw) for each in weights)
            found += [Trial(seed, each, stages) for each in ((weights,) if seed == 1 else (near, weights))]
        yield found


def _ways(example: Tensor, program: Program) -> list[Way]:
    """How samples are made: like the engineer's own, if these differ; else of numbers that are usual."""
    shape = example.shape[1:]

    def rows(num: int, draw: torch.Generator) -> Tensor:
        chosen = example[torch.randint(len(example), (num,), generator=draw)]
        return chosen * (1 + 0.05 * _normal(chosen.shape, draw)) if chosen.is_floating_point() else chosen

    varies = len(example) > 0 and bool((example != example.flatten()[0]).any())
    if example.dtype == torch.int64:
        words = _num_words(program)
        made: list[Way] = [lambda num, draw: torch.randint(words, (num, *shape), generator=draw), rows]
        return made[::-1] if varies else made
    usual: list[Way] = [
        lambda num, draw: _normal((num, *shape), draw),
        lambda num, draw: 0.05 + 0.9 * torch.rand((num, *shape), generator=draw),
    ]
    return [rows, *usual] if varies else usual


def _num_words(program: Program) -> int:
    """Below which number indices are that the model looks up: the fewest rows of a table of parameters."""
    rows = []
    for node in program.train.nodes:
        table = node.arguments[0]
        if node.operator in _LOOKS_UP and isinstance(table, Ref):
            at = table.value - program.first_parameter
            rows += [program.parameters[at].shape[0]] if 0 <= at < len(program.parameters) else []
    return min(rows, default=_FEW_WORDS)


def _size(tensor: Tensor) -> float:
    """Of what order a parameter's numbers are; what begins at zero becomes small."""
    return float(tensor.square().mean().sqrt()) or 0.5


def _normal(shape: torch.Size | tuple[int, ...], draw: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=draw)


def _nudged(tensor: Tensor, draw: torch.Generator) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    signs = torch.randint(0, 2, tensor.shape, generator=draw) * 2 - 1
    return tensor * (1 + _NUDGE * signs)
