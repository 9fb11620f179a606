"""The operators of opset 1: for each its arguments and their bounds, its shape rule and its cost.

This table is what `checks` trusts: an operator that is not here does not exist for a device. To add
one: give it a number in `program.proto` and `grapevine_proto.program.Operator`, an entry here, a
function in `interpreter.kernels` and a translation in `authoring.translations`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from grapevine_proto.program import Operator as Op
from grapevine_tasks import more_shape_rules as more
from grapevine_tasks import operator_costs as costs
from grapevine_tasks import shape_rules as shapes
from grapevine_tasks.shape_rules import Types
from grapevine_tasks.sizes import Size


class Kind(StrEnum):
    """What an argument may be; `program.proto` explains each word."""

    TENSOR = "tensor"
    OPERAND = "operand"
    TENSORS = "tensors"
    SIZE = "size"
    SIZES = "sizes"
    INTEGER = "integer"
    INTEGERS = "integers"
    REAL = "real"
    FLAG = "flag"


@dataclass(frozen=True)
class Slot:
    """One argument of an operator: its name, its kind and its bounds."""

    name: str
    kind: Kind
    low: float = -math.inf
    high: float = math.inf
    length: int | None = None  # of INTEGERS; None: any
    optional: bool = False

    def __str__(self) -> str:
        words = f"integer[{self.length or ''}]" if self.kind is Kind.INTEGERS else str(self.kind)
        bounds = f" {_plain(self.low)}..{_plain(self.high)}" if math.isfinite(self.high) else ""
        return f"{self.name}: {words}{'?' if self.optional else ''}{bounds}"


def _plain(bound: float) -> str:
    return str(int(bound)) if float(bound).is_integer() and abs(bound) < 2**53 else f"{bound:g}"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """All that is known of an operator without running it.

    `shape` maps the resolved arguments to the types of the results, `flops` estimates the
    floating-point operations of the forward pass, `workspace` the float32 elements that a device
    may allocate beside the results while it runs.
    """

    slots: tuple[Slot, ...]
    shape: Callable[..., Types]
    flops: costs.Cost = costs.no_cost
    workspace: costs.Cost = field(default=costs.no_cost)
    num_results: int = 1

    def signature(self) -> str:
        """The operator's line in `program.proto`."""
        return f"({', '.join(map(str, self.slots))}) -> {self.num_results}"


# --- arguments that recur -------------------------------------------------------------------------


def _tensor(name: str) -> Slot:
    return Slot(name, Kind.TENSOR)


def _maybe(name: str) -> Slot:
    return Slot(name, Kind.TENSOR, optional=True)


def _integers(name: str, low: int, high: int, length: int | None = None) -> Slot:
    return Slot(name, Kind.INTEGERS, low, high, length)


def _window(dimensions: int) -> tuple[Slot, Slot, Slot]:
    return (
        _integers("kernel", 1, 256, dimensions),
        _integers("stride", 1, 256, dimensions),
        _integers("padding", 0, 128, dimensions),
    )


def _strides(dimensions: int) -> tuple[Slot, ...]:
    stride, padding = _window(dimensions)[1:]
    return stride, padding, _integers("dilation", 1, 64, dimensions), Slot("groups", Kind.INTEGER, 1, 65536)


X, WEIGHT, BIAS = _tensor("x"), _maybe("weight"), _maybe("bias")
DIM = Slot("dim", Kind.INTEGER, -8, 8)
DIMS = _integers("dims", -8, 8)
EPS = Slot("eps", Kind.REAL, 1e-12, 1)
BINARY = (_tensor("a"), Slot("b", Kind.OPERAND))
TWO_TENSORS = (_tensor("a"), _tensor("b"))
TWO_SIZES = (Slot("a", Kind.SIZE), Slot("b", Kind.SIZE))
KEEP = Slot("keep", Kind.FLAG)
CEIL = Slot("ceil", Kind.FLAG)
STATISTICS = (_tensor("mean"), _tensor("variance"))
LARGEST_OPERAND = 1e30  # well inside float32; in a mask it stands for infinity
NUMBER = 1e6  # constants of activations are small; a bound keeps them finite in float32


