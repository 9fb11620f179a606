"""The shape rules of products, convolutions, pools and norms."""

# ruff: noqa: ARG001, D103 — a rule takes its operator's arguments, all of them and in order, and is documented there
from __future__ import annotations

from collections.abc import Sequence

from grapevine_tasks.opset.shape_rules.common import Types, broadcast, need, need_float32, number_of, same_shape, tensor
from grapevine_tasks.sizes import Size, TensorType, fixed


def linear(x: TensorType, weight: TensorType, bias: TensorType | None) -> Types:
    need_float32(x, weight, bias)
    need(len(weight.shape) == 2 and len(x.shape) >= 1, f"the weight {weight} is not [out, in]")
    out, features = weight.shape
    need(x.shape[-1] == features, f"{x} does not end with {features}, as the weight {weight} asks")
    if bias is not None:
        same_shape(bias.shape, (out,), "the bias")
    return tensor((*x.shape[:-1], out))


def matmul(a: TensorType, b: TensorType) -> Types:
    need_float32(a, b)
    need(len(a.shape) >= 2 and len(b.shape) >= 2, f"{a} and {b} must both have two dimensions or more")
    need(a.shape[-1] == b.shape[-2], f"{a} and {b} cannot be multiplied")
    return tensor((*broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]))


def convolution(
    x: TensorType,
    weight: TensorType,
    bias: TensorType | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Types:
    need_float32(x, weight, bias)
    rank = len(stride) + 2
    need(len(x.shape) == len(weight.shape) == rank, f"{x} and the weight {weight} must have {rank} dimensions")
    out, per_group, *kernel = (number_of(s, "a dimension of the weight") for s in weight.shape)
    channels = number_of(x.shape[1], "the number of channels")
    fits = channels == per_group * groups and out % groups == 0 and out > 0
    need(fits, f"{x} has {channels} channels; the weight {weight} in {groups} groups does not fit")
    if bias is not None:
        same_shape(bias.shape, fixed(out), "the bias")
    spatial = [_slid(x.shape[2 + i], kernel[i], stride[i], padding[i], dilation[i]) for i in range(len(stride))]
    for i, made in enumerate(spatial):
        # The last of these is the first that does not begin in the padding.
        windows = range(min(number_of(made, "the number of windows"), -(-padding[i] // stride[i]) + 1))
        starts = (window * stride[i] - padding[i] for window in windows)
        need(
            any(_touches(start, x.shape[2 + i], kernel[i], dilation[i]) for start in starts),
            f"every window of the kernel {kernel[i]} with stride {stride[i]} lies in the padding of {padding[i]}",
        )
    return tensor((x.shape[0], Size.constant(out), *spatial))


def _slid(length: Size, kernel: int, stride: int, padding: int, dilation: int, ceil: bool = False) -> Size:
    have = number_of(length, "a dimension that a kernel slides over")
    room = have + 2 * padding - dilation * (kernel - 1) - 1
    need(room >= 0 and kernel > 0, f"a kernel of {kernel} with dilation {dilation} does not fit {have} + 2·{padding}")
    steps = (-(-room // stride) if ceil else room // stride) + 1
    if ceil and (steps - 1) * stride >= have + padding:
        steps -= 1  # the last window may not begin in the padding
    return Size.constant(steps)


def max_pool(
    x: TensorType,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil: bool,
) -> Types:
    need_float32(x)
    n = len(kernel)
    need(len(x.shape) == n + 2, f"{x} must have {n + 2} dimensions")
    need(all(2 * p <= k for p, k in zip(padding, kernel, strict=True)), "padding is more than half of the kernel")
    spatial = []
    for i in range(n):
        made = _slid(x.shape[2 + i], kernel[i], stride[i], padding[i], dilation[i], ceil)
        _need_something_in_each_window(x.shape[2 + i], made, kernel[i], stride[i], padding[i], dilation[i])
        spatial.append(made)
    return tensor((*x.shape[:2], *spatial))


def _need_something_in_each_window(
    length: Size, made: Size, kernel: int, stride: int, padding: int, dilation: int
) -> None:
    """A window with nothing but padding has no maximum, and the place of what it has not is nowhere.

    As padding is at most half of the kernel, only windows that begin in it can be empty: dilated, they
    may step over all that there is.
    """
    for window in range(min(number_of(made, "the number of windows"), -(-padding // stride))):
        need(
            _touches(window * stride - padding, length, kernel, dilation),
            f"a kernel of {kernel} with dilation {dilation} and padding {padding} has a window beside all of the "
            f"{length} numbers there are: use less padding or dilation",
        )


def _touches(start: int, length: Size, kernel: int, dilation: int) -> bool:
    """Whether a window that starts there (before 0: in the padding) has one of the numbers from 0 to `length` in it."""
    have = number_of(length, "a dimension that a kernel slides over")
    first = start if start >= 0 else start % dilation
    return first < min(have, start + dilation * (kernel - 1) + 1)


def avg_pool(
    x: TensorType,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil: bool,
    count_padding: bool,
) -> Types:
    return max_pool(x, kernel, stride, padding, (1,) * len(kernel), ceil)


def adaptive_pool(x: TensorType, output: Sequence[int]) -> Types:
    need_float32(x)
    need(len(x.shape) == len(output) + 2, f"{x} must have {len(output) + 2} dimensions")
    for length in x.shape[2:]:
        need(number_of(length, "a pooled dimension") > 0, f"{x} is empty")
    return tensor((*x.shape[:2], *fixed(*output)))


def transposed_convolution(
    x: TensorType,
    weight: TensorType,
    bias: TensorType | None,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    groups: int,
    dilation: Sequence[int],
) -> Types:
    need_float32(x, weight, bias)
    rank = len(stride) + 2
    need(len(x.shape) == len(weight.shape) == rank, f"{x} and the weight {weight} must have {rank} dimensions")
    channels, per_group, *kernel = (number_of(size, "a dimension of the weight") for size in weight.shape)
    need(x.shape[1] == Size.constant(channels), f"{x} does not have {channels} channels, as the weight {weight} asks")
    need(channels % groups == 0 and per_group > 0, f"{channels} channels do not make {groups} groups")
    if bias is not None:
        same_shape(bias.shape, fixed(per_group * groups), "the bias")
    spatial = []
    for k, size in enumerate(x.shape[2:]):
        length = number_of(size, "a dimension that a kernel slides over")
        need(output_padding[k] < max(stride[k], dilation[k]), "output_padding must be less than stride or dilation")
        reach = dilation[k] * (kernel[k] - 1) + output_padding[k] + 1
        made = (length - 1) * stride[k] - 2 * padding[k] + reach
        need(length > 0 and kernel[k] > 0 and made > 0, f"a kernel of {kernel[k]} leaves nothing of {length}")
        spatial.append(made)
    return tensor((x.shape[0], *fixed(per_group * groups, *spatial)))


def batch_norm_train(
    x: TensorType,
    weight: TensorType | None,
    bias: TensorType | None,
    mean: TensorType,
    variance: TensorType,
    momentum: float,
    eps: float,
) -> Types:
    return (*batch_norm_eval(x, weight, bias, mean, variance, eps), mean, variance)


def batch_norm_eval(
    x: TensorType,
    weight: TensorType | None,
    bias: TensorType | None,
    mean: TensorType,
    variance: TensorType,
    eps: float,
) -> Types:
    need_float32(x, weight, bias, mean, variance)
    need(len(x.shape) >= 2, f"{x} has no channels")
    for each, what in ((weight, "the weight"), (bias, "the bias"), (mean, "the mean"), (variance, "the variance")):
        if each is not None:
            same_shape(each.shape, x.shape[1:2], what)
    return (x,)


def layer_norm(
    x: TensorType,
    shape: Sequence[int],
    weight: TensorType | None,
    bias: TensorType | None,
    eps: float,
) -> Types:
    need_float32(x, weight, bias)
    normalised = fixed(*shape)
    need(0 < len(shape) <= len(x.shape), f"{x} does not end with {list(shape)}")
    same_shape(x.shape[-len(shape) :], normalised, "the end of the tensor")
    for each, what in ((weight, "the weight"), (bias, "the bias")):
        if each is not None:
            same_shape(each.shape, normalised, what)
    return (x,)


def group_norm(
    x: TensorType,
    groups: int,
    weight: TensorType | None,
    bias: TensorType | None,
    eps: float,
) -> Types:
    need_float32(x, weight, bias)
    need(len(x.shape) >= 2, f"{x} has no channels")
    channels = number_of(x.shape[1], "the number of channels")
    need(channels % groups == 0, f"{channels} channels do not make {groups} groups")
    need(bias is None or weight is not None, "has a bias and no weight; give both, or none: there is no gradient else")
    for each, what in ((weight, "the weight"), (bias, "the bias")):
        if each is not None:
            same_shape(each.shape, x.shape[1:2], what)
    return (x,)
