from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DTYPE_UNSPECIFIED: _ClassVar[DType]
    DTYPE_FLOAT32: _ClassVar[DType]
    DTYPE_INT64: _ClassVar[DType]

class Operator(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OPERATOR_UNSPECIFIED: _ClassVar[Operator]
    OPERATOR_SIZE: _ClassVar[Operator]
    OPERATOR_INT_ADD: _ClassVar[Operator]
    OPERATOR_INT_SUB: _ClassVar[Operator]
    OPERATOR_INT_MUL: _ClassVar[Operator]
    OPERATOR_INT_FLOORDIV: _ClassVar[Operator]
    OPERATOR_RESHAPE: _ClassVar[Operator]
    OPERATOR_PERMUTE: _ClassVar[Operator]
    OPERATOR_TRANSPOSE: _ClassVar[Operator]
    OPERATOR_UNSQUEEZE: _ClassVar[Operator]
    OPERATOR_SQUEEZE: _ClassVar[Operator]
    OPERATOR_EXPAND: _ClassVar[Operator]
    OPERATOR_SLICE: _ClassVar[Operator]
    OPERATOR_SELECT: _ClassVar[Operator]
    OPERATOR_CONCATENATE: _ClassVar[Operator]
    OPERATOR_STACK: _ClassVar[Operator]
    OPERATOR_PAD: _ClassVar[Operator]
    OPERATOR_TO_FLOAT32: _ClassVar[Operator]
    OPERATOR_TO_INT64: _ClassVar[Operator]
    OPERATOR_DETACH: _ClassVar[Operator]
    OPERATOR_FULL: _ClassVar[Operator]
    OPERATOR_CUMSUM: _ClassVar[Operator]
    OPERATOR_REFLECT: _ClassVar[Operator]
    OPERATOR_REPLICATE: _ClassVar[Operator]
    OPERATOR_PIXEL_SHUFFLE: _ClassVar[Operator]
    OPERATOR_REPEAT: _ClassVar[Operator]
    OPERATOR_ADD: _ClassVar[Operator]
    OPERATOR_SUB: _ClassVar[Operator]
    OPERATOR_MUL: _ClassVar[Operator]
    OPERATOR_DIV: _ClassVar[Operator]
    OPERATOR_RSUB: _ClassVar[Operator]
    OPERATOR_MAXIMUM: _ClassVar[Operator]
    OPERATOR_MINIMUM: _ClassVar[Operator]
    OPERATOR_POW: _ClassVar[Operator]
    OPERATOR_CLAMP: _ClassVar[Operator]
    OPERATOR_NEG: _ClassVar[Operator]
    OPERATOR_ABS: _ClassVar[Operator]
    OPERATOR_EXP: _ClassVar[Operator]
    OPERATOR_LOG: _ClassVar[Operator]
    OPERATOR_SQRT: _ClassVar[Operator]
    OPERATOR_RSQRT: _ClassVar[Operator]
    OPERATOR_RECIPROCAL: _ClassVar[Operator]
    OPERATOR_SIN: _ClassVar[Operator]
    OPERATOR_COS: _ClassVar[Operator]
    OPERATOR_FLOOR: _ClassVar[Operator]
    OPERATOR_SIGN: _ClassVar[Operator]
    OPERATOR_ERF: _ClassVar[Operator]
    OPERATOR_WHERE: _ClassVar[Operator]
    OPERATOR_EQUAL: _ClassVar[Operator]
    OPERATOR_NOT_EQUAL: _ClassVar[Operator]
    OPERATOR_GREATER: _ClassVar[Operator]
    OPERATOR_GREATER_EQUAL: _ClassVar[Operator]
    OPERATOR_LESS: _ClassVar[Operator]
    OPERATOR_LESS_EQUAL: _ClassVar[Operator]
    OPERATOR_LOGICAL_NOT: _ClassVar[Operator]
    OPERATOR_LOGICAL_AND: _ClassVar[Operator]
    OPERATOR_LINEAR: _ClassVar[Operator]
    OPERATOR_MATMUL: _ClassVar[Operator]
    OPERATOR_CONV1D: _ClassVar[Operator]
    OPERATOR_CONV2D: _ClassVar[Operator]
    OPERATOR_MAX_POOL2D: _ClassVar[Operator]
    OPERATOR_AVG_POOL2D: _ClassVar[Operator]
    OPERATOR_ADAPTIVE_AVG_POOL2D: _ClassVar[Operator]
    OPERATOR_BATCH_NORM_TRAIN: _ClassVar[Operator]
    OPERATOR_BATCH_NORM_EVAL: _ClassVar[Operator]
    OPERATOR_LAYER_NORM: _ClassVar[Operator]
    OPERATOR_GROUP_NORM: _ClassVar[Operator]
    OPERATOR_DROPOUT: _ClassVar[Operator]
    OPERATOR_CONV_TRANSPOSE1D: _ClassVar[Operator]
    OPERATOR_CONV_TRANSPOSE2D: _ClassVar[Operator]
    OPERATOR_EMBEDDING: _ClassVar[Operator]
    OPERATOR_LSTM: _ClassVar[Operator]
    OPERATOR_GRU: _ClassVar[Operator]
    OPERATOR_RNN: _ClassVar[Operator]
    OPERATOR_ATTENTION: _ClassVar[Operator]
    OPERATOR_ADAPTIVE_MAX_POOL2D: _ClassVar[Operator]
    OPERATOR_RELU: _ClassVar[Operator]
    OPERATOR_LEAKY_RELU: _ClassVar[Operator]
    OPERATOR_ELU: _ClassVar[Operator]
    OPERATOR_GELU: _ClassVar[Operator]
    OPERATOR_SILU: _ClassVar[Operator]
    OPERATOR_SIGMOID: _ClassVar[Operator]
    OPERATOR_TANH: _ClassVar[Operator]
    OPERATOR_HARDTANH: _ClassVar[Operator]
    OPERATOR_HARDSWISH: _ClassVar[Operator]
    OPERATOR_HARDSIGMOID: _ClassVar[Operator]
    OPERATOR_SOFTPLUS: _ClassVar[Operator]
    OPERATOR_MISH: _ClassVar[Operator]
    OPERATOR_SOFTMAX: _ClassVar[Operator]
    OPERATOR_LOG_SOFTMAX: _ClassVar[Operator]
    OPERATOR_PRELU: _ClassVar[Operator]
    OPERATOR_LOG_SIGMOID: _ClassVar[Operator]
    OPERATOR_GLU: _ClassVar[Operator]
    OPERATOR_SUM: _ClassVar[Operator]
    OPERATOR_MEAN: _ClassVar[Operator]
    OPERATOR_AMAX: _ClassVar[Operator]
    OPERATOR_AMIN: _ClassVar[Operator]
    OPERATOR_PROD: _ClassVar[Operator]
    OPERATOR_VARIANCE: _ClassVar[Operator]
    OPERATOR_DEVIATION: _ClassVar[Operator]
    OPERATOR_NORM: _ClassVar[Operator]
    OPERATOR_LOGSUMEXP: _ClassVar[Operator]
    OPERATOR_ARGMAX: _ClassVar[Operator]
    OPERATOR_MAX: _ClassVar[Operator]
    OPERATOR_MIN: _ClassVar[Operator]
    OPERATOR_CONV3D: _ClassVar[Operator]
    OPERATOR_MAX_POOL3D: _ClassVar[Operator]
    OPERATOR_UPSAMPLE_NEAREST2D: _ClassVar[Operator]
    OPERATOR_UPSAMPLE_BILINEAR2D: _ClassVar[Operator]
    OPERATOR_LSTM_CELL: _ClassVar[Operator]
    OPERATOR_GRU_CELL: _ClassVar[Operator]
    OPERATOR_NORMAL: _ClassVar[Operator]
    OPERATOR_BERNOULLI: _ClassVar[Operator]
    OPERATOR_INDEX_SELECT: _ClassVar[Operator]
    OPERATOR_GATHER: _ClassVar[Operator]
    OPERATOR_FLIP: _ClassVar[Operator]
    OPERATOR_LOGICAL_OR: _ClassVar[Operator]
    OPERATOR_LOG1P: _ClassVar[Operator]
    OPERATOR_EXPM1: _ClassVar[Operator]
DTYPE_UNSPECIFIED: DType
DTYPE_FLOAT32: DType
DTYPE_INT64: DType
OPERATOR_UNSPECIFIED: Operator
OPERATOR_SIZE: Operator
OPERATOR_INT_ADD: Operator
OPERATOR_INT_SUB: Operator
OPERATOR_INT_MUL: Operator
OPERATOR_INT_FLOORDIV: Operator
OPERATOR_RESHAPE: Operator
OPERATOR_PERMUTE: Operator
OPERATOR_TRANSPOSE: Operator
OPERATOR_UNSQUEEZE: Operator
OPERATOR_SQUEEZE: Operator
OPERATOR_EXPAND: Operator
OPERATOR_SLICE: Operator
OPERATOR_SELECT: Operator
OPERATOR_CONCATENATE: Operator
OPERATOR_STACK: Operator
OPERATOR_PAD: Operator
OPERATOR_TO_FLOAT32: Operator
OPERATOR_TO_INT64: Operator
OPERATOR_DETACH: Operator
OPERATOR_FULL: Operator
OPERATOR_CUMSUM: Operator
OPERATOR_REFLECT: Operator
OPERATOR_REPLICATE: Operator
OPERATOR_PIXEL_SHUFFLE: Operator
OPERATOR_REPEAT: Operator
OPERATOR_ADD: Operator
OPERATOR_SUB: Operator
OPERATOR_MUL: Operator
OPERATOR_DIV: Operator
OPERATOR_RSUB: Operator
OPERATOR_MAXIMUM: Operator
OPERATOR_MINIMUM: Operator
OPERATOR_POW: Operator
OPERATOR_CLAMP: Operator
OPERATOR_NEG: Operator
OPERATOR_ABS: Operator
OPERATOR_EXP: Operator
OPERATOR_LOG: Operator
OPERATOR_SQRT: Operator
OPERATOR_RSQRT: Operator
OPERATOR_RECIPROCAL: Operator
OPERATOR_SIN: Operator
OPERATOR_COS: Operator
OPERATOR_FLOOR: Operator
OPERATOR_SIGN: Operator
OPERATOR_ERF: Operator
OPERATOR_WHERE: Operator
OPERATOR_EQUAL: Operator
OPERATOR_NOT_EQUAL: Operator
OPERATOR_GREATER: Operator
OPERATOR_GREATER_EQUAL: Operator
OPERATOR_LESS: Operator
OPERATOR_LESS_EQUAL: Operator
OPERATOR_LOGICAL_NOT: Operator
OPERATOR_LOGICAL_AND: Operator
OPERATOR_LINEAR: Operator
OPERATOR_MATMUL: Operator
OPERATOR_CONV1D: Operator
OPERATOR_CONV2D: Operator
OPERATOR_MAX_POOL2D: Operator
OPERATOR_AVG_POOL2D: Operator
OPERATOR_ADAPTIVE_AVG_POOL2D: Operator
OPERATOR_BATCH_NORM_TRAIN: Operator
OPERATOR_BATCH_NORM_EVAL: Operator
OPERATOR_LAYER_NORM: Operator
OPERATOR_GROUP_NORM: Operator
OPERATOR_DROPOUT: Operator
OPERATOR_CONV_TRANSPOSE1D: Operator
OPERATOR_CONV_TRANSPOSE2D: Operator
OPERATOR_EMBEDDING: Operator
OPERATOR_LSTM: Operator
OPERATOR_GRU: Operator
OPERATOR_RNN: Operator
OPERATOR_ATTENTION: Operator
OPERATOR_ADAPTIVE_MAX_POOL2D: Operator
OPERATOR_RELU: Operator
OPERATOR_LEAKY_RELU: Operator
OPERATOR_ELU: Operator
OPERATOR_GELU: Operator
OPERATOR_SILU: Operator
OPERATOR_SIGMOID: Operator
OPERATOR_TANH: Operator
OPERATOR_HARDTANH: Operator
OPERATOR_HARDSWISH: Operator
OPERATOR_HARDSIGMOID: Operator
OPERATOR_SOFTPLUS: Operator
OPERATOR_MISH: Operator
OPERATOR_SOFTMAX: Operator
OPERATOR_LOG_SOFTMAX: Operator
OPERATOR_PRELU: Operator
OPERATOR_LOG_SIGMOID: Operator
OPERATOR_GLU: Operator
OPERATOR_SUM: Operator
OPERATOR_MEAN: Operator
OPERATOR_AMAX: Operator
OPERATOR_AMIN: Operator
OPERATOR_PROD: Operator
OPERATOR_VARIANCE: Operator
OPERATOR_DEVIATION: Operator
OPERATOR_NORM: Operator
OPERATOR_LOGSUMEXP: Operator
OPERATOR_ARGMAX: Operator
OPERATOR_MAX: Operator
OPERATOR_MIN: Operator
OPERATOR_CONV3D: Operator
OPERATOR_MAX_POOL3D: Operator
OPERATOR_UPSAMPLE_NEAREST2D: Operator
OPERATOR_UPSAMPLE_BILINEAR2D: Operator
OPERATOR_LSTM_CELL: Operator
OPERATOR_GRU_CELL: Operator
OPERATOR_NORMAL: Operator
OPERATOR_BERNOULLI: Operator
OPERATOR_INDEX_SELECT: Operator
OPERATOR_GATHER: Operator
OPERATOR_FLIP: Operator
OPERATOR_LOGICAL_OR: Operator
OPERATOR_LOG1P: Operator
OPERATOR_EXPM1: Operator

class Program(_message.Message):
    __slots__ = ("opset", "inputs", "parameters", "buffers", "constants", "train", "eval")
    OPSET_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    BUFFERS_FIELD_NUMBER: _ClassVar[int]
    CONSTANTS_FIELD_NUMBER: _ClassVar[int]
    TRAIN_FIELD_NUMBER: _ClassVar[int]
    EVAL_FIELD_NUMBER: _ClassVar[int]
    opset: int
    inputs: _containers.RepeatedCompositeFieldContainer[InputSpec]
    parameters: _containers.RepeatedCompositeFieldContainer[TensorSpec]
    buffers: _containers.RepeatedCompositeFieldContainer[TensorSpec]
    constants: _containers.RepeatedCompositeFieldContainer[Constant]
    train: Graph
    eval: Graph
    def __init__(self, opset: _Optional[int] = ..., inputs: _Optional[_Iterable[_Union[InputSpec, _Mapping]]] = ..., parameters: _Optional[_Iterable[_Union[TensorSpec, _Mapping]]] = ..., buffers: _Optional[_Iterable[_Union[TensorSpec, _Mapping]]] = ..., constants: _Optional[_Iterable[_Union[Constant, _Mapping]]] = ..., train: _Optional[_Union[Graph, _Mapping]] = ..., eval: _Optional[_Union[Graph, _Mapping]] = ...) -> None: ...

class ProgramParts(_message.Message):
    __slots__ = ("opset", "inputs", "parameters", "buffers", "constants", "train", "eval")
    OPSET_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    BUFFERS_FIELD_NUMBER: _ClassVar[int]
    CONSTANTS_FIELD_NUMBER: _ClassVar[int]
    TRAIN_FIELD_NUMBER: _ClassVar[int]
    EVAL_FIELD_NUMBER: _ClassVar[int]
    opset: int
    inputs: _containers.RepeatedScalarFieldContainer[bytes]
    parameters: _containers.RepeatedScalarFieldContainer[bytes]
    buffers: _containers.RepeatedScalarFieldContainer[bytes]
    constants: _containers.RepeatedScalarFieldContainer[bytes]
    train: _containers.RepeatedScalarFieldContainer[bytes]
    eval: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, opset: _Optional[int] = ..., inputs: _Optional[_Iterable[bytes]] = ..., parameters: _Optional[_Iterable[bytes]] = ..., buffers: _Optional[_Iterable[bytes]] = ..., constants: _Optional[_Iterable[bytes]] = ..., train: _Optional[_Iterable[bytes]] = ..., eval: _Optional[_Iterable[bytes]] = ...) -> None: ...