def _real(name: str, low: float = -NUMBER, high: float = NUMBER, optional: bool = False) -> Slot:
    return Slot(name, Kind.REAL, low, high, optional=optional)


def _unary(cost: int = 1, *more: Slot) -> Rule:
    return Rule(slots=(X, *more), shape=shapes.elementwise, flops=costs.each(cost))


def _convolve(dimensions: int) -> Rule:
    return Rule(
        slots=(X, _tensor("weight"), BIAS, *_strides(dimensions)),
        shape=shapes.convolution,
        flops=costs.convolution,
        workspace=costs.columns,
    )


def _transpose_convolve(dimensions: int) -> Rule:
    return Rule(
        slots=(
            X,
            _tensor("weight"),
            BIAS,
            *_strides(dimensions)[:2],
            _integers("output_padding", 0, 128, dimensions),
            Slot("groups", Kind.INTEGER, 1, 65536),
            _integers("dilation", 1, 64, dimensions),
        ),
        shape=more.transposed_convolution,
        flops=costs.transposed,
        workspace=costs.transposed_columns,
    )


_LAYERS = (
    Slot("biases", Kind.FLAG),
    Slot("layers", Kind.INTEGER, 1, 16),
    _real("dropout", 0, 1),
    Slot("train", Kind.FLAG),
    Slot("bidirectional", Kind.FLAG),
    Slot("batch_first", Kind.FLAG),
)
_WEIGHTS = Slot("weights", Kind.TENSORS)
_CELL = (_tensor("input_weight"), _tensor("hidden_weight"), _maybe("input_bias"), _maybe("hidden_bias"))
_COMPARISON = Rule(slots=BINARY, shape=more.compare, flops=costs.each(1))
_SPREAD = Rule(slots=(X, DIMS, _real("correction", 0, 1024), KEEP), shape=more.spread, flops=costs.each_read(4))
_EXTREME = Rule(slots=(X, DIM, KEEP), shape=more.extreme, flops=costs.read, num_results=2)
_UPSAMPLED = _integers("output", 1, 65536, 2)

_REDUCTION = Rule(slots=(X, DIMS, KEEP), shape=shapes.reduce, flops=costs.read)
_ARITHMETIC = Rule(slots=BINARY, shape=shapes.binary, flops=costs.each(1))
_BETWEEN_TENSORS = Rule(slots=TWO_TENSORS, shape=shapes.binary, flops=costs.each(1))
_SOFTMAX = Rule(slots=(X, DIM), shape=shapes.along, flops=costs.each(5))

