"""The table of operators: for each its arguments and their bounds, its shape rule and its cost."""

from __future__ import annotations

from grapevine_proto.program import Operator as Op
from grapevine_tasks.opset import costs
from grapevine_tasks.opset.shape_rules import arranging, elements, layers, sequences
from grapevine_tasks.opset.signatures import (
    BIAS,
    BINARY,
    CEIL,
    DIM,
    DIMS,
    EPS,
    KEEP,
    LARGEST_OPERAND,
    NUMBER,
    STATISTICS,
    TWO_SIZES,
    TWO_TENSORS,
    WEIGHT,
    Kind,
    Rule,
    Slot,
    X,
    integers,
    maybe,
    real,
    strides,
    tensor,
    window,
)
from grapevine_tasks.sizes import Size


def _unary(cost: int = 1, *more: Slot) -> Rule:
    return Rule(slots=(X, *more), shape=elements.elementwise, flops=costs.each(cost))


def _convolve(dimensions: int) -> Rule:
    return Rule(
        slots=(X, tensor("weight"), BIAS, *strides(dimensions)),
        shape=layers.convolution,
        flops=costs.convolution,
        workspace=costs.columns,
    )


def _transpose_convolve(dimensions: int) -> Rule:
    return Rule(
        slots=(
            X,
            tensor("weight"),
            BIAS,
            *strides(dimensions)[:2],
            integers("output_padding", 0, 128, dimensions),
            Slot("groups", Kind.INTEGER, 1, 65536),
            integers("dilation", 1, 64, dimensions),
        ),
        shape=layers.transposed_convolution,
        flops=costs.transposed,
        workspace=costs.transposed_columns,
    )


_LAYERS = (
    Slot("biases", Kind.FLAG),
    Slot("layers", Kind.INTEGER, 1, 16),
    real("dropout", 0, 1),
    Slot("train", Kind.FLAG),
    Slot("bidirectional", Kind.FLAG),
    Slot("batch_first", Kind.FLAG),
)
_WEIGHTS = Slot("weights", Kind.TENSORS)
_CELL = (tensor("input_weight"), tensor("hidden_weight"), maybe("input_bias"), maybe("hidden_bias"))
_COMPARISON = Rule(slots=BINARY, shape=elements.compare, flops=costs.each(1))
_SPREAD = Rule(slots=(X, DIMS, real("correction", 0, 1024), KEEP), shape=elements.spread, flops=costs.each_read(4))
_EXTREME = Rule(slots=(X, DIM, KEEP), shape=elements.extreme, flops=costs.read, num_results=2)
_UPSAMPLED = integers("output", 1, 65536, 2)

_REDUCTION = Rule(slots=(X, DIMS, KEEP), shape=elements.reduce, flops=costs.read)
_ARITHMETIC = Rule(slots=BINARY, shape=elements.binary, flops=costs.each(1))
_BETWEEN_TENSORS = Rule(slots=TWO_TENSORS, shape=elements.binary, flops=costs.each(1))
_SOFTMAX = Rule(slots=(X, DIM), shape=elements.along, flops=costs.each(5))