class GraphParts(_message.Message):
    __slots__ = ("nodes", "output", "updates")
    NODES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    UPDATES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedScalarFieldContainer[bytes]
    output: int
    updates: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, nodes: _Optional[_Iterable[bytes]] = ..., output: _Optional[int] = ..., updates: _Optional[_Iterable[bytes]] = ...) -> None: ...

class InputSpec(_message.Message):
    __slots__ = ("name", "dtype", "shape")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: DType
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[_Union[DType, str]] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class TensorSpec(_message.Message):
    __slots__ = ("name", "shape")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class Constant(_message.Message):
    __slots__ = ("dtype", "shape", "content")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    dtype: DType
    shape: _containers.RepeatedScalarFieldContainer[int]
    content: bytes
    def __init__(self, dtype: _Optional[_Union[DType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., content: _Optional[bytes] = ...) -> None: ...

class Graph(_message.Message):
    __slots__ = ("nodes", "output", "updates")
    NODES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    UPDATES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    output: int
    updates: _containers.RepeatedCompositeFieldContainer[BufferUpdate]
    def __init__(self, nodes: _Optional[_Iterable[_Union[Node, _Mapping]]] = ..., output: _Optional[int] = ..., updates: _Optional[_Iterable[_Union[BufferUpdate, _Mapping]]] = ...) -> None: ...

class BufferUpdate(_message.Message):
    __slots__ = ("buffer", "value")
    BUFFER_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    buffer: int
    value: int
    def __init__(self, buffer: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("operator", "arguments", "num_results")
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    NUM_RESULTS_FIELD_NUMBER: _ClassVar[int]
    operator: Operator
    arguments: _containers.RepeatedCompositeFieldContainer[Argument]
    num_results: int
    def __init__(self, operator: _Optional[_Union[Operator, str]] = ..., arguments: _Optional[_Iterable[_Union[Argument, _Mapping]]] = ..., num_results: _Optional[int] = ...) -> None: ...

class Argument(_message.Message):
    __slots__ = ("value", "integer", "real", "flag", "list", "nothing")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    INTEGER_FIELD_NUMBER: _ClassVar[int]
    REAL_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    LIST_FIELD_NUMBER: _ClassVar[int]
    NOTHING_FIELD_NUMBER: _ClassVar[int]
    value: int
    integer: int
    real: float
    flag: bool
    list: List
    nothing: Nothing
    def __init__(self, value: _Optional[int] = ..., integer: _Optional[int] = ..., real: _Optional[float] = ..., flag: _Optional[bool] = ..., list: _Optional[_Union[List, _Mapping]] = ..., nothing: _Optional[_Union[Nothing, _Mapping]] = ...) -> None: ...

class List(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Item]
    def __init__(self, items: _Optional[_Iterable[_Union[Item, _Mapping]]] = ...) -> None: ...

class Item(_message.Message):
    __slots__ = ("value", "integer")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    INTEGER_FIELD_NUMBER: _ClassVar[int]
    value: int
    integer: int
    def __init__(self, value: _Optional[int] = ..., integer: _Optional[int] = ...) -> None: ...

class Nothing(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
