"""Operators on stacked values forward and backward, written out: what a `Tape` is made of.

Values are [models, …] as in `StackedInterpreter`. A rule's `forward` takes the operator's arguments and gives
its result and whatever `backward` needs of it. `backward` takes that, the gradient of the (first) result, and
for each argument a sink, or None where no gradient is wanted; it puts the gradients there. A sink of a
parameter may change that parameter at once, so an argument's sink comes last that `backward` reads no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from grapevine_lab.simulator.training.rows import batch_norm_train, channels_last, convolved, joined, linear
from grapevine_proto.program import Operator

Op = Operator
aten = torch.ops.aten


class Sink(Protocol):
    """Where an argument's gradient goes."""

    def add(self, gradient: Tensor) -> None:
        """A part of the gradient, [models, …] of the argument's shape; not changed by anybody afterwards."""
        ...

    def product(self, left: Tensor, right: Tensor) -> None:
        """A part that is a product of matrices: left [models, a, k], right [models, k, b]."""
        ...


Sinks = Sequence[Sink | None]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """An operator in both directions."""

    forward: Callable[..., tuple[Any, Any]]
    backward: Callable[[Any, Tensor, Sinks], None]


def _by_element(forward: Callable[..., Tensor], backward: Callable[..., Tensor], *, of_result: bool = False) -> Rule:
    """One tensor and numbers; `backward` takes the gradient, the argument or the result, and the numbers."""

    def run(x: Tensor, *numbers: Any) -> tuple[Tensor, Any]:
        result = forward(x, *numbers)
        return result, (result if of_result else x, numbers)

    def back(saved: Any, gradient: Tensor, sinks: Sinks) -> None:
        value, numbers = saved
        _put(sinks[0], lambda: backward(gradient, value, *numbers))

    return Rule(forward=run, backward=back)


def _put(sink: Sink | None, gradient: Callable[[], Tensor]) -> None:
    if sink is not None:
        sink.add(gradient())


# --- linear ------------------------------------------------------------------------------------


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Any]:
    return linear(x, weight, bias), (x, weight)


def _linear_back(saved: Any, gradient: Tensor, sinks: Sinks) -> None:
    x, weight = saved
    rows = x.reshape(len(x), -1, x.shape[-1])
    back = gradient.reshape(len(x), -1, weight.shape[1])
    of_x, of_weight, of_bias = sinks
    if of_x is not None:
        sideways = not rows.is_contiguous() and rows.mT.is_contiguous()  # then so is what comes back
        of_x.add((torch.bmm(weight.mT, back.mT).mT if sideways else torch.bmm(back, weight)).view_as(x))
    if of_bias is not None:
        of_bias.add(back.sum(1))
    if of_weight is not None:
        of_weight.product(back.mT, rows)


# --- images ------------------------------------------------------------------------------------


def _conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, *places: Any) -> tuple[Tensor, Any]:
    images, kernels = [channels_last(each) for each in x], [channels_last(each) for each in weight]
    return convolved(images, kernels, bias, places), (images, kernels, places)


def _conv2d_back(saved: Any, gradient: Tensor, sinks: Sinks) -> None:
    images, kernels, (stride, padding, dilation, groups) = saved
    of_x, of_weight, of_bias = sinks[:3]
    wanted = [of_x is not None, of_weight is not None, False]
    backs = [channels_last(each) for each in gradient]
    found = [
        aten.convolution_backward(back, image, kernel, None, stride, padding, dilation, False, [0, 0], groups, wanted)
        for image, kernel, back in zip(images, kernels, backs, strict=True)
    ]
    _put(of_x, lambda: joined([of_image for of_image, _, _ in found]))
    _put(of_bias, lambda: joined([_sum_of_pixels(back) for back in backs]))
    _put(of_weight, lambda: joined([of_kernel for _, of_kernel, _ in found]))


def _sum_of_pixels(images: Tensor) -> Tensor:
    """Of each channel. As a product it takes two thirds of the time of a sum over all dimensions but one."""
    pixels = images.permute(0, 2, 3, 1).reshape(-1, images.shape[1])
    return torch.mm(pixels.new_ones(1, len(pixels)), pixels)[0]


def _max_pool2d(x: Tensor, *window: Any) -> tuple[Tensor, Any]:
    images = channels_last(x.flatten(0, 1))
    pooled, places = aten.max_pool2d_with_indices(images, *window)
    return pooled.view(*x.shape[:2], *pooled.shape[1:]), (images, places, window)


