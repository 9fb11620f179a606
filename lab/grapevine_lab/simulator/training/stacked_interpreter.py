"""The interpreter for many models at once: every value has one more dimension in front, a row for each model.

Operators on one element at a time need no change. A linear layer is a batched product of matrices.
For any other operator `torch.vmap` finds out what it is with a dimension more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from grapevine_lab.simulator.training.quick_dropout import kept, share
from grapevine_lab.simulator.training.quick_pooling import max_pool2d
from grapevine_lab.simulator.training.rows import batch_norm_train, channels_last, convolved, linear
from grapevine_proto.errors import TaskError
from grapevine_proto.program import Argument, Graph, Node, Operator, Program, Ref
from grapevine_tasks.interpreter import Interpreter
from grapevine_tasks.interpreter.interpreter import _Step

Op = Operator
Places = list[tuple[int, int | None]]  # of arguments: (position, None), or for a sequence (position, position in it)
# These take one tensor and numbers, and treat each element alike.
_BY_ELEMENT = frozenset(
    {Op.POW, Op.CLAMP, Op.NEG, Op.ABS, Op.EXP, Op.LOG, Op.SQRT, Op.RSQRT, Op.RECIPROCAL, Op.SIN, Op.COS}
    | {Op.RELU, Op.LEAKY_RELU, Op.ELU, Op.GELU, Op.SILU, Op.SIGMOID, Op.TANH, Op.HARDTANH, Op.HARDSWISH}
    | {Op.HARDSIGMOID, Op.SOFTPLUS, Op.MISH, Op.TO_FLOAT32}
)


class StackedInterpreter(Interpreter):
    """Runs a program on many models at once.

    `run` takes parameters and buffers [models, …], and gives such buffers and an output [models, batch, …].
    Set `generators`, one for each model, before a graph with dropout is run.

    Args:
        program: Checked.
        stacked_inputs: Whether inputs are [models, batch, …] too; else they are [batch, …], the same for all.

    Raises:
        TaskError: When the output has nothing to do with the model.
    """

    def __init__(self, program: Program, *, stacked_inputs: bool) -> None:
        super().__init__(program)
        self.generators: Sequence[torch.Generator] = ()
        for name, graph in self._graphs.items():
            kernels = self._lift(program, graph, stacked_inputs=stacked_inputs)
            self._steps[name] = [
                replace(step, kernel=kernel or step.kernel)
                for step, kernel in zip(self._steps[name], kernels, strict=True)
            ]

    @property
    def constants(self) -> list[Tensor]:
        """The program's."""
        return self._constants

    def steps(self, graph: Literal["train", "eval"]) -> list[_Step]:
        """The nodes of a graph with kernels for stacked values."""
        return self._steps[graph]

    def _lift(self, program: Program, graph: Graph, *, stacked_inputs: bool) -> list[Callable[..., Any] | None]:
        """For each node its kernel for stacked values; None where none of its arguments is stacked."""
        stacked = stacked_values(program, graph, stacked_inputs=stacked_inputs)
        kernels: list[Callable[..., Any] | None] = []
        for node, step in zip(graph.nodes, self._steps["train" if graph is program.train else "eval"], strict=True):
            where = _stacked_places(node.arguments, stacked)
            kernels.append(self._kernel(node, step.kernel, where) if where else None)
        if not stacked[graph.output]:
            raise TaskError("the output depends on no parameter")
        return kernels

    def _kernel(self, node: Node, kernel: Callable[..., Any], where: Places) -> Callable[..., Any]:
        if node.operator in _BY_ELEMENT:
            return kernel
        bias = node.arguments[2] if node.operator in {Op.LINEAR, Op.CONV2D} else None
        match node.operator:
            case Op.SIZE:
                return lambda x, dim: x.shape[dim + 1 if dim >= 0 else dim]
            case Op.RESHAPE:
                return lambda x, shape: x.reshape((x.shape[0], *shape))
            case Op.DROPOUT:
                return self._dropout
            case Op.LINEAR if (1, None) in where and (bias is None or (2, None) in where):
                return _linear if (0, None) in where else _linear_of_same
            case Op.CONV2D if (1, None) in where and (bias is None or (2, None) in where):
                return _conv2d if (0, None) in where else _conv2d_of_same
            case Op.MAX_POOL2D:
                return _max_pool2d
            case Op.BATCH_NORM_TRAIN if _all_stacked(node.arguments[:5], where):
                return _batch_norm_train
        return _mapped(kernel, where)

    def masked(self, x: Tensor, p: float) -> tuple[Tensor, Tensor | float]:
        """Dropout, and what elements were multiplied by.

        Each model's mask is drawn as `torch.nn.functional.dropout` draws it, from a generator of its own.
        """
        if p in {0, 1}:
            return x * (1 - p), 1 - p
        masks = torch.empty(x.shape, dtype=torch.bool)
        for mask, generator in zip(masks, self.generators, strict=True):
            kept(mask, p, generator)
        factors = torch.mul(masks, share(p), out=torch.empty_like(x))
        return x * factors, factors

    def _dropout(self, x: Tensor, p: float) -> Tensor:
        return self.masked(x, p)[0]


