"""What autograd keeps of each operator until the backward pass, and what its kernels take: for the estimate.

An operator that is not in the table is taken to keep its arguments and its result, which is as much as most
operators of one kernel keep: so a new operator is estimated high until it has a line here. The keys are
operators' names. The entries follow PyTorch's `derivatives.yaml`; those of workspaces were measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from grapevine_proto.program import Operator
from grapevine_tasks.checks.calls import Call, Gradient, NodeMemory
from grapevine_tasks.checks.sequences import STEPS_ABOUT, Extra, attention_about, recurrent

Keeps = Literal["nothing", "x", "result", "x and result", "tensors", "factors", "tensors and result"]


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """One operator's memory beside its result.

    `keeps`: what must live until the backward pass: the first argument ("x"), all tensor arguments
    ("tensors"), or each tensor argument if another one needs a gradient ("factors").
    `is_view`: the result is the first argument's memory, as long as that allows it.
    `mask_bytes`: kept beside, for each element of the result (a mask, the places of maxima).
    `gradient`: whether an argument's gradient is new memory, or the result's own ("same"; "part" of it).
    `workspace`: what the kernel takes while it runs, in units of its input and result together.
    `backward_workspace`: likewise, of its backward pass, with the gradients that it makes.
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
    **dict.fromkeys(("CLAMP", "ABS", "LOG", "SIN", "COS"), _OF_X),
    "POW": Footprint(keeps="x", backward_workspace=1.5),
    "ERF": Footprint(keeps="x", backward_workspace=2.5),
    **dict.fromkeys(("LEAKY_RELU", "ELU", "GELU", "SILU", "HARDTANH"), _OF_X),
    **dict.fromkeys(("HARDSWISH", "HARDSIGMOID", "SOFTPLUS", "MISH"), _OF_X),
    **dict.fromkeys(("CONV1D", "CONV2D"), _CONVOLUTION),
    "MAX_POOL2D": Footprint(keeps="x", mask_bytes=8),
    **dict.fromkeys(("AVG_POOL2D", "ADAPTIVE_AVG_POOL2D"), _OF_X),
    **dict.fromkeys(("BATCH_NORM_TRAIN", "BATCH_NORM_EVAL", "LAYER_NORM", "GROUP_NORM"), _OF_X),
    "DROPOUT": Footprint(keeps="nothing", mask_bytes=4),
    **dict.fromkeys(("LSTM", "GRU", "RNN", "LSTM_CELL", "GRU_CELL"), Footprint(keeps="tensors")),  # and `EXTRAS`
    "ATTENTION": Footprint(),  # queries, keys, values and result, and `EXTRAS`
    **dict.fromkeys(("CONV_TRANSPOSE1D", "CONV_TRANSPOSE2D", "CONV3D"), _CONVOLUTION),
    **dict.fromkeys(("MAX_POOL3D", "ADAPTIVE_MAX_POOL2D"), Footprint(keeps="x", mask_bytes=8)),
    "EMBEDDING": Footprint(keeps="tensors"),  # of which the table is the model's own
    "DETACH": _VIEW,
    **dict.fromkeys(("TO_INT64", "FULL", "CUMSUM", "PIXEL_SHUFFLE", "REPEAT"), _FREE),
    **dict.fromkeys(("UPSAMPLE_NEAREST2D", "UPSAMPLE_BILINEAR2D", "NORMAL", "BERNOULLI"), _FREE),
    **dict.fromkeys(("FLOOR", "SIGN", "ARGMAX", "LOGICAL_NOT", "LOGICAL_AND"), _FREE),
    **dict.fromkeys(("EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL"), _FREE),
    **dict.fromkeys(("REFLECT", "REPLICATE", "WHERE", "GLU"), _OF_X),
    "VARIANCE": Footprint(keeps="x", backward_workspace=2.0),
    "LOG_SIGMOID": Footprint(keeps="x", mask_bytes=4),
    "PRELU": Footprint(keeps="tensors"),
    "DEVIATION": Footprint(keeps="x and result", backward_workspace=2.0),
    **dict.fromkeys(("AMAX", "AMIN", "PROD"), Footprint(keeps="x and result", backward_workspace=2.25)),
    "NORM": Footprint(keeps="x and result", backward_workspace=2.5),
    "LOGSUMEXP": Footprint(keeps="x and result", workspace=2.0, backward_workspace=3.0),
    **dict.fromkeys(("MAX", "MIN"), Footprint(keeps="nothing", mask_bytes=8)),
}

EXTRAS: Mapping[str, Callable[[Call], Extra]] = {
    **dict.fromkeys(STEPS_ABOUT, partial(recurrent, costs=STEPS_ABOUT)),
    "ATTENTION": attention_about,
}
IN_ORDER = (Operator.RESHAPE, Operator.UNSQUEEZE, Operator.SQUEEZE)  # views that leave the elements in their order


def estimated(call: Call) -> NodeMemory:
    """What an operator takes, about."""
    operator = call.node.operator
    footprint = FOOTPRINTS.get(operator.name, UNKNOWN)
    extra = EXTRAS.get(operator.name, _nothing)(call)
    is_scattered = bool(call.reads) and call.reads[0] in call.scattered
    is_view = footprint.is_view and not (operator is Operator.RESHAPE and is_scattered)
    return NodeMemory(
        keeps=_keeps(footprint.keeps, call) if call.learns else (),
        kept_bytes=_copied(call) + extra.kept + footprint.mask_bytes * call.sizes[call.makes[0]] // 4,
        forward_bytes=int(footprint.workspace * call.first_bytes) + extra.forward,
        backward_bytes=int(footprint.backward_workspace * call.first_bytes) + extra.backward,
        is_view=is_view,
        is_scattered=is_view and (operator not in IN_ORDER or is_scattered),
        gradient=footprint.gradient,
    )


def _nothing(call: Call) -> Extra:  # noqa: ARG001
    return Extra()


def _copied(call: Call) -> int:
    """What products of more than two dimensions copy before they multiply: factors that are not in order."""
    if call.node.operator not in (Operator.MATMUL, Operator.LINEAR):
        return 0
    copied = (value for value in call.reads if value in call.scattered and len(call.shape_of(value)) > 2)
    return sum(call.sizes[value] for value in copied)


def _keeps(keeps: Keeps, call: Call) -> tuple[int, ...]:
    tensors, result = call.reads, call.makes[0]
    match keeps:
        case "nothing":
            return ()
        case "x":
            return tensors[:1]
        case "result":
            return (result,)
        case "x and result":
            return (*tensors[:1], result)
        case "tensors":
            return tensors
        case "factors":
            return tuple(
                value
                for place, value in enumerate(tensors[:2])
                if any(other in call.learning for other in tensors[1 - place : 2 - place])
            )
        case _:
            return (*tensors, result)
