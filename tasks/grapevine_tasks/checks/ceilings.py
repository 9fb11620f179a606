"""What each operator takes at most, whatever its kernels do: for the bound.

No operator keeps more than all that it reads and makes and what stands here. What kernels take while they run is
counted in what an operator reads and makes together: copies of arguments and gradients that are not in order, and
the temporaries of gradients that PyTorch's `FunctionsManual.cpp` writes as formulas, all of which live until the
formula's end. An operator that is not in the table is taken to need more than any that is.

The campaign in `tests/unit/tasks/hostile/memory` holds the table against what PyTorch takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from grapevine_proto.program import Operator
from grapevine_tasks.checks.calls import FLOAT_BYTES, Call, Gradient, NodeMemory, num_elements
from grapevine_tasks.checks.footprints import FOOTPRINTS, IN_ORDER
from grapevine_tasks.checks.sequences import STEPS_AT_MOST, Extra, attention_at_most, recurrent

NODE_BYTES = 4096  # of autograd's nodes and of small objects, for a node that it records
REFERENCE_BYTES = 1024  # for each tensor that the node reads
VECTOR = 16  # channels that oneDNN pads to, where there are fewer
MOST_THREADS = 16  # whose own sums of a gradient are counted


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """`forward`, `backward`: in units of all that an operator reads and makes. `kept`: of what it makes, beside it."""

    kept: float = 0.0
    forward: float = 1.0
    backward: float = 1.0


UNKNOWN = Ceiling(kept=2.0, forward=4.0, backward=8.0)

_VIEW = Ceiling(forward=0.0)
_PLAIN = Ceiling()
_TWICE = Ceiling(backward=2.0)
_FORMULA = Ceiling(backward=2.5)
_LONG_FORMULA = Ceiling(forward=3.0, backward=3.5)
_PLACES = Ceiling(kept=2.0)  # of maxima, as int64
_CONVOLUTION = Ceiling(forward=1.5, backward=1.5)
_COUNTED_APART = Ceiling(forward=0.0, backward=0.0)

_VIEWS = "RESHAPE PERMUTE TRANSPOSE UNSQUEEZE SQUEEZE EXPAND SLICE SELECT DETACH"
_MOVED = "CONCATENATE STACK PAD TO_FLOAT32 TO_INT64 FULL REFLECT REPLICATE PIXEL_SHUFFLE REPEAT FLIP"
_COMPARED = "EQUAL NOT_EQUAL GREATER GREATER_EQUAL LESS LESS_EQUAL LOGICAL_NOT LOGICAL_AND LOGICAL_OR ARGMAX"
_OF_ONE_KERNEL = "RELU LEAKY_RELU ELU GELU SILU SIGMOID TANH HARDTANH HARDSWISH HARDSIGMOID SOFTPLUS MISH SOFTMAX"
_MORE_OF_ONE_KERNEL = "LOG_SOFTMAX GLU NEG ADD SUB RSUB FLOOR SIGN SUM MEAN NORMAL BERNOULLI LINEAR"
_LAYERS = "AVG_POOL2D ADAPTIVE_AVG_POOL2D UPSAMPLE_NEAREST2D UPSAMPLE_BILINEAR2D LAYER_NORM GROUP_NORM"
_WITH_SUMS = "MUL CUMSUM MAX MIN GATHER INDEX_SELECT EMBEDDING PRELU BATCH_NORM_TRAIN BATCH_NORM_EVAL"
_FORMULAS = "DIV MAXIMUM MINIMUM POW CLAMP ABS EXP LOG SQRT RSQRT RECIPROCAL SIN COS ERF WHERE LOG1P EXPM1"

CEILINGS: Mapping[str, Ceiling] = {
    **dict.fromkeys(_VIEWS.split(), _VIEW),
    **dict.fromkeys(f"{_MOVED} {_COMPARED} {_OF_ONE_KERNEL} {_MORE_OF_ONE_KERNEL} {_LAYERS}".split(), _PLAIN),
    **dict.fromkeys(_WITH_SUMS.split(), _TWICE),
    **dict.fromkeys(_FORMULAS.split(), _FORMULA),
    **dict.fromkeys(["AMAX", "AMIN", "VARIANCE", "DEVIATION", "NORM", "LOGSUMEXP"], _LONG_FORMULA),
    "PROD": Ceiling(forward=2.0, backward=8.0),  # zeros among the factors take a way of their own
    **dict.fromkeys(("DROPOUT", "LOG_SIGMOID"), Ceiling(kept=1.0)),
    **dict.fromkeys(("MAX_POOL2D", "MAX_POOL3D", "ADAPTIVE_MAX_POOL2D"), _PLACES),
    **dict.fromkeys(["CONV1D", "CONV2D", "CONV3D", "CONV_TRANSPOSE1D", "CONV_TRANSPOSE2D"], _CONVOLUTION),
    "MATMUL": _COUNTED_APART,
    **dict.fromkeys((*STEPS_AT_MOST, "ATTENTION"), _PLAIN),
}

# Their gradient may be the result's own memory. CONCATENATE and STACK give a part of it, which keeps the whole alive.
_PASSING = "ADD SUB RSUB SUM TO_FLOAT32 EXPAND REPEAT CUMSUM PAD DROPOUT RESHAPE PERMUTE TRANSPOSE UNSQUEEZE SQUEEZE"
GRADIENTS: Mapping[str, Gradient] = {
    **dict.fromkeys(CEILINGS, "new"),
    **dict.fromkeys(_PASSING.split(), "same"),
    **dict.fromkeys(("CONCATENATE", "STACK"), "part"),
}

_TILED = (Operator.CONV1D, Operator.CONV2D)
_LARGEST_TILED = 16  # numbers that a kernel has in a direction
_TRANSPOSED = (Operator.CONV_TRANSPOSE1D, Operator.CONV_TRANSPOSE2D)
_ALWAYS_IN_ORDER = (Operator.LINEAR, Operator.EMBEDDING, Operator.FULL)
_MAYBE_SCATTERED = (Operator.ATTENTION, Operator.LSTM, Operator.GRU, Operator.RNN)


def bounded(call: Call) -> NodeMemory:
    """What an operator takes at most."""
    operator = call.node.operator
    ceiling = CEILINGS.get(operator.name, UNKNOWN)
    extra = EXTRAS[operator.name](call) if operator.name in EXTRAS else Extra()
    both = call.read_bytes + call.made_bytes
    is_view = operator.name in FOOTPRINTS and FOOTPRINTS[operator.name].is_view
    gradients = sum(call.sizes[value] for value in call.reads if value in call.learning)
    own = NODE_BYTES + REFERENCE_BYTES * len(call.reads)
    return NodeMemory(
        keeps=(*call.reads, *call.makes) if call.learns else (),
        kept_bytes=own + int(ceiling.kept * call.made_bytes) + extra.kept,
        forward_bytes=int(ceiling.forward * both) + extra.forward,
        backward_bytes=gradients + int(ceiling.backward * both) + extra.backward,
        is_view=is_view,
        copied_bytes=call.made_bytes if operator is Operator.RESHAPE and _is_any_scattered(call) else 0,
        is_scattered=_is_scattered(call, is_view=is_view),
        gradient=GRADIENTS.get(operator.name, "same"),
    )


def _is_scattered(call: Call, *, is_view: bool) -> bool:
    """Operators take over the order of what they read, unless they are known to make their own."""
    operator = call.node.operator
    if is_view and operator not in IN_ORDER:
        return True
    if operator in _ALWAYS_IN_ORDER:
        return False
    if operator in _MAYBE_SCATTERED or _is_any_scattered(call):
        return True
    return operator is Operator.MATMUL and len(call.shape_of(call.reads[0])) < len(call.shape_of(call.reads[1]))


def _is_any_scattered(call: Call) -> bool:
    return any(value in call.scattered for value in call.reads)


# --- what depends on more than sizes --------------------------------------------------------------


def _linear(call: Call) -> Extra:
    """More than two dimensions are folded into two, which copies what is not in order."""
    x = call.reads[0]
    return Extra(kept=call.sizes[x] if x in call.scattered else 0)


def _matmul(call: Call) -> Extra:
    """A factor is copied for each matrix that it meets, and its gradients come as many, to be summed up."""
    batch = num_elements(call.shape_of(call.makes[0])[:-2])
    kept = whole = 0
    for value in call.reads:
        expanded = FLOAT_BYTES * batch * num_elements(call.shape_of(value)[-2:])
        whole += expanded
        if value in call.scattered or expanded > call.sizes[value]:
            kept += expanded
    return Extra(kept=kept, forward=whole + call.made_bytes, backward=2 * whole + call.made_bytes)


def _convolution(call: Call) -> Extra:
    """Without oneDNN the unfolded input, or NNPACK's tiles; with it what it pads to whole vectors, few channels."""
    x, weight = call.shape_of(call.reads[0]), call.shape_of(call.reads[1])
    result = call.shape_of(call.makes[0])
    transposed = call.node.operator in _TRANSPOSED
    groups = call.node.arguments[6]
    assert isinstance(groups, int)
    unfolded = x if transposed else result
    columns = FLOAT_BYTES * unfolded[0] * num_elements(unfolded[2:]) * num_elements(weight[1:]) * groups
    padded = 0
    if max(x[1], result[1]) < VECTOR:
        padded = sum(FLOAT_BYTES * VECTOR * num_elements((shape[0], *shape[2:])) for shape in (x, result))
    return Extra(forward=max(columns, padded, _tile_bytes(call)), backward=max(columns, padded))


