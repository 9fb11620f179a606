"""Layers of many models, each row by itself: [models, batch, …], with parameters [models, …]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — its usual name

# A product with samples as columns is faster than with samples as rows for 32 of them, slower for 10.
_SIDEWAYS = 16


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """X [n, …, in], weight [n, out, in], bias [n, out] or None → [n, …, out]."""
    rows = x.reshape(len(x), -1, x.shape[-1])
    if rows.shape[1] >= _SIDEWAYS:
        columns = rows.mT
        found = torch.bmm(weight, columns) if bias is None else torch.baddbmm(bias.unsqueeze(2), weight, columns)
        result = found.mT
    else:
        turned = weight.mT
        result = torch.bmm(rows, turned) if bias is None else torch.baddbmm(bias.unsqueeze(1), rows, turned)
    return result if x.dim() == result.dim() else result.reshape(*x.shape[:-1], weight.shape[1])


def convolved(images: Sequence[Tensor], kernels: Sequence[Tensor], bias: Tensor | None, places: Any) -> Tensor:
    """A convolution of each model's [batch, in, …] by itself: grouped, all of them would take longer."""
    biases = [None] * len(kernels) if bias is None else list(bias)
    return joined(
        [F.conv2d(image, kernel, own, *places) for image, kernel, own in zip(images, kernels, biases, strict=True)]
    )


def channels_last(images: Tensor) -> Tensor:
    """The same images with the channels of a pixel side by side.

    With strides that say so of one channel too, where PyTorch has two sorts of strides to choose from.
    """
    _, channels, height, width = images.shape
    strides = (channels * height * width, 1, width * channels, channels)
    if images.stride() == strides:
        return images
    return images.contiguous(memory_format=torch.channels_last).as_strided(images.shape, strides)


def joined(rows: Sequence[Tensor]) -> Tensor:
    """[n, …] of n rows; of one alone, no copy. Images keep their channels last."""
    if len(rows) == 1:
        return rows[0].unsqueeze(0)
    if rows[0].dim() == 4 and rows[0].stride(1) == 1:
        return torch.stack([row.permute(0, 2, 3, 1) for row in rows]).permute(0, 1, 4, 2, 3)
    return torch.stack(list(rows))


def batch_norm_train(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of x [n, batch, channels, …], the others [n, channels].

    The result, x less its mean, one over its deviation, and the new statistics, without gradients. Mapped,
    it would be one batch norm of all rows' channels, whose last bits depend on how many there are.
    """
    num_values = x[0].numel() // x.shape[2]
    if num_values < 2:
        raise ValueError("Expected more than 1 value per channel when training")  # PyTorch's words
    others = (1, *range(3, x.dim()))
    shape = (len(x), 1, x.shape[2], *[1] * (x.dim() - 3))
    found_mean = x.mean(others, keepdim=True)
    centred = x - found_mean
    found_variance = centred.square().mean(others, keepdim=True)
    deviation = torch.rsqrt(found_variance + eps)
    result = centred * (deviation if weight is None else deviation * weight.view(shape))
    if bias is not None:
        result = result + bias.view(shape)
    with torch.no_grad():
        unbiased = found_variance.view_as(variance) * (num_values / (num_values - 1))
        statistics = mean.lerp(found_mean.view_as(mean), momentum), variance.lerp(unbiased, momentum)
    return result, centred, deviation, *statistics
