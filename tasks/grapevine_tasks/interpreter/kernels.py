"""What each operator of opset 1 is in PyTorch: the only place where an operator becomes code.

A kernel takes the arguments of the operator's signature, with tensors for references and numbers
for sizes. The table is written out by hand, so that nothing which a program says is ever looked up
as an attribute. Kernels use PyTorch's public functions, which are the stable face of ATen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — its usual name

from grapevine_proto.program import Operator as Op


def _batch_norm_train(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    # PyTorch moves the statistics in place; the program's buffers must stay as they are.
    new_mean, new_variance = mean.clone(), variance.clone()
    result = F.batch_norm(x, new_mean, new_variance, weight, bias, training=True, momentum=momentum, eps=eps)
    return result, new_mean, new_variance


def _squeeze(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    return x.squeeze(dims)


def _slice(x: Tensor, dim: int, start: int, end: int, step: int) -> Tensor:
    at: list[slice] = [slice(None)] * x.dim()
    at[dim] = slice(start, end, step)
    return x[tuple(at)]


def _reflect(x: Tensor, amounts: tuple[int, ...]) -> Tensor:
    return F.pad(x, amounts, mode="reflect")


def _replicate(x: Tensor, amounts: tuple[int, ...]) -> Tensor:
    return F.pad(x, amounts, mode="replicate")


def _where(condition: Tensor, a: Tensor | float, b: Tensor | float) -> Tensor:
    # A whole number between two tensors of floats is a float.
    return torch.where(condition, float(a) if isinstance(a, int) else a, float(b) if isinstance(b, int) else b)


def _rnn(
    x: Tensor,
    hidden: Tensor,
    weights: list[Tensor],
    biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
    relu: bool,
) -> tuple[Tensor, Tensor]:
    function = torch.rnn_relu if relu else torch.rnn_tanh
    return function(x, hidden, weights, biases, layers, dropout, train, bidirectional, batch_first)


def _lstm(x: Tensor, hidden: Tensor, cell: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return torch.lstm(x, (hidden, cell), *rest)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    causal: bool,
    scale: float | None,
) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, mask, dropout, causal, scale=scale)


def _embedding(weight: Tensor, indices: Tensor, padding: int) -> Tensor:
    return F.embedding(indices, weight, None if padding < 0 else padding)


def _lstm_cell(x: Tensor, hidden: Tensor, cell: Tensor, *weights: Any) -> tuple[Tensor, Tensor]:
    return torch.lstm_cell(x, (hidden, cell), *weights)


KERNELS: dict[Op, Callable[..., Any]] = {
    # Sizes.
    Op.SIZE: lambda x, dim: x.shape[dim],
    Op.INT_ADD: lambda a, b: a + b,
    Op.INT_SUB: lambda a, b: a - b,
    Op.INT_MUL: lambda a, b: a * b,
    Op.INT_FLOORDIV: lambda a, b: a // b,
    # Shapes.
    Op.RESHAPE: torch.reshape,
    Op.PERMUTE: torch.permute,
    Op.TRANSPOSE: torch.transpose,
    Op.UNSQUEEZE: torch.unsqueeze,
    Op.SQUEEZE: _squeeze,
    Op.EXPAND: lambda x, shape: x.expand(shape),
    Op.SLICE: _slice,
    Op.SELECT: torch.select,
    Op.CONCATENATE: torch.cat,
    Op.STACK: torch.stack,
    Op.PAD: lambda x, amounts, value: F.pad(x, amounts, value=value),
    Op.TO_FLOAT32: lambda x: x.to(torch.float32),
    Op.TO_INT64: lambda x: x.to(torch.int64),
    Op.DETACH: torch.detach,
    Op.FULL: torch.full,
    Op.CUMSUM: torch.cumsum,
    Op.REFLECT: _reflect,
    Op.REPLICATE: _replicate,
    Op.PIXEL_SHUFFLE: F.pixel_shuffle,
    Op.REPEAT: lambda x, times: x.repeat(times),
    # Element by element.
    Op.ADD: torch.add,
    Op.SUB: torch.sub,
    Op.MUL: torch.mul,
    Op.DIV: torch.div,
    Op.RSUB: torch.rsub,
    Op.MAXIMUM: torch.maximum,
    Op.MINIMUM: torch.minimum,
    Op.POW: torch.pow,
    Op.CLAMP: torch.clamp,
    Op.NEG: torch.neg,
    Op.ABS: torch.abs,
    Op.EXP: torch.exp,
    Op.LOG: torch.log,
    Op.SQRT: torch.sqrt,
    Op.RSQRT: torch.rsqrt,
    Op.RECIPROCAL: torch.reciprocal,
    Op.SIN: torch.sin,
    Op.COS: torch.cos,
    Op.FLOOR: torch.floor,
    Op.SIGN: torch.sign,
    Op.ERF: torch.erf,
    Op.WHERE: _where,
    Op.EQUAL: torch.eq,
    Op.NOT_EQUAL: torch.ne,
    Op.GREATER: torch.gt,
    Op.GREATER_EQUAL: torch.ge,
    Op.LESS: torch.lt,
    Op.LESS_EQUAL: torch.le,
    Op.LOGICAL_NOT: torch.logical_not,
    Op.LOGICAL_AND: torch.logical_and,
    # Layers.
    Op.LINEAR: F.linear,
    Op.MATMUL: torch.matmul,
    Op.CONV1D: F.conv1d,
    Op.CONV2D: F.conv2d,
    Op.MAX_POOL2D: F.max_pool2d,
    Op.AVG_POOL2D: F.avg_pool2d,
    Op.ADAPTIVE_AVG_POOL2D: F.adaptive_avg_pool2d,
    Op.BATCH_NORM_TRAIN: _batch_norm_train,
    Op.BATCH_NORM_EVAL: lambda x, weight, bias, mean, variance, eps: F.batch_norm(
        x, mean, variance, weight, bias, training=False, eps=eps
    ),
    Op.LAYER_NORM: F.layer_norm,
    Op.GROUP_NORM: F.group_norm,
    Op.DROPOUT: lambda x, p: F.dropout(x, p, training=True),
    Op.CONV_TRANSPOSE1D: F.conv_transpose1d,
    Op.CONV_TRANSPOSE2D: F.conv_transpose2d,
    Op.EMBEDDING: _embedding,
    Op.LSTM: _lstm,
    Op.GRU: torch.gru,
    Op.RNN: _rnn,
    Op.ATTENTION: _attention,
    Op.ADAPTIVE_MAX_POOL2D: F.adaptive_max_pool2d,
    # Activations.
    Op.RELU: torch.relu,
    Op.LEAKY_RELU: F.leaky_relu,
    Op.ELU: torch.ops.aten.elu.default,
    Op.GELU: lambda x, tanh: F.gelu(x, approximate="tanh" if tanh else "none"),
    Op.SILU: F.silu,
    Op.SIGMOID: torch.sigmoid,
    Op.TANH: torch.tanh,
    Op.HARDTANH: F.hardtanh,
    Op.HARDSWISH: F.hardswish,
    Op.HARDSIGMOID: F.hardsigmoid,
    Op.SOFTPLUS: F.softplus,
    Op.MISH: F.mish,
    Op.SOFTMAX: torch.softmax,
    Op.LOG_SOFTMAX: torch.log_softmax,
    Op.PRELU: torch.prelu,
    Op.LOG_SIGMOID: F.logsigmoid,
    Op.GLU: F.glu,
    # Reductions.
    Op.SUM: lambda x, dims, keep: torch.sum(x, dims, keepdim=keep),
    Op.MEAN: lambda x, dims, keep: torch.mean(x, dims, keepdim=keep),
    Op.AMAX: lambda x, dims, keep: torch.amax(x, dims, keepdim=keep),
    Op.AMIN: lambda x, dims, keep: torch.amin(x, dims, keepdim=keep),
    Op.PROD: lambda x, dim, keep: torch.prod(x, dim, keepdim=keep),
    Op.VARIANCE: lambda x, dims, correction, keep: torch.var(x, dims, correction=correction, keepdim=keep),
    Op.DEVIATION: lambda x, dims, correction, keep: torch.std(x, dims, correction=correction, keepdim=keep),
    Op.NORM: lambda x, p, dims, keep: torch.linalg.vector_norm(x, p, dims, keepdim=keep),
    Op.LOGSUMEXP: lambda x, dims, keep: torch.logsumexp(x, dims, keepdim=keep),
    Op.ARGMAX: lambda x, dim, keep: torch.argmax(x, dim, keepdim=keep),
    Op.MAX: lambda x, dim, keep: tuple(torch.max(x, dim, keepdim=keep)),
    Op.MIN: lambda x, dim, keep: tuple(torch.min(x, dim, keepdim=keep)),
    # More layers.
    Op.CONV3D: F.conv3d,
    Op.MAX_POOL3D: F.max_pool3d,
    Op.UPSAMPLE_NEAREST2D: lambda x, output: F.interpolate(x, output, mode="nearest"),
    Op.UPSAMPLE_BILINEAR2D: lambda x, output, corners: F.interpolate(x, output, mode="bilinear", align_corners=corners),
    Op.LSTM_CELL: _lstm_cell,
    Op.GRU_CELL: torch.gru_cell,
    # Randomness.
    Op.NORMAL: torch.randn_like,
    Op.BERNOULLI: lambda x, p: torch.bernoulli(x.detach(), p),  # only the shape of x counts
    # What came later.
    Op.INDEX_SELECT: torch.index_select,
    Op.GATHER: torch.gather,
    Op.FLIP: torch.flip,
    Op.LOGICAL_OR: torch.logical_or,
    Op.LOG1P: torch.log1p,
    Op.EXPM1: torch.expm1,
}