RULES: dict[Op, Rule] = {
    # Sizes.
    Op.SIZE: Rule(slots=(X, DIM), shape=arranging.size),
    Op.INT_ADD: Rule(slots=TWO_SIZES, shape=arranging.int_add),
    Op.INT_SUB: Rule(slots=TWO_SIZES, shape=arranging.int_sub),
    Op.INT_MUL: Rule(slots=TWO_SIZES, shape=arranging.int_mul),
    Op.INT_FLOORDIV: Rule(slots=TWO_SIZES, shape=arranging.int_floordiv),
    # Shapes.
    Op.RESHAPE: Rule(slots=(X, Slot("shape", Kind.SIZES)), shape=arranging.reshape),
    Op.PERMUTE: Rule(slots=(X, DIMS), shape=arranging.permute),
    Op.TRANSPOSE: Rule(
        slots=(X, Slot("dim0", Kind.INTEGER, -8, 8), Slot("dim1", Kind.INTEGER, -8, 8)), shape=arranging.transpose
    ),
    Op.UNSQUEEZE: Rule(slots=(X, DIM), shape=arranging.unsqueeze),
    Op.SQUEEZE: Rule(slots=(X, DIMS), shape=arranging.squeeze),
    Op.EXPAND: Rule(slots=(X, Slot("shape", Kind.SIZES)), shape=arranging.expand),
    Op.SLICE: Rule(
        slots=(
            X,
            DIM,
            Slot("start", Kind.INTEGER),
            Slot("end", Kind.INTEGER),
            Slot("step", Kind.INTEGER, 1, 65536),
        ),
        shape=arranging.slice_,
    ),
    Op.SELECT: Rule(slots=(X, DIM, Slot("index", Kind.INTEGER)), shape=arranging.select),
    Op.CONCATENATE: Rule(slots=(Slot("tensors", Kind.TENSORS), DIM), shape=arranging.concatenate),
    Op.STACK: Rule(slots=(Slot("tensors", Kind.TENSORS), DIM), shape=arranging.stack),
    Op.PAD: Rule(slots=(X, integers("amounts", 0, 1024), real("value")), shape=arranging.pad),
    Op.TO_FLOAT32: Rule(slots=(X,), shape=arranging.to_float32),
    Op.TO_INT64: Rule(slots=(X,), shape=arranging.to_int64),
    Op.DETACH: Rule(slots=(X,), shape=arranging.same),
    Op.FULL: Rule(
        slots=(Slot("shape", Kind.SIZES), real("value", -LARGEST_OPERAND, LARGEST_OPERAND)), shape=arranging.full
    ),
    Op.CUMSUM: Rule(slots=(X, DIM), shape=elements.along, flops=costs.each(1)),
    Op.REFLECT: Rule(slots=(X, integers("amounts", 0, 1024)), shape=arranging.reflect),
    Op.REPLICATE: Rule(slots=(X, integers("amounts", 0, 1024)), shape=arranging.replicate),
    Op.PIXEL_SHUFFLE: Rule(slots=(X, Slot("factor", Kind.INTEGER, 1, 64)), shape=arranging.pixel_shuffle),
    Op.REPEAT: Rule(slots=(X, integers("times", 1, 65536)), shape=arranging.repeat),
    # Element by element.
    Op.ADD: _ARITHMETIC,
    Op.SUB: _ARITHMETIC,
    Op.MUL: _ARITHMETIC,
    Op.DIV: _ARITHMETIC,
    Op.RSUB: _ARITHMETIC,
    Op.MAXIMUM: _BETWEEN_TENSORS,
    Op.MINIMUM: _BETWEEN_TENSORS,
    Op.POW: _unary(8, real("exponent", -16, 16)),
    Op.CLAMP: Rule(
        slots=(X, real("low", optional=True), real("high", optional=True)), shape=elements.clamp, flops=costs.each(2)
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
        slots=(tensor("condition"), Slot("a", Kind.OPERAND), Slot("b", Kind.OPERAND)),
        shape=elements.where,
        flops=costs.each(1),
    ),
    Op.EQUAL: _COMPARISON,
    Op.NOT_EQUAL: _COMPARISON,
    Op.GREATER: _COMPARISON,
    Op.GREATER_EQUAL: _COMPARISON,
    Op.LESS: _COMPARISON,
    Op.LESS_EQUAL: _COMPARISON,
    Op.LOGICAL_NOT: Rule(slots=(X,), shape=elements.logical_not, flops=costs.each(1)),
    Op.LOGICAL_AND: Rule(slots=TWO_TENSORS, shape=elements.logical_both, flops=costs.each(1)),
    # Layers.
    Op.LINEAR: Rule(slots=(X, tensor("weight"), BIAS), shape=layers.linear, flops=costs.linear),
    Op.MATMUL: Rule(slots=TWO_TENSORS, shape=layers.matmul, flops=costs.matmul),
    Op.CONV1D: _convolve(1),
    Op.CONV2D: _convolve(2),
    Op.MAX_POOL2D: Rule(
        slots=(X, *window(2), integers("dilation", 1, 64, 2), CEIL),
        shape=layers.max_pool,
        flops=costs.pooling,
        workspace=costs.each(2),  # the places of the maxima, as int64
    ),
    Op.AVG_POOL2D: Rule(
        slots=(X, *window(2), CEIL, Slot("count_padding", Kind.FLAG)), shape=layers.avg_pool, flops=costs.pooling
    ),
    Op.ADAPTIVE_AVG_POOL2D: Rule(
        slots=(X, integers("output", 1, 1024, 2)),
        shape=layers.adaptive_pool,
        flops=lambda arguments, results: costs.read(arguments, results) + Size.constant(4) * costs.elements(results[0]),
    ),
    Op.BATCH_NORM_TRAIN: Rule(
        slots=(X, WEIGHT, BIAS, *STATISTICS, real("momentum", 0, 1), EPS),
        shape=layers.batch_norm_train,
        flops=costs.each(8),
        num_results=3,
    ),
    Op.BATCH_NORM_EVAL: Rule(
        slots=(X, WEIGHT, BIAS, *STATISTICS, EPS), shape=layers.batch_norm_eval, flops=costs.each(2)
    ),
    Op.LAYER_NORM: Rule(
        slots=(X, integers("shape", 1, 2**24), WEIGHT, BIAS, EPS), shape=layers.layer_norm, flops=costs.each(8)
    ),
    Op.GROUP_NORM: Rule(
        slots=(X, Slot("groups", Kind.INTEGER, 1, 65536), WEIGHT, BIAS, EPS),
        shape=layers.group_norm,
        flops=costs.each(8),
    ),
    Op.DROPOUT: Rule(
        slots=(X, real("p", 0, 1)), shape=elements.elementwise, flops=costs.each(4), workspace=costs.each(1)
    ),
    Op.CONV_TRANSPOSE1D: _transpose_convolve(1),
    Op.CONV_TRANSPOSE2D: _transpose_convolve(2),
    Op.EMBEDDING: Rule(
        slots=(tensor("weight"), tensor("indices"), Slot("padding", Kind.INTEGER, -1, 2**31)), shape=sequences.embedding
    ),
    Op.LSTM: Rule(
        slots=(X, tensor("hidden"), tensor("cell"), _WEIGHTS, *_LAYERS),
        shape=sequences.lstm,
        flops=costs.recurrent(4),
        workspace=costs.gates(4),
        num_kernels=costs.kernels_a_step(20),
        num_results=3,
    ),
    Op.GRU: Rule(
        slots=(X, tensor("hidden"), _WEIGHTS, *_LAYERS),
        shape=sequences.gru,
        flops=costs.recurrent(3),
        workspace=costs.gates(3),
        num_kernels=costs.kernels_a_step(20),
        num_results=2,
    ),
    Op.RNN: Rule(
        slots=(X, tensor("hidden"), _WEIGHTS, *_LAYERS, Slot("relu", Kind.FLAG)),
        shape=sequences.rnn,
        flops=costs.recurrent(1),
        workspace=costs.gates(1),
        num_kernels=costs.kernels_a_step(6),
        num_results=2,
    ),
    Op.ATTENTION: Rule(
        slots=(
            tensor("query"),
            tensor("key"),
            tensor("value"),
            maybe("mask"),
            real("dropout", 0, 1),
            Slot("causal", Kind.FLAG),
            real("scale", 0, NUMBER, optional=True),
        ),
        shape=sequences.attention,
        flops=costs.attention,
        workspace=costs.two_scores,
    ),
    Op.ADAPTIVE_MAX_POOL2D: Rule(
        slots=(X, integers("output", 1, 1024, 2)),
        shape=layers.adaptive_pool,
        flops=costs.read,
        workspace=costs.each(2),
    ),
    # Activations.
    Op.RELU: _unary(),
    Op.LEAKY_RELU: _unary(2, real("slope")),
    Op.ELU: _unary(6, real("alpha"), real("scale"), real("input_scale")),
    Op.GELU: _unary(10, Slot("tanh", Kind.FLAG)),
    Op.SILU: _unary(6),
    Op.SIGMOID: _unary(5),
    Op.TANH: _unary(5),
    Op.HARDTANH: _unary(2, real("low"), real("high")),
    Op.HARDSWISH: _unary(4),
    Op.HARDSIGMOID: _unary(3),
    Op.SOFTPLUS: _unary(8, real("beta", 1e-6, NUMBER), real("threshold")),
    Op.MISH: _unary(12),
    Op.SOFTMAX: _SOFTMAX,
    Op.LOG_SOFTMAX: _SOFTMAX,
    Op.PRELU: Rule(slots=(X, tensor("slope")), shape=elements.prelu, flops=costs.each(2)),
    Op.LOG_SIGMOID: _unary(8),
    Op.GLU: Rule(slots=(X, DIM), shape=elements.glu, flops=costs.each(6)),
    # Reductions.
    Op.SUM: _REDUCTION,
    Op.MEAN: _REDUCTION,
    Op.AMAX: _REDUCTION,
    Op.AMIN: _REDUCTION,
    Op.PROD: Rule(slots=(X, DIM, KEEP), shape=elements.reduce_one, flops=costs.read),
    Op.VARIANCE: _SPREAD,
    Op.DEVIATION: _SPREAD,
    Op.NORM: Rule(slots=(X, real("p", 0.5, 16), DIMS, KEEP), shape=elements.norm, flops=costs.each_read(4)),
    Op.LOGSUMEXP: Rule(slots=(X, DIMS, KEEP), shape=elements.reduce, flops=costs.each_read(6)),
    Op.ARGMAX: Rule(slots=(X, DIM, KEEP), shape=elements.argmax, flops=costs.read),
    Op.MAX: _EXTREME,
    Op.MIN: _EXTREME,
    # More layers.
    Op.CONV3D: _convolve(3),
    Op.MAX_POOL3D: Rule(
        slots=(X, *window(3), integers("dilation", 1, 64, 3), CEIL),
        shape=layers.max_pool,
        flops=costs.pooling,
        workspace=costs.each(2),
    ),
    Op.UPSAMPLE_NEAREST2D: Rule(slots=(X, _UPSAMPLED), shape=arranging.upsample, flops=costs.each(1)),
    Op.UPSAMPLE_BILINEAR2D: Rule(
        slots=(X, _UPSAMPLED, Slot("corners", Kind.FLAG)), shape=arranging.upsample_bilinear, flops=costs.each(8)
    ),
    Op.LSTM_CELL: Rule(
        slots=(X, tensor("hidden"), tensor("cell"), *_CELL),
        shape=sequences.lstm_cell,
        flops=costs.cell,
        workspace=lambda arguments, results: Size.constant(6) * costs.elements(results[0]),  # noqa: ARG005
        num_results=2,
    ),
    Op.GRU_CELL: Rule(
        slots=(X, tensor("hidden"), *_CELL),
        shape=sequences.gru_cell,
        flops=costs.cell,
        workspace=costs.each(6),
    ),
    # Randomness.
    Op.NORMAL: Rule(slots=(X,), shape=elements.elementwise, flops=costs.each(8)),
    Op.BERNOULLI: Rule(slots=(X, real("p", 0, 1)), shape=elements.elementwise, flops=costs.each(4)),
    # What came later.
    Op.INDEX_SELECT: Rule(slots=(X, DIM, tensor("indices")), shape=arranging.index_select),
    Op.GATHER: Rule(slots=(X, DIM, tensor("indices")), shape=arranging.gather),
    Op.FLIP: Rule(slots=(X, DIMS), shape=arranging.flip),
    Op.LOGICAL_OR: Rule(slots=TWO_TENSORS, shape=elements.logical_both, flops=costs.each(1)),
    Op.LOG1P: _unary(4),
    Op.EXPM1: _unary(4),
}