def stacked_values(program: Program, graph: Graph, *, stacked_inputs: bool) -> list[bool]:
    """Of each value of a graph, by its number, whether it has a row for each model."""
    num_models = len(program.parameters) + len(program.buffers)
    stacked = [stacked_inputs] * len(program.inputs) + [True] * num_models + [False] * len(program.constants)
    for node in graph.nodes:
        own = bool(_stacked_places(node.arguments, stacked)) and node.operator is not Op.SIZE
        stacked += [own] * node.num_results
    return stacked


def _stacked_places(arguments: Sequence[Argument], stacked: list[bool]) -> Places:
    """Which arguments are stacked."""
    places: Places = []
    for position, argument in enumerate(arguments):
        if isinstance(argument, Ref) and stacked[argument.value]:
            places.append((position, None))
        elif isinstance(argument, tuple):
            places += [
                (position, k) for k, item in enumerate(argument) if isinstance(item, Ref) and stacked[item.value]
            ]
    return places


def _all_stacked(arguments: Sequence[Argument], where: Places) -> bool:
    return all(argument is None or (position, None) in where for position, argument in enumerate(arguments))


def _mapped(kernel: Callable[..., Any], where: Places) -> Callable[..., Any]:
    """The kernel over the rows of the arguments at these places; the others are the same for all rows."""

    def lifted(*arguments: Any) -> Any:
        def of_one_row(*rows: Tensor) -> Any:
            own = [list(argument) if isinstance(argument, list) else argument for argument in arguments]
            for (position, k), row in zip(where, rows, strict=True):
                if k is None:
                    own[position] = row
                else:
                    own[position][k] = row
            return kernel(*own)

        given = [arguments[position] if k is None else arguments[position][k] for position, k in where]
        return torch.vmap(of_one_row)(*given)

    return lifted


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """X [n, …, in], weight [n, out, in], bias [n, out] or None → [n, …, out]."""
    result: Tensor = _Linear.apply(x.reshape(len(x), -1, x.shape[-1]), weight, bias)  # type: ignore[no-untyped-call]
    return result.view(*x.shape[:-1], weight.shape[1])


def _linear_of_same(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The same x [batch, …, in] for all rows."""
    return _linear(x.expand(len(weight), *x.shape), weight, bias)


def _batch_norm_train(x: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    result, _, _, mean, variance = batch_norm_train(x, *others)
    return result, mean, variance


def _conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, *places: Any) -> Tensor:
    return convolved([channels_last(each) for each in x], [channels_last(each) for each in weight], bias, places)


def _conv2d_of_same(x: Tensor, weight: Tensor, bias: Tensor | None, *places: Any) -> Tensor:
    """The same x [batch, …] for all rows."""
    return convolved([channels_last(x)] * len(weight), [channels_last(each) for each in weight], bias, places)


def _max_pool2d(x: Tensor, *window: Any) -> Tensor:
    pooled = max_pool2d(x.flatten(0, 1), *window)
    return pooled.view(*x.shape[:2], *pooled.shape[1:])


class _Linear(torch.autograd.Function):
    """A linear layer of each row whose weights' gradient comes out in the order of the weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        back = gradients[0]
        return (
            torch.bmm(back, weight) if ctx.needs_input_grad[0] else None,
            torch.bmm(back.mT, x),
            back.sum(1) if ctx.has_bias else None,
        )