RULES: dict[Op, Rule] = {
    # Sizes.
    Op.SIZE: Rule(slots=(X, DIM), shape=shapes.size),
    Op.INT_ADD: Rule(slots=TWO_SIZES, shape=shapes.int_add),
    Op.INT_SUB: Rule(slots=TWO_SIZES, shape=shapes.int_sub),
    Op.INT_MUL: Rule(slots=TWO_SIZES, shape=shapes.int_mul),
    Op.INT_FLOORDIV: Rule(slots=TWO_SIZES, shape=shapes.int_floordiv),
    # Shapes.
    Op.RESHAPE: Rule(slots=(X, Slot("shape", Kind.SIZES)), shape=shapes.reshape),
    Op.PERMUTE: Rule(slots=(X, DIMS), shape=shapes.permute),
    Op.TRANSPOSE: Rule(
        slots=(X, Slot("dim0", Kind.INTEGER, -8, 8), Slot("dim1", Kind.INTEGER, -8, 8)), shape=shapes.transpose
    ),
    Op.UNSQUEEZE: Rule(slots=(X, DIM), shape=shapes.unsqueeze),
    Op.SQUEEZE: Rule(slots=(X, DIMS), shape=shapes.squeeze),
    Op.EXPAND: Rule(slots=(X, Slot("shape", Kind.SIZES)), shape=shapes.expand),
    Op.SLICE: Rule(
        slots=(
            X,
            DIM,
            Slot("start", Kind.INTEGER),
            Slot("end", Kind.INTEGER),
            Slot("step", Kind.INTEGER, 1, 65536),
        ),
        shape=shapes.slice_,
    ),
    Op.SELECT: Rule(slots=(X, DIM, Slot("index", Kind.INTEGER)), shape=shapes.select),
    Op.CONCATENATE: Rule(slots=(Slot("tensors", Kind.TENSORS), DIM), shape=shapes.concatenate),
    Op.STACK: Rule(slots=(Slot("tensors", Kind.TENSORS), DIM), shape=shapes.stack),
    Op.PAD: Rule(slots=(X, _integers("amounts", 0, 1024), _real("value")), shape=shapes.pad),
    Op.TO_FLOAT32: Rule(slots=(X,), shape=shapes.to_float32),
    Op.TO_INT64: Rule(slots=(X,), shape=more.to_int64),
    Op.DETACH: Rule(slots=(X,), shape=more.same),
    Op.FULL: Rule(
        slots=(Slot("shape", Kind.SIZES), _real("value", -LARGEST_OPERAND, LARGEST_OPERAND)), shape=more.full
    ),
    Op.CUMSUM: Rule(slots=(X, DIM), shape=shapes.along, flops=costs.each(1)),
    Op.REFLECT: Rule(slots=(X, _integers("amounts", 0, 1024)), shape=more.reflect),
    Op.REPLICATE: Rule(slots=(X, _integers("amounts", 0, 1024)), shape=more.replicate),
    Op.PIXEL_SHUFFLE: Rule(slots=(X, Slot("factor", Kind.INTEGER, 1, 64)), shape=more.pixel_shuffle),
    Op.REPEAT: Rule(slots=(X, _integers("times", 1, 65536)), shape=more.repeat),
    # Element by element.
    Op.ADD: _ARITHMETIC,
    Op.SUB: _ARITHMETIC,
    Op.MUL: _ARITHMETIC,
    Op.DIV: _ARITHMETIC,
    Op.RSUB: _ARITHMETIC,
    Op.MAXIMUM: _BETWEEN_TENSORS,
    Op.MINIMUM: _BETWEEN_TENSORS,
    Op.POW: _unary(8, _real("exponent", -16, 16)),
    Op.CLAMP: Rule(
        slots=(X, _real("low", optional=True), _real("high", optional=True)), shape=shapes.clamp, flops=costs.each(2)
    ),
    Op.NEG: _unary(),
    Op.ABS: _unary(),
    Op.EXP: _unary(4),
    Op.LOG: _unary(4),
    Op.SQRT: _unary(2),
    Op.RSQRT: _unary(2),
    Op.RECIPROCAL: _unary(),
    Op.SIN: _unary(4),
    Op.COS: _unary(4),
    Op.FLOOR: _unary(),
    Op.SIGN: _unary(),
    Op.ERF: _unary(6),
    Op.WHERE: Rule(
        slots=(_tensor("condition"), Slot("a", Kind.OPERAND), Slot("b", Kind.OPERAND)),
        shape=more.where,
        flops=costs.each(1),
    ),
    Op.EQUAL: _COMPARISON,
    Op.NOT_EQUAL: _COMPARISON,
    Op.GREATER: _COMPARISON,
    Op.GREATER_EQUAL: _COMPARISON,
    Op.LESS: _COMPARISON,
    Op.LESS_EQUAL: _COMPARISON,
    Op.LOGICAL_NOT: Rule(slots=(X,), shape=more.logical_not, flops=costs.each(1)),
    Op.LOGICAL_AND: Rule(slots=TWO_TENSORS, shape=more.logical_both, flops=costs.each(1)),
    # Layers.
    Op.LINEAR: Rule(slots=(X, _tensor("weight"), BIAS), shape=shapes.linear, flops=costs.linear),
    Op.MATMUL: Rule(slots=TWO_TENSORS, shape=shapes.matmul, flops=costs.matmul),
    Op.CONV1D: _convolve(1),
    Op.CONV2D: _convolve(2),
    Op.MAX_POOL2D: Rule(
        slots=(X, *_window(2), _integers("dilation", 1, 64, 2), CEIL),
        shape=shapes.max_pool,
        flops=costs.pooling,
        workspace=costs.each(2),  # the places of the maxima, as int64
    ),
    Op.AVG_POOL2D: Rule(
        slots=(X, *_window(2), CEIL, Slot("count_padding", Kind.FLAG)), shape=shapes.avg_pool, flops=costs.pooling
    ),
    Op.ADAPTIVE_AVG_POOL2D: Rule(
        slots=(X, _integers("output", 1, 1024, 2)),
        shape=shapes.adaptive_pool,
        flops=lambda arguments, results: costs.read(arguments, results) + Size.constant(4) * costs.elements(results[0]),
    ),
    Op.BATCH_NORM_TRAIN: Rule(
        slots=(X, WEIGHT, BIAS, *STATISTICS, _real("momentum", 0, 1), EPS),
        shape=shapes.batch_norm_train,
        flops=costs.each(8),
        num_results=3,
    ),
    Op.BATCH_NORM_EVAL: Rule(
        slots=(X, WEIGHT, BIAS, *STATISTICS, EPS), shape=shapes.batch_norm_eval, flops=costs.each(2)
    ),
    Op.LAYER_NORM: Rule(
        slots=(X, _integers("shape", 1, 2**24), WEIGHT, BIAS, EPS), shape=shapes.layer_norm, flops=costs.each(8)
    ),
    Op.GROUP_NORM: Rule(
        slots=(X, Slot("groups", Kind.INTEGER, 1, 65536), WEIGHT, BIAS, EPS),
        shape=shapes.group_norm,
        flops=costs.each(8),
    ),
    Op.DROPOUT: Rule(
        slots=(X, _real("p", 0, 1)), shape=shapes.elementwise, flops=costs.each(4), workspace=costs.each(1)
    ),
    Op.CONV_TRANSPOSE1D: _transpose_convolve(1),
    Op.CONV_TRANSPOSE2D: _transpose_convolve(2),
    Op.EMBEDDING: Rule(
        slots=(_tensor("weight"), _tensor("indices"), Slot("padding", Kind.INTEGER, -1, 2**31)), shape=more.embedding
    ),
    Op.LSTM: Rule(
        slots=(X, _tensor("hidden"), _tensor("cell"), _WEIGHTS, *_LAYERS),
        shape=more.lstm,
        flops=costs.recurrent(4),
        workspace=costs.gates(4),
        num_results=3,
    ),
    Op.GRU: Rule(
        slots=(X, _tensor("hidden"), _WEIGHTS, *_LAYERS),
        shape=more.gru,
        flops=costs.recurrent(3),
        workspace=costs.gates(3),
        num_results=2,
    ),
    Op.RNN: Rule(
        slots=(X, _tensor("hidden"), _WEIGHTS, *_LAYERS, Slot("relu", Kind.FLAG)),
        shape=more.rnn,
        flops=costs.recurrent(1),
        workspace=costs.gates(1),
        num_results=2,
    ),
    Op.ATTENTION: Rule(
        slots=(
            _tensor("query"),
            _tensor("key"),
            _tensor("value"),
            _maybe("mask"),
            _real("dropout", 0, 1),
            Slot("causal", Kind.FLAG),
            _real("scale", 0, NUMBER, optional=True),
        ),
        shape=more.attention,
        flops=costs.attention,
        workspace=costs.two_scores,
    ),
    Op.ADAPTIVE_MAX_POOL2D: Rule(
        slots=(X, _integers("output", 1, 1024, 2)),
        shape=shapes.adaptive_pool,
        flops=costs.read,
        workspace=costs.each(2),
    ),
    # Activations.
    Op.RELU: _unary(),
    Op.LEAKY_RELU: _unary(2, _real("slope")),
    Op.ELU: _unary(6, _real("alpha"), _real("scale"), _real("input_scale")),
    Op.GELU: _unary(10, Slot("tanh", Kind.FLAG)),
    Op.SILU: _unary(6),
    Op.SIGMOID: _unary(5),
    Op.TANH: _unary(5),
    Op.HARDTANH: _unary(2, _real("low"), _real("high")),
    Op.HARDSWISH: _unary(4),
    Op.HARDSIGMOID: _unary(3),
    Op.SOFTPLUS: _unary(8, _real("beta", 1e-6, NUMBER), _real("threshold")),
    Op.MISH: _unary(12),
    Op.SOFTMAX: _SOFTMAX,
    Op.LOG_SOFTMAX: _SOFTMAX,
    Op.PRELU: Rule(slots=(X, _tensor("slope")), shape=more.prelu, flops=costs.each(2)),
    Op.LOG_SIGMOID: _unary(8),
    Op.GLU: Rule(slots=(X, DIM), shape=more.glu, flops=costs.each(6)),
    # Reductions.
    Op.SUM: _REDUCTION,
    Op.MEAN: _REDUCTION,
    Op.AMAX: _REDUCTION,
    Op.AMIN: _REDUCTION,
    Op.PROD: Rule(slots=(X, DIM, KEEP), shape=more.reduce_one, flops=costs.read),
    Op.VARIANCE: _SPREAD,
    Op.DEVIATION: _SPREAD,
    Op.NORM: Rule(slots=(X, _real("p", 0.5, 16), DIMS, KEEP), shape=more.norm, flops=costs.each_read(4)),
    Op.LOGSUMEXP: Rule(slots=(X, DIMS, KEEP), shape=shapes.reduce, flops=costs.each_read(6)),
    Op.ARGMAX: Rule(slots=(X, DIM, KEEP), shape=more.argmax, flops=costs.read),
    Op.MAX: _EXTREME,
    Op.MIN: _EXTREME,
    # More layers.
    Op.CONV3D: _convolve(3),
    Op.MAX_POOL3D: Rule(
        slots=(X, *_window(3), _integers("dilation", 1, 64, 3), CEIL),
        shape=shapes.max_pool,
        flops=costs.pooling,
        workspace=costs.each(2),
    ),
    Op.UPSAMPLE_NEAREST2D: Rule(slots=(X, _UPSAMPLED), shape=more.upsample, flops=costs.each(1)),
    Op.UPSAMPLE_BILINEAR2D: Rule(
        slots=(X, _UPSAMPLED, Slot("corners", Kind.FLAG)), shape=more.upsample_bilinear, flops=costs.each(8)
    ),
    Op.LSTM_CELL: Rule(
        slots=(X, _tensor("hidden"), _tensor("cell"), *_CELL),
        shape=more.lstm_cell,
        flops=costs.cell,
        workspace=lambda arguments, results: Size.constant(6) * costs.elements(results[0]),  # noqa: ARG005
        num_results=2,
    ),
    Op.GRU_CELL: Rule(
        slots=(X, _tensor("hidden"), *_CELL),
        shape=more.gru_cell,
        flops=costs.cell,
        workspace=costs.each(6),
    ),
    # Randomness.
    Op.NORMAL: Rule(slots=(X,), shape=shapes.elementwise, flops=costs.each(8)),
    Op.BERNOULLI: Rule(slots=(X, _real("p", 0, 1)), shape=shapes.elementwise, flops=costs.each(4)),
    # What came later.
    Op.INDEX_SELECT: Rule(slots=(X, DIM, _tensor("indices")), shape=more.index_select),
    Op.GATHER: Rule(slots=(X, DIM, _tensor("indices")), shape=more.gather),
    Op.FLIP: Rule(slots=(X, DIMS), shape=more.flip),
    Op.LOGICAL_OR: Rule(slots=TWO_TENSORS, shape=more.logical_both, flops=costs.each(1)),
    Op.LOG1P: _unary(4),
    Op.EXPM1: _unary(4),
}
