"""What autograd keeps of each operator until the backward pass, and what the backward pass makes.

This is the table behind the memory estimate. An operator that is not in it is taken to keep its
arguments and its result, which is as much as any operator of one kernel keeps: so a new operator is
estimated high until it has a line here. The keys are operators' names. The entries follow PyTorch's `derivatives.yaml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Keeps = Literal["nothing", "x", "result", "x and result", "tensors", "factors", "tensors and result"]
Gradient = Literal["new", "same", "part"]


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """One operator's memory beside its result.

    `keeps`: what must live until the backward pass: the first argument ("x"), all tensor arguments
    ("tensors"), or each tensor argument if another one needs a gradient ("factors").
    `is_view`: the result is the first argument's memory, as long as that allows it.
    `mask_bytes`: kept beside, for each element of the result (a mask, the places of maxima).
    `gradient`: whether an argument's gradient is new memory, or the result's own ("same"; "part" of it).
    `workspace`: what the kernel takes while it runs, in units of its input and result together.
    `backward_workspace`: likewise, of its backward pass.
    """

    keeps: Keeps = "tensors and result"
    is_view: bool = False
    mask_bytes: int = 0
    gradient: Gradient = "new"
    workspace: float = 0.0
    backward_workspace: float = 0.0


UNKNOWN = Footprint()

_VIEW = Footprint(keeps="nothing", is_view=True, gradient="same")
_PART = Footprint(keeps="nothing", is_view=True)  # the gradient is as large as the whole
_SUM = Footprint(keeps="nothing", gradient="same")
_FREE = Footprint(keeps="nothing")
_OF_X = Footprint(keeps="x")
_OF_RESULT = Footprint(keeps="result")
_PRODUCT = Footprint(keeps="factors")
# oneDNN computes in a layout of its own: it reorders what comes in and what goes out.
_CONVOLUTION = Footprint(keeps="factors", workspace=0.5, backward_workspace=1.0)

FOOTPRINTS: Mapping[str, Footprint] = {
    **dict.fromkeys(("RESHAPE", "PERMUTE", "TRANSPOSE", "UNSQUEEZE", "SQUEEZE"), _VIEW),
    **dict.fromkeys(("EXPAND", "SLICE", "SELECT"), _PART),
    **dict.fromkeys(("CONCATENATE", "STACK"), Footprint(keeps="nothing", gradient="part")),
    **dict.fromkeys(("ADD", "SUB", "RSUB", "SUM", "MEAN"), _SUM),  # of a sum: expanded, not copied
    **dict.fromkeys(("PAD", "NEG"), _FREE),
    "TO_FLOAT32": _FREE,
    **dict.fromkeys(("MUL", "LINEAR", "MATMUL"), _PRODUCT),
    **dict.fromkeys(("DIV", "MAXIMUM", "MINIMUM"), Footprint(keeps="tensors")),
    **dict.fromkeys(("EXP", "SQRT", "RSQRT", "RECIPROCAL"), _OF_RESULT),
    **dict.fromkeys(("RELU", "SIGMOID", "TANH", "SOFTMAX", "LOG_SOFTMAX"), _OF_RESULT),
    **dict.fromkeys(("POW", "CLAMP", "ABS", "LOG", "SIN", "COS"), _OF_X),
    **dict.fromkeys(("LEAKY_RELU", "ELU", "GELU", "SILU", "HARDTANH"), _OF_X),
    **dict.fromkeys(("HARDSWISH", "HARDSIGMOID", "SOFTPLUS", "MISH"), _OF_X),
    **dict.fromkeys(("CONV1D", "CONV2D"), _CONVOLUTION),
    "MAX_POOL2D": Footprint(keeps="x", mask_bytes=8),
    **dict.fromkeys(("AVG_POOL2D", "ADAPTIVE_AVG_POOL2D"), _OF_X),
    **dict.fromkeys(("BATCH_NORM_TRAIN", "BATCH_NORM_EVAL", "LAYER_NORM", "GROUP_NORM"), _OF_X),
    "DROPOUT": Footprint(keeps="nothing", mask_bytes=4),
    "AMAX": Footprint(keeps="x and result"),
    # Recurrent layers keep, for each step, what comes out of every gate: some ten times their result in each layer.
    **dict.fromkeys(("LSTM", "GRU", "RNN", "LSTM_CELL", "GRU_CELL"), Footprint(mask_bytes=80)),
    "ATTENTION": Footprint(),  # queries, keys, values and result; what is made of the weights is not kept
    **dict.fromkeys(("CONV_TRANSPOSE1D", "CONV_TRANSPOSE2D", "CONV3D"), _CONVOLUTION),
    **dict.fromkeys(("MAX_POOL3D", "ADAPTIVE_MAX_POOL2D"), Footprint(keeps="x", mask_bytes=8)),
    "EMBEDDING": Footprint(keeps="tensors"),  # of which the table is the model's own
    "DETACH": _VIEW,
    **dict.fromkeys(("TO_INT64", "FULL", "CUMSUM", "PIXEL_SHUFFLE", "REPEAT"), _FREE),
    **dict.fromkeys(("UPSAMPLE_NEAREST2D", "UPSAMPLE_BILINEAR2D", "NORMAL", "BERNOULLI"), _FREE),
    **dict.fromkeys(("FLOOR", "SIGN", "ARGMAX", "LOGICAL_NOT", "LOGICAL_AND"), _FREE),
    **dict.fromkeys(("EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL"), _FREE),
    **dict.fromkeys(("REFLECT", "REPLICATE", "ERF", "WHERE", "GLU", "VARIANCE"), _OF_X),
    "LOG_SIGMOID": Footprint(keeps="x", mask_bytes=4),
    "PRELU": Footprint(keeps="tensors"),
    **dict.fromkeys(("AMIN", "PROD", "DEVIATION", "NORM", "LOGSUMEXP"), Footprint(keeps="x and result")),
    **dict.fromkeys(("MAX", "MIN"), Footprint(keeps="nothing", mask_bytes=8)),
}
