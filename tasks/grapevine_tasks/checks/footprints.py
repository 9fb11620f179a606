"""What autograd keeps of each operator until the backward pass, and what the backward pass makes.

This is the table behind the memory estimate. An operator that is not in it is taken to keep its
arguments and its result, which is as much as any operator of one kernel keeps: so a new operator is
estimated high until it has a line here. The entries follow PyTorch's `derivatives.yaml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from grapevine_proto.program import Operator as Op

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

FOOTPRINTS: Mapping[Op, Footprint] = {
    **dict.fromkeys((Op.RESHAPE, Op.PERMUTE, Op.TRANSPOSE, Op.UNSQUEEZE, Op.SQUEEZE), _VIEW),
    **dict.fromkeys((Op.EXPAND, Op.SLICE, Op.SELECT), _PART),
    **dict.fromkeys((Op.CONCATENATE, Op.STACK), Footprint(keeps="nothing", gradient="part")),
    **dict.fromkeys((Op.ADD, Op.SUB, Op.RSUB, Op.SUM, Op.MEAN), _SUM),  # of a sum: expanded, not copied
    **dict.fromkeys((Op.PAD, Op.NEG), _FREE),
    Op.TO_FLOAT32: _FREE,
    **dict.fromkeys((Op.MUL, Op.LINEAR, Op.MATMUL), _PRODUCT),
    **dict.fromkeys((Op.DIV, Op.MAXIMUM, Op.MINIMUM), Footprint(keeps="tensors")),
    **dict.fromkeys((Op.EXP, Op.SQRT, Op.RSQRT, Op.RECIPROCAL), _OF_RESULT),
    **dict.fromkeys((Op.RELU, Op.SIGMOID, Op.TANH, Op.SOFTMAX, Op.LOG_SOFTMAX), _OF_RESULT),
    **dict.fromkeys((Op.POW, Op.CLAMP, Op.ABS, Op.LOG, Op.SIN, Op.COS), _OF_X),
    **dict.fromkeys((Op.LEAKY_RELU, Op.ELU, Op.GELU, Op.SILU, Op.HARDTANH), _OF_X),
    **dict.fromkeys((Op.HARDSWISH, Op.HARDSIGMOID, Op.SOFTPLUS, Op.MISH), _OF_X),
    **dict.fromkeys((Op.CONV1D, Op.CONV2D), _CONVOLUTION),
    Op.MAX_POOL2D: Footprint(keeps="x", mask_bytes=8),
    **dict.fromkeys((Op.AVG_POOL2D, Op.ADAPTIVE_AVG_POOL2D), _OF_X),
    **dict.fromkeys((Op.BATCH_NORM_TRAIN, Op.BATCH_NORM_EVAL, Op.LAYER_NORM, Op.GROUP_NORM), _OF_X),
    Op.DROPOUT: Footprint(keeps="nothing", mask_bytes=4),
    Op.AMAX: Footprint(keeps="x and result"),
}