def _tile_bytes(call: Call) -> int:
    """What NNPACK takes, which PyTorch has convolve larger batches where oneDNN is off: measured, and explained so.

    It goes over the image tile by tile, and transforms that tile of every sample and channel, and all kernels: 8 × 8
    numbers, or 16 × 16 where that makes less than a quarter as many tiles. Strides and dilation it leaves to others.
    """
    stride, _, dilation = (call.node.arguments[place] for place in (3, 4, 5))
    if call.node.operator not in _TILED or set(_integers(stride)) != {1} or set(_integers(dilation)) != {1}:
        return 0
    x, weight, result = (call.shape_of(value) for value in (call.reads[0], call.reads[1], call.makes[0]))
    kernel, image = weight[2:], result[2:]
    if max(kernel) > _LARGEST_TILED:
        return 0

    def num_tiles(side: int) -> int:
        return math.prod(math.ceil(size / (side - along + 1)) for size, along in zip(image, kernel, strict=True))

    is_small = max(kernel) <= 8 and num_tiles(8) <= 4 * num_tiles(16)
    transformed = x[0] * (x[1] + result[1]) + num_elements(weight[:2])
    return FLOAT_BYTES * (8 if is_small else 16) ** 2 * transformed


def _layer_norm(call: Call) -> Extra:
    """Mean and deviation of each row; each thread sums the weights' gradients for itself."""
    normalised = num_elements(list(_integers(call.node.arguments[1])))
    rows = call.sizes[call.reads[0]] // (FLOAT_BYTES * max(1, normalised))
    return Extra(kept=2 * FLOAT_BYTES * rows, backward=2 * FLOAT_BYTES * MOST_THREADS * normalised)


def _group_norm(call: Call) -> Extra:
    """Mean and deviation of each group; a copy, if the elements are not in order."""
    x = call.reads[0]
    groups = call.shape_of(x)[0] * next(_integers((call.node.arguments[1],)))
    return Extra(
        kept=2 * FLOAT_BYTES * groups + (call.sizes[x] if x in call.scattered else 0),
        backward=2 * FLOAT_BYTES * num_elements(call.shape_of(x)[:2]),
    )


def _integers(argument: object) -> Iterator[int]:
    if isinstance(argument, tuple):
        yield from (item for item in argument if isinstance(item, int))


EXTRAS: Mapping[str, Callable[[Call], Extra]] = {
    "LINEAR": _linear,
    "MATMUL": _matmul,
    **dict.fromkeys(["CONV1D", "CONV2D", "CONV3D", "CONV_TRANSPOSE1D", "CONV_TRANSPOSE2D"], _convolution),
    "LAYER_NORM": _layer_norm,
    "GROUP_NORM": _group_norm,
    **dict.fromkeys(STEPS_AT_MOST, partial(recurrent, costs=STEPS_AT_MOST)),
    "ATTENTION": attention_at_most,
}
