"""From ATen's operators, as `torch.export` writes them, to opset 1: one entry an operator.

An entry names our operator and which of ATen's arguments go into its signature, in order. What ATen
has beyond that must have the value given in `must`, or the model is not one that we can express.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from grapevine_proto.program import Operator as Op
from grapevine_tasks.authoring import conversions

aten = torch.ops.aten
Named = Mapping[str, Any]


@dataclass(frozen=True)
class Translation:
    """How one ATen operator is written in opset 1.

    `arguments` are ATen's names, in the order of our signature; `results` maps its results to ours;
    `convert` prepares the named arguments first.
    """

    operator: Op
    arguments: tuple[str, ...]
    must: Mapping[str, Any] = field(default_factory=dict)
    convert: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    results: Mapping[int, int] = field(default_factory=dict)  # empty: one result


def _of(
    op: Op, arguments: str, *, convert: Callable[[dict[str, Any]], dict[str, Any]] | None = None, **must: Any
) -> Translation:
    return Translation(op, tuple(arguments.split()), must, convert)


_LAYERS = "has_biases num_layers dropout train bidirectional batch_first"
_CELL = "w_ih w_hh b_ih b_hh"
_BATCH_NORM = "input weight bias running_mean running_var momentum eps"
_CONV = "input weight bias stride padding dilation groups"

TRANSLATIONS: dict[Any, Translation] = {
    # Sizes.
    aten.sym_size.int: _of(Op.SIZE, "self dim"),
    operator.add: _of(Op.INT_ADD, "a b"),
    operator.sub: _of(Op.INT_SUB, "a b"),
    operator.mul: _of(Op.INT_MUL, "a b"),
    operator.floordiv: _of(Op.INT_FLOORDIV, "a b"),
    # Shapes.
    aten.view.default: _of(Op.RESHAPE, "self size"),
    aten.reshape.default: _of(Op.RESHAPE, "self shape"),
    aten._unsafe_view.default: _of(Op.RESHAPE, "self size"),
    aten.permute.default: _of(Op.PERMUTE, "self dims"),
    aten.transpose.int: _of(Op.TRANSPOSE, "self dim0 dim1"),
    aten.unsqueeze.default: _of(Op.UNSQUEEZE, "self dim"),
    aten.squeeze.dim: _of(Op.SQUEEZE, "self dims", convert=conversions.one_dim),
    aten.squeeze.dims: _of(Op.SQUEEZE, "self dims", convert=conversions.one_dim),
    aten.expand.default: _of(Op.EXPAND, "self size", implicit=False),
    aten.slice.Tensor: _of(Op.SLICE, "self dim start end step", convert=conversions.slice_),
    aten.select.int: _of(Op.SELECT, "self dim index"),
    aten.cat.default: _of(Op.CONCATENATE, "tensors dim"),
    aten.stack.default: _of(Op.STACK, "tensors dim"),
    aten.constant_pad_nd.default: _of(Op.PAD, "self pad value", convert=conversions.floats("value")),
    aten.pad.default: Translation(
        Op.PAD, ("self", "pad", "value"), {"mode": "constant"}, conversions.pad
    ),  # else see translation_of
    aten.reflection_pad1d.default: _of(Op.REFLECT, "self padding"),
    aten.reflection_pad2d.default: _of(Op.REFLECT, "self padding"),
    aten.replication_pad1d.default: _of(Op.REPLICATE, "self padding"),
    aten.replication_pad2d.default: _of(Op.REPLICATE, "self padding"),
    aten.detach.default: _of(Op.DETACH, "self"),
    aten.zeros.default: _of(Op.FULL, "size value", convert=conversions.filled(0.0)),
    aten.ones.default: _of(Op.FULL, "size value", convert=conversions.filled(1.0)),
    aten.empty.memory_format: _of(Op.FULL, "size value", convert=conversions.filled(0.0)),
    aten.full.default: _of(Op.FULL, "size value", convert=conversions.number),
    aten.new_zeros.default: _of(Op.FULL, "size value", convert=conversions.filled(0.0)),
    aten.new_ones.default: _of(Op.FULL, "size value", convert=conversions.filled(1.0)),
    aten.new_empty.default: _of(Op.FULL, "size value", convert=conversions.filled(0.0)),
    aten.new_full.default: _of(Op.FULL, "size value", convert=conversions.number),
    aten.cumsum.default: _of(Op.CUMSUM, "self dim", dtype=None),
    aten.repeat.default: _of(Op.REPEAT, "self repeats"),
    aten.pixel_shuffle.default: _of(Op.PIXEL_SHUFFLE, "self upscale_factor"),
    # Element by element.
    aten.add.Tensor: _of(Op.ADD, "self other", alpha=1),
    aten.add.Scalar: _of(Op.ADD, "self other", alpha=1),
    aten.sub.Tensor: _of(Op.SUB, "self other", alpha=1),
    aten.sub.Scalar: _of(Op.SUB, "self other", alpha=1),
    aten.mul.Tensor: _of(Op.MUL, "self other"),
    aten.mul.Scalar: _of(Op.MUL, "self other"),
    aten.div.Tensor: _of(Op.DIV, "self other"),
    aten.div.Scalar: _of(Op.DIV, "self other"),
    aten.rsub.Scalar: _of(Op.RSUB, "self other", alpha=1),
    aten.rsub.Tensor: _of(Op.RSUB, "self other", alpha=1),
    aten.maximum.default: _of(Op.MAXIMUM, "self other"),
    aten.minimum.default: _of(Op.MINIMUM, "self other"),
    aten.pow.Tensor_Scalar: _of(Op.POW, "self exponent", convert=conversions.floats("exponent")),
    aten.clamp.default: _of(Op.CLAMP, "self min max", convert=conversions.floats("min", "max")),
    aten.neg.default: _of(Op.NEG, "self"),
    aten.abs.default: _of(Op.ABS, "self"),
    aten.exp.default: _of(Op.EXP, "self"),
    aten.log.default: _of(Op.LOG, "self"),
    aten.sqrt.default: _of(Op.SQRT, "self"),
    aten.rsqrt.default: _of(Op.RSQRT, "self"),
    aten.reciprocal.default: _of(Op.RECIPROCAL, "self"),
    aten.sin.default: _of(Op.SIN, "self"),
    aten.cos.default: _of(Op.COS, "self"),
    aten.floor.default: _of(Op.FLOOR, "self"),
    aten.sign.default: _of(Op.SIGN, "self"),
    aten.erf.default: _of(Op.ERF, "self"),
    aten.clamp_min.default: _of(Op.CLAMP, "self min max", convert=conversions.clamp_low),
    aten.clamp_max.default: _of(Op.CLAMP, "self min max", convert=conversions.clamp_high),
    aten.where.self: _of(Op.WHERE, "condition self other"),
    aten.where.ScalarSelf: _of(Op.WHERE, "condition self other"),
    aten.where.ScalarOther: _of(Op.WHERE, "condition self other"),
    aten.masked_fill.Scalar: _of(Op.WHERE, "mask value self", convert=conversions.mask),
    aten.masked_fill.Tensor: _of(Op.WHERE, "mask value self", convert=conversions.mask),
    aten.eq.Tensor: _of(Op.EQUAL, "self other"),
    aten.eq.Scalar: _of(Op.EQUAL, "self other"),
    aten.ne.Tensor: _of(Op.NOT_EQUAL, "self other"),
    aten.ne.Scalar: _of(Op.NOT_EQUAL, "self other"),
    aten.gt.Tensor: _of(Op.GREATER, "self other"),
    aten.gt.Scalar: _of(Op.GREATER, "self other"),
    aten.ge.Tensor: _of(Op.GREATER_EQUAL, "self other"),
    aten.ge.Scalar: _of(Op.GREATER_EQUAL, "self other"),
    aten.lt.Tensor: _of(Op.LESS, "self other"),
    aten.lt.Scalar: _of(Op.LESS, "self other"),
    aten.le.Tensor: _of(Op.LESS_EQUAL, "self other"),
    aten.le.Scalar: _of(Op.LESS_EQUAL, "self other"),
    aten.logical_not.default: _of(Op.LOGICAL_NOT, "self"),
    aten.bitwise_not.default: _of(Op.LOGICAL_NOT, "self"),
    aten.logical_and.default: _of(Op.LOGICAL_AND, "self other"),
    aten.bitwise_and.Tensor: _of(Op.LOGICAL_AND, "self other"),
    # Layers.
    aten.linear.default: _of(Op.LINEAR, "input weight bias"),
    aten.matmul.default: _of(Op.MATMUL, "self other"),
    aten.mm.default: _of(Op.MATMUL, "self mat2"),
    aten.bmm.default: _of(Op.MATMUL, "self mat2"),
    aten.conv1d.default: _of(Op.CONV1D, _CONV, convert=conversions.convolution(1)),
    aten.conv1d.padding: _of(Op.CONV1D, _CONV, convert=conversions.convolution(1)),
    aten.conv2d.default: _of(Op.CONV2D, _CONV, convert=conversions.convolution(2)),
    aten.conv2d.padding: _of(Op.CONV2D, _CONV, convert=conversions.convolution(2)),
    aten.max_pool2d.default: _of(
        Op.MAX_POOL2D, "self kernel_size stride padding dilation ceil_mode", convert=conversions.pooling
    ),
    aten.max_pool2d_with_indices.default: Translation(
        Op.MAX_POOL2D,
        ("self", "kernel_size", "stride", "padding", "dilation", "ceil_mode"),
        convert=conversions.pooling,
        results={0: 0},
    ),
    aten.avg_pool2d.default: _of(
        Op.AVG_POOL2D,
        "self kernel_size stride padding ceil_mode count_include_pad",
        convert=conversions.pooling,
        divisor_override=None,
    ),
    aten.adaptive_avg_pool2d.default: _of(Op.ADAPTIVE_AVG_POOL2D, "self output_size", convert=conversions.output_size),
    aten._adaptive_avg_pool2d.default: _of(Op.ADAPTIVE_AVG_POOL2D, "self output_size", convert=conversions.output_size),
    # Its results: output, saved mean, saved deviation, new mean, new variance.
    aten._native_batch_norm_legit_functional.default: Translation(
        Op.BATCH_NORM_TRAIN, tuple(_BATCH_NORM.split()), {"training": True}, results={0: 0, 3: 1, 4: 2}
    ),
    aten._native_batch_norm_legit_no_training.default: Translation(
        Op.BATCH_NORM_EVAL, ("input", "weight", "bias", "running_mean", "running_var", "eps"), results={0: 0}
    ),
    aten.layer_norm.default: _of(Op.LAYER_NORM, "input normalized_shape weight bias eps"),
    aten.group_norm.default: _of(Op.GROUP_NORM, "input num_groups weight bias eps", convert=conversions.floats("eps")),
    # Each channel of each sample for itself is a group of its own.
    aten.instance_norm.default: Translation(
        Op.GROUP_NORM,
        ("input", "groups", "weight", "bias", "eps"),
        {"running_mean": None, "running_var": None, "use_input_stats": True},
        conversions.instance_norm,
    ),
    aten.native_dropout.default: Translation(
        Op.DROPOUT, ("input", "p"), {"train": True}, conversions.floats("p"), {0: 0}
    ),
    aten.conv3d.default: _of(Op.CONV3D, _CONV, convert=conversions.convolution(3)),
    aten.conv3d.padding: _of(Op.CONV3D, _CONV, convert=conversions.convolution(3)),
    aten.conv_transpose1d.default: _of(
        Op.CONV_TRANSPOSE1D,
        "input weight bias stride padding output_padding groups dilation",
        convert=conversions.transposed(1),
    ),
    aten.conv_transpose2d.input: _of(
        Op.CONV_TRANSPOSE2D,
        "input weight bias stride padding output_padding groups dilation",
        convert=conversions.transposed(2),
    ),
    aten.max_pool3d.default: _of(
        Op.MAX_POOL3D, "self kernel_size stride padding dilation ceil_mode", convert=conversions.pooling_of(3)
    ),
    aten.adaptive_max_pool2d.default: Translation(
        Op.ADAPTIVE_MAX_POOL2D, ("self", "output_size"), convert=conversions.output_size, results={0: 0}
    ),
    aten.embedding.default: _of(Op.EMBEDDING, "weight indices padding_idx", scale_grad_by_freq=False, sparse=False),
    aten.lstm.input: Translation(
        Op.LSTM,
        ("input", "hidden", "cell", "params", *_LAYERS.split()),
        convert=conversions.recurrent,
        results={0: 0, 1: 1, 2: 2},
    ),
    aten.gru.input: Translation(
        Op.GRU, ("input", "hidden", "params", *_LAYERS.split()), convert=conversions.recurrent, results={0: 0, 1: 1}
    ),
    aten.rnn_tanh.input: Translation(
        Op.RNN,
        ("input", "hidden", "params", *_LAYERS.split(), "tanh"),
        convert=conversions.recurrent,
        results={0: 0, 1: 1},
    ),
    aten.rnn_relu.input: Translation(
        Op.RNN,
        ("input", "hidden", "params", *_LAYERS.split(), "relu"),
        convert=conversions.recurrent,
        results={0: 0, 1: 1},
    ),
    aten.lstm_cell.default: Translation(
        Op.LSTM_CELL, ("input", "hidden", "cell", *_CELL.split()), convert=conversions.lstm_cell, results={0: 0, 1: 1}
    ),
    aten.gru_cell.default: _of(Op.GRU_CELL, f"input hx {_CELL}"),
    aten.scaled_dot_product_attention.default: _of(
        Op.ATTENTION,
        "query key value attn_mask dropout_p is_causal scale",
        convert=conversions.attention,
        enable_gqa=False,
    ),
    aten.upsample_nearest2d.vec: _of(Op.UPSAMPLE_NEAREST2D, "input output_size", convert=conversions.resized),
    aten.upsample_bilinear2d.vec: _of(
        Op.UPSAMPLE_BILINEAR2D, "input output_size align_corners", convert=conversions.resized
    ),
    # Activations.
    aten.relu.default: _of(Op.RELU, "self"),
    aten.leaky_relu.default: _of(Op.LEAKY_RELU, "self negative_slope", convert=conversions.floats("negative_slope")),
    aten.elu.default: _of(
        Op.ELU, "self alpha scale input_scale", convert=conversions.floats("alpha", "scale", "input_scale")
    ),
    aten.gelu.default: _of(Op.GELU, "self tanh", convert=conversions.gelu),
    aten.silu.default: _of(Op.SILU, "self"),
    aten.sigmoid.default: _of(Op.SIGMOID, "self"),
    aten.tanh.default: _of(Op.TANH, "self"),
    aten.hardtanh.default: _of(Op.HARDTANH, "self min_val max_val", convert=conversions.floats("min_val", "max_val")),
    aten.relu6.default: _of(Op.HARDTANH, "self low high", convert=conversions.relu6),
    aten.selu.default: _of(Op.ELU, "self alpha scale one", convert=conversions.selu),
    aten.celu.default: _of(Op.ELU, "self alpha one inverse", convert=conversions.celu),
    aten.hardswish.default: _of(Op.HARDSWISH, "self"),
    aten.hardsigmoid.default: _of(Op.HARDSIGMOID, "self"),
    aten.softplus.default: _of(Op.SOFTPLUS, "self beta threshold", convert=conversions.floats("beta", "threshold")),
    aten.mish.default: _of(Op.MISH, "self"),
    aten.softmax.int: _of(Op.SOFTMAX, "self dim", dtype=None),
    aten._softmax.default: _of(Op.SOFTMAX, "self dim", half_to_float=False),
    aten.log_softmax.int: _of(Op.LOG_SOFTMAX, "self dim", dtype=None),
    aten._log_softmax.default: _of(Op.LOG_SOFTMAX, "self dim", half_to_float=False),
    aten.prelu.default: _of(Op.PRELU, "self weight"),
    aten.log_sigmoid.default: _of(Op.LOG_SIGMOID, "self"),
    aten.glu.default: _of(Op.GLU, "self dim"),
    # Randomness.
    aten.randn_like.default: _of(Op.NORMAL, "self", dtype=None),
    aten.bernoulli.p: _of(Op.BERNOULLI, "self p", generator=None),
    # Reductions.
    aten.sum.dim_IntList: _of(Op.SUM, "self dim keepdim", convert=conversions.all_dims, dtype=None),
    aten.sum.default: _of(Op.SUM, "self dim keepdim", convert=conversions.all_dims, dtype=None),
    aten.mean.dim: _of(Op.MEAN, "self dim keepdim", convert=conversions.all_dims, dtype=None),
    aten.mean.default: _of(Op.MEAN, "self dim keepdim", convert=conversions.all_dims, dtype=None),
    aten.amax.default: _of(Op.AMAX, "self dim keepdim", convert=conversions.all_dims),
    aten.amin.default: _of(Op.AMIN, "self dim keepdim", convert=conversions.all_dims),
    aten.prod.dim_int: _of(Op.PROD, "self dim keepdim", dtype=None),
    aten.var.dim: _of(Op.VARIANCE, "self dim correction keepdim", convert=conversions.correction),
    aten.var.correction: _of(Op.VARIANCE, "self dim correction keepdim", convert=conversions.correction),
    aten.std.dim: _of(Op.DEVIATION, "self dim correction keepdim", convert=conversions.correction),
    aten.std.correction: _of(Op.DEVIATION, "self dim correction keepdim", convert=conversions.correction),
    aten.linalg_vector_norm.default: _of(Op.NORM, "self ord dim keepdim", convert=conversions.vector_norm, dtype=None),
    aten.logsumexp.default: _of(Op.LOGSUMEXP, "self dim keepdim", convert=conversions.all_dims),
    aten.argmax.default: _of(Op.ARGMAX, "self dim keepdim", convert=conversions.along_last),
    aten.max.dim: Translation(Op.MAX, ("self", "dim", "keepdim"), results={0: 0, 1: 1}),
    aten.min.dim: Translation(Op.MIN, ("self", "dim", "keepdim"), results={0: 0, 1: 1}),
    # What came later.
    aten.index_select.default: _of(Op.INDEX_SELECT, "self dim index"),
    aten.index.Tensor: _of(Op.INDEX_SELECT, "self dim index", convert=conversions.index),
    aten.gather.default: _of(Op.GATHER, "self dim index", sparse_grad=False),
    aten.flip.default: _of(Op.FLIP, "self dims"),
    aten.logical_or.default: _of(Op.LOGICAL_OR, "self other"),
    aten.bitwise_or.Tensor: _of(Op.LOGICAL_OR, "self other"),
    aten.log1p.default: _of(Op.LOG1P, "self"),
    aten.expm1.default: _of(Op.EXPM1, "self"),
    aten.clamp.Tensor: _of(Op.MAXIMUM, "self min", max=None),  # else see translation_of
}

# What `aten.pad` is in its other modes, and `aten.clamp` with a tensor for its upper bound alone.
_PADS: dict[Any, Translation] = {"reflect": _of(Op.REFLECT, "self pad"), "replicate": _of(Op.REPLICATE, "self pad")}
_CLAMP_ABOVE = _of(Op.MINIMUM, "self max")


def translation_of(target: Any, named: Named) -> Translation:
    """The entry for a call; for a few operators its arguments decide."""
    if target is aten.pad.default:
        return _PADS.get(named["mode"], TRANSLATIONS[target])
    if target is aten.clamp.Tensor and named["min"] is None:
        return _CLAMP_ABOVE
    return TRANSLATIONS[target]


# Copies and marks of memory: in a graph without in-place operators they are the value itself.
TRANSPARENT: frozenset[Any] = frozenset(
    {
        aten.clone.default,
        aten.alias.default,
        aten.contiguous.default,
        aten.lift_fresh_copy.default,
        aten.lift_fresh.default,
        aten.empty_like.default,  # only its shape is ever used
    }
)
# A tensor in several pieces, and one as large as another, filled with a number (None: with `fill_value`).
SPLITS: frozenset[Any] = frozenset({aten.split.Tensor, aten.split_with_sizes.default, aten.unbind.int})
LIKE: dict[Any, float | None] = {
    aten.zeros_like.default: 0.0,
    aten.ones_like.default: 1.0,
    aten.full_like.default: None,
}
# What only takes its dtype and device from its argument, or also its size.
FILLED: dict[Any, float | None] = LIKE | {
    aten.new_zeros.default: 0.0,
    aten.new_ones.default: 1.0,
    aten.new_full.default: None,
}


def is_conversion(node: fx.Node) -> bool:
    """Whether the node only converts a tensor to another dtype."""
    return node.target in (aten._to_copy.default, aten.to.dtype)


def named_arguments(node: fx.Node) -> dict[str, Any]:
    """All arguments of a call by ATen's names, with the defaults that the graph leaves out."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:  # whole-number arithmetic of Python's own operators
        return dict(zip(("a", "b"), node.args, strict=True))
    named: dict[str, Any] = {}
    for index, argument in enumerate(schema.arguments):
        if index < len(node.args):
            named[argument.name] = node.args[index]
        elif argument.name in node.kwargs:
            named[argument.name] = node.kwargs[argument.name]
        else:
            named[argument.name] = argument.default_value
    return named
