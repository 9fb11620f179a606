"""A model as data: the code-free program of a learning task, as frozen dataclasses.

`program.proto` is the specification (how values are numbered, what the operators take, what a
receiver must check); these classes hold the same things, and `program_codec` turns one into the
other. Nothing here is checked beyond types: `grapevine_tasks.checks` does that. There can be very many of
the smaller ones, so they have slots.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

OPSET = 1
DTYPES = ("float32", "int64")


class Operator(IntEnum):
    """The operators of opset 1. The numbers are those of `program.proto` and are never reused."""

    # sizes
    SIZE = 1
    INT_ADD = 2
    INT_SUB = 3
    INT_MUL = 4
    INT_FLOORDIV = 5

    # shapes
    RESHAPE = 10
    PERMUTE = 11
    TRANSPOSE = 12
    UNSQUEEZE = 13
    SQUEEZE = 14
    EXPAND = 15
    SLICE = 16
    SELECT = 17
    CONCATENATE = 18
    STACK = 19
    PAD = 20
    TO_FLOAT32 = 21
    TO_INT64 = 22
    DETACH = 23
    FULL = 24
    CUMSUM = 25
    REFLECT = 26
    REPLICATE = 27
    PIXEL_SHUFFLE = 28
    REPEAT = 29

    # element by element
    ADD = 30
    SUB = 31
    MUL = 32
    DIV = 33
    RSUB = 34
    MAXIMUM = 35
    MINIMUM = 36
    POW = 37
    CLAMP = 38
    NEG = 39
    ABS = 40
    EXP = 41
    LOG = 42
    SQRT = 43
    RSQRT = 44
    RECIPROCAL = 45
    SIN = 46
    COS = 47
    FLOOR = 48
    SIGN = 49
    ERF = 50
    WHERE = 51
    EQUAL = 52
    NOT_EQUAL = 53
    GREATER = 54
    GREATER_EQUAL = 55
    LESS = 56
    LESS_EQUAL = 57
    LOGICAL_NOT = 58
    LOGICAL_AND = 59

    # layers
    LINEAR = 60
    MATMUL = 61
    CONV1D = 62
    CONV2D = 63
    MAX_POOL2D = 64
    AVG_POOL2D = 65
    ADAPTIVE_AVG_POOL2D = 66
    BATCH_NORM_TRAIN = 67
    BATCH_NORM_EVAL = 68
    LAYER_NORM = 69
    GROUP_NORM = 70
    DROPOUT = 71
    CONV_TRANSPOSE1D = 72
    CONV_TRANSPOSE2D = 73
    EMBEDDING = 74
    LSTM = 75
    GRU = 76
    RNN = 77
    ATTENTION = 78
    ADAPTIVE_MAX_POOL2D = 79

    # activations
    RELU = 80
    LEAKY_RELU = 81
    ELU = 82
    GELU = 83
    SILU = 84
    SIGMOID = 85
    TANH = 86
    HARDTANH = 87
    HARDSWISH = 88
    HARDSIGMOID = 89
    SOFTPLUS = 90
    MISH = 91
    SOFTMAX = 92
    LOG_SOFTMAX = 93
    PRELU = 94
    LOG_SIGMOID = 95
    GLU = 96

    # reductions
    SUM = 100
    MEAN = 101
    AMAX = 102
    AMIN = 103
    PROD = 104
    VARIANCE = 105
    DEVIATION = 106
    NORM = 107
    LOGSUMEXP = 108
    ARGMAX = 109
    MAX = 110
    MIN = 111

    # more layers
    CONV3D = 120
    MAX_POOL3D = 121
    UPSAMPLE_NEAREST2D = 122
    UPSAMPLE_BILINEAR2D = 123
    LSTM_CELL = 124
    GRU_CELL = 125

    # randomness
    NORMAL = 130
    BERNOULLI = 131

    # what came later
    INDEX_SELECT = 140
    GATHER = 141
    FLIP = 142
    LOGICAL_OR = 143
    LOG1P = 144
    EXPM1 = 145


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference to an earlier value of the graph, by its number."""

    value: int


Argument: TypeAlias = Ref | int | float | bool | tuple[Ref | int, ...] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class InputSpec:
    """An input of the model; its tensor is [batch, *shape]."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorSpec:
    """A parameter or a buffer: float32, its values lie elsewhere."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Constant:
    """A small tensor that never changes; `content` is little-endian, last dimension fastest."""

    dtype: str
    shape: tuple[int, ...]
    content: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """One operator applied to earlier values, with all of its arguments written out."""

    operator: Operator
    arguments: tuple[Argument, ...]
    num_results: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class BufferUpdate:
    """The value that a buffer (index into `Program.buffers`) has after a training step."""

    buffer: int
    value: int


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Nodes in an order in which they can be run, and the numbers of the values that come out."""

    nodes: tuple[Node, ...]
    output: int
    updates: tuple[BufferUpdate, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Program:
    """A model: two graphs over the same parameters and buffers. See `program.proto`."""

    inputs: tuple[InputSpec, ...]
    parameters: tuple[TensorSpec, ...]
    train: Graph
    eval: Graph
    buffers: tuple[TensorSpec, ...] = ()
    constants: tuple[Constant, ...] = ()
    opset: int = OPSET

    @property
    def first_parameter(self) -> int:
        """The number of the first parameter's value."""
        return len(self.inputs)

    @property
    def first_buffer(self) -> int:
        """The number of the first buffer's value."""
        return self.first_parameter + len(self.parameters)

    @property
    def first_constant(self) -> int:
        """The number of the first constant's value."""
        return self.first_buffer + len(self.buffers)

    @property
    def first_result(self) -> int:
        """The number of the first node's first result."""
        return self.first_constant + len(self.constants)


@dataclass(frozen=True, kw_only=True)
class PackedProgram:
    """A program as the bytes that came: counted, not read. `program_codec.unpack_program` reads it."""

    encoded: bytes
    num_nodes: int  # of both graphs together
    constant_bytes: int  # of all constants, as they are written

    @property
    def num_bytes(self) -> int:
        """How long it is on the wire."""
        return len(self.encoded)
