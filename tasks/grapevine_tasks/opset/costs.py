"""What operators cost: floating-point operations of the forward pass, and float32 elements beside the results.

A cost is a function of the resolved arguments (in the order of the signature) and the types of the results;
`table.RULES` says which operator has which.
"""

# ruff: noqa: D103 — named after their operators, one line each
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

from grapevine_tasks.opset.shape_rules.common import Types
from grapevine_tasks.sizes import ONE, Size, TensorType

Cost: TypeAlias = Callable[[tuple[Any, ...], Types], Size]


def no_cost(arguments: tuple[Any, ...], results: Types) -> Size:  # noqa: ARG001
    return Size(())


def one_kernel(arguments: tuple[Any, ...], results: Types) -> Size:  # noqa: ARG001
    return ONE


def elements(value: object) -> Size:
    return value.num_elements if isinstance(value, TensorType) else ONE


def each(cost: int) -> Cost:
    """So many operations for each element of the first result."""

    def cost_of(arguments: tuple[Any, ...], results: Types) -> Size:  # noqa: ARG001
        return Size.constant(cost) * elements(results[0])

    return cost_of


def read(arguments: tuple[Any, ...], results: Types) -> Size:  # noqa: ARG001
    """One operation for each element of the first argument."""
    return elements(arguments[0])


def each_read(cost: int) -> Cost:
    """So many operations for each element of the first argument."""

    def cost_of(arguments: tuple[Any, ...], results: Types) -> Size:  # noqa: ARG001
        return Size.constant(cost) * elements(arguments[0])

    return cost_of


def linear(arguments: tuple[Any, ...], results: Types) -> Size:
    weight: TensorType = arguments[1]
    return Size.constant(2) * elements(results[0]) * weight.shape[1]


def matmul(arguments: tuple[Any, ...], results: Types) -> Size:
    left: TensorType = arguments[0]
    return Size.constant(2) * elements(results[0]) * left.shape[-1]


def weights_per_output(weight: TensorType) -> Size:
    return math.prod(weight.shape[1:], start=ONE)


def convolution(arguments: tuple[Any, ...], results: Types) -> Size:
    return Size.constant(2) * elements(results[0]) * weights_per_output(arguments[1])


def columns(arguments: tuple[Any, ...], results: Types) -> Size:
    """The unfolded input: one column of a kernel's size for every position of every sample."""
    result = results[0]
    assert isinstance(result, TensorType)
    positions = math.prod(result.shape[2:], start=result.shape[0])
    return positions * weights_per_output(arguments[1]) * Size.constant(arguments[6])


def pooling(arguments: tuple[Any, ...], results: Types) -> Size:
    return Size.constant(math.prod(arguments[1])) * elements(results[0])


def recurrent(gates: int) -> Cost:
    """Two matrix products a gate, step and layer. All weights but biases take part in each step."""

    def cost_of(arguments: tuple[Any, ...], results: Types) -> Size:
        x, weights = arguments[0], next(each for each in arguments if isinstance(each, tuple))
        steps = math.prod(x.shape[:2], start=ONE)
        matrices = [weight.num_elements for weight in weights if len(weight.shape) == 2]
        return Size.constant(2) * steps * sum(matrices, start=Size(())) + Size.constant(8 * gates) * elements(
            results[0]
        )

    return cost_of


def gates(gates: int) -> Cost:
    """What a recurrent layer keeps of each step, beside its result, for the gradients."""

    def workspace_of(arguments: tuple[Any, ...], results: Types) -> Size:
        layers = next(each for each in arguments if type(each) is int)
        return Size.constant((gates + 2) * layers) * elements(results[0])

    return workspace_of


def kernels_a_step(number: int) -> Cost:
    """So many kernels for every step of every layer, in either direction: one cannot start before the other is done."""

    def kernels_of(arguments: tuple[Any, ...], results: Types) -> Size:  # noqa: ARG001
        at = next(k for k, each in enumerate(arguments) if isinstance(each, tuple))
        layers, _, _, bidirectional, batch_first = arguments[at + 2 : at + 7]
        steps: Size = arguments[0].shape[1 if batch_first else 0]
        return Size.constant(number * layers * (2 if bidirectional else 1)) * steps

    return kernels_of


def cell(arguments: tuple[Any, ...], results: Types) -> Size:  # noqa: ARG001
    matrices = [each for each in arguments if isinstance(each, TensorType) and len(each.shape) == 2][-2:]
    x: TensorType = arguments[0]
    return Size.constant(2) * x.shape[0] * (matrices[0].num_elements + matrices[1].num_elements)


def scores(arguments: tuple[Any, ...], results: Types) -> Size:  # noqa: ARG001
    """How many pairs of a query and a key there are."""
    query: TensorType = arguments[0]
    key: TensorType = arguments[1]
    return math.prod(query.shape[:-1], start=ONE) * key.shape[-2]


def attention(arguments: tuple[Any, ...], results: Types) -> Size:
    query: TensorType = arguments[0]
    value: TensorType = arguments[2]
    pairs = scores(arguments, results)
    return Size.constant(2) * pairs * (query.shape[-1] + value.shape[-1]) + Size.constant(5) * pairs


def two_scores(arguments: tuple[Any, ...], results: Types) -> Size:
    return Size.constant(2) * scores(arguments, results)


def transposed(arguments: tuple[Any, ...], results: Types) -> Size:  # noqa: ARG001
    return Size.constant(2) * elements(arguments[0]) * weights_per_output(arguments[1])


def transposed_columns(arguments: tuple[Any, ...], results: Types) -> Size:  # noqa: ARG001
    x: TensorType = arguments[0]
    return math.prod(x.shape[2:], start=x.shape[0]) * weights_per_output(arguments[1]) * Size.constant(arguments[-2])