def _max_pool2d_back(saved: Any, gradient: Tensor, sinks: Sinks) -> None:
    images, places, window = saved

    def back() -> Tensor:
        given = channels_last(gradient.flatten(0, 1))
        found: Tensor = aten.max_pool2d_with_indices_backward(given, images, *window, places)
        return found.view(*gradient.shape[:2], *found.shape[1:])

    _put(sinks[0], back)


def _pool_then_relu(x: Tensor, *window: Any) -> tuple[Tensor, Any]:
    pooled, saved = _max_pool2d(x, *window)
    return pooled.relu_(), (pooled, saved)


def _pool_then_relu_back(saved: Any, gradient: Tensor, sinks: Sinks) -> None:
    pooled, inner = saved
    back = aten.threshold_backward(channels_last(gradient.flatten(0, 1)), pooled.flatten(0, 1), 0)
    _max_pool2d_back(inner, back.view(pooled.shape), sinks)


# --- the rest ----------------------------------------------------------------------------------


def _reshape(x: Tensor, shape: Sequence[int]) -> tuple[Tensor, Any]:
    return x.reshape(len(x), *shape), x.shape


def _reshape_back(saved: Any, gradient: Tensor, sinks: Sinks) -> None:
    _put(sinks[0], lambda: gradient.reshape(saved))


def _batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, variance: Tensor, momentum: float, eps: float
) -> tuple[tuple[Tensor, Tensor, Tensor], Any]:
    result, centred, deviation, *statistics = batch_norm_train(x, weight, bias, mean, variance, momentum, eps)
    return (result, *statistics), (centred.mul_(deviation), deviation, weight)  # type: ignore[return-value]


def _batch_norm_back(saved: Any, gradient: Tensor, sinks: Sinks) -> None:
    normal, deviation, weight = saved
    of_x, of_weight, of_bias, *_ = sinks
    others = (1, *range(3, normal.dim()))
    along, across = (gradient * normal).sum(others, keepdim=True), gradient.sum(others, keepdim=True)
    if of_x is not None:
        num_values = normal[0].numel() // normal.shape[2]
        scale = deviation if weight is None else deviation * weight.view(deviation.shape)
        of_x.add((gradient - across / num_values - normal * (along / num_values)) * scale)
    shape = (len(normal), normal.shape[2])
    _put(of_weight, lambda: along.view(shape))
    _put(of_bias, lambda: across.view(shape))


def dropout_rule(masked: Callable[[Tensor, float], tuple[Tensor, Tensor | float]]) -> Rule:
    """Of what gives a result and what was multiplied by."""

    def back(saved: Any, gradient: Tensor, sinks: Sinks) -> None:
        _put(sinks[0], lambda: gradient * saved)

    return Rule(forward=masked, backward=back)


POOL_THEN_RELU = Rule(forward=_pool_then_relu, backward=_pool_then_relu_back)
SAME = _by_element(lambda x: x, lambda gradient, x: gradient)  # noqa: ARG005
RULES: Mapping[Operator, Rule] = {
    Op.LINEAR: Rule(forward=_linear, backward=_linear_back),
    Op.CONV2D: Rule(forward=_conv2d, backward=_conv2d_back),
    Op.MAX_POOL2D: Rule(forward=_max_pool2d, backward=_max_pool2d_back),
    Op.RESHAPE: Rule(forward=_reshape, backward=_reshape_back),
    Op.BATCH_NORM_TRAIN: Rule(forward=_batch_norm, backward=_batch_norm_back),
    Op.RELU: _by_element(torch.relu, lambda back, y: aten.threshold_backward(back, y, 0), of_result=True),
    Op.TANH: _by_element(torch.tanh, aten.tanh_backward, of_result=True),
    Op.SIGMOID: _by_element(torch.sigmoid, aten.sigmoid_backward, of_result=True),
    Op.LEAKY_RELU: _by_element(
        torch.nn.functional.leaky_relu, lambda back, x, slope: aten.leaky_relu_backward(back, x, slope, False)
    ),
    Op.ELU: _by_element(aten.elu.default, lambda back, x, *numbers: aten.elu_backward(back, *numbers, False, x)),
    Op.SILU: _by_element(torch.nn.functional.silu, aten.silu_backward),
    Op.NEG: _by_element(torch.neg, lambda back, x: -back),  # noqa: ARG005
}
