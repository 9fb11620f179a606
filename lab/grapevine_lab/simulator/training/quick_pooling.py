"""The interpreter with faster max-pooling and dropout: the same numbers, bit for bit.

PyTorch's max-pooling of an image whose channels lie one after the other goes from pixel to pixel; it
takes a third of a small convolutional network's training step, and most of its evaluation. With the
channels of a pixel side by side it is vectorised, and copying them there and back costs less than that
saves. Without gradients nobody asks which pixel was the largest, and a few element-wise maxima do.

A ReLU just before is done just after, on fewer pixels. It keeps the order of numbers, so the largest
pixel stays the largest; where that is not positive, neither way lets a gradient through.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — its usual name

from grapevine_lab.simulator.training.quick_dropout import dropout
from grapevine_proto.program import Graph, Operator, Program, Ref
from grapevine_tasks.interpreter import Interpreter
from grapevine_tasks.interpreter.interpreter import _Step

_IMAGES = 4  # dimensions of a batch of them
_MOST_MAXIMA = 16  # pixels in a window, beyond which one pass is better than many

Pair = list[int] | tuple[int, ...]  # of height and width


class QuickInterpreter(Interpreter):
    """Runs a program as `Interpreter` does, with the same results."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self._steps = {name: _quick(program, graph, self._steps[name]) for name, graph in self._graphs.items()}


def _quick(program: Program, graph: Graph, steps: list[_Step]) -> list[_Step]:
    """The graph's steps with other kernels where there are faster ones."""
    moved = moved_relus(program, graph)
    changed: list[_Step] = []
    for step in steps:
        number = step.arguments[0].value if step.arguments and isinstance(step.arguments[0], Ref) else None
        if len(changed) in moved.values():
            changed.append(replace(step, kernel=_same))
        elif step.operator is Operator.DROPOUT:
            changed.append(replace(step, kernel=dropout))
        elif step.operator is Operator.MAX_POOL2D:
            changed.append(replace(step, kernel=_max_pool2d_then_relu if number in moved else max_pool2d))
        else:
            changed.append(step)
    return changed


def moved_relus(program: Program, graph: Graph) -> dict[int, int]:
    """The ReLUs whose result nothing but a max-pooling reads: the number of that value, and of the node."""
    readers: dict[int, list[Operator | None]] = {graph.output: [None]}
    for update in graph.updates:
        readers.setdefault(update.value, []).append(None)
    for node in graph.nodes:
        for argument in node.arguments:
            for item in argument if isinstance(argument, tuple) else (argument,):
                if isinstance(item, Ref):
                    readers.setdefault(item.value, []).append(node.operator)
    found = {}
    number = program.first_result
    for index, node in enumerate(graph.nodes):
        if node.operator is Operator.RELU and readers.get(number) == [Operator.MAX_POOL2D]:
            found[number] = index
        number += node.num_results
    return found


def _same(x: Tensor) -> Tensor:
    return x


def _max_pool2d_then_relu(x: Tensor, *window: Any) -> Tensor:
    return torch.relu(max_pool2d(x, *window))


def max_pool2d(x: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil: bool) -> Tensor:
    """What `torch.nn.functional.max_pool2d` computes, and its gradient."""
    if x.dim() != _IMAGES:
        return F.max_pool2d(x, kernel, stride, padding, dilation, ceil)
    if torch.is_grad_enabled() and x.requires_grad:
        pooled: Tensor = _MaxPool.apply(x, kernel, stride, padding, dilation, ceil)  # type: ignore[no-untyped-call]
        return pooled
    if tuple(padding) == (0, 0) and tuple(dilation) == (1, 1) and not ceil and kernel[0] * kernel[1] <= _MOST_MAXIMA:
        return _largest(_largest(x, 2, kernel[0], stride[0]), 3, kernel[1], stride[1])
    return F.max_pool2d(x, kernel, stride, padding, dilation, ceil)


def _largest(x: Tensor, dim: int, width: int, stride: int) -> Tensor:
    """The maximum of each window along one dimension."""
    num_windows = (x.shape[dim] - width) // stride + 1
    every = slice(None)
    found: Tensor | None = None
    for first in range(width):
        at = [every] * dim + [slice(first, first + (num_windows - 1) * stride + 1, stride)]
        part = x[tuple(at)]
        found = part if found is None else torch.maximum(found, part)
    assert found is not None
    return found


class _MaxPool(torch.autograd.Function):
    """Forward with channels last, backward as ever."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        kernel: Pair,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        ceil: bool,
    ) -> Tensor:
        pooled, places = torch.ops.aten.max_pool2d_with_indices(
            x.contiguous(memory_format=torch.channels_last), kernel, stride, padding, dilation, ceil
        )
        ctx.save_for_backward(x, places.contiguous())
        ctx.windows = (kernel, stride, padding, dilation, ceil)
        result: Tensor = pooled.contiguous()
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, places = ctx.saved_tensors
        back = torch.ops.aten.max_pool2d_with_indices_backward(gradients[0], x, *ctx.windows, places)
        return back, None, None, None, None, None
