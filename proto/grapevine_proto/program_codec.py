"""Programs to protobuf and back, strictly: what decodes is well-formed, though not yet checked.

Well-formed means that every field that must be there is there, enumerators are known, numbers are
finite and counts are bounded. Whether operators get arguments that fit, and what running them would
cost, is for `grapevine_tasks.checks`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from google.protobuf.message import DecodeError

from grapevine_proto import program_pb2 as pb
from grapevine_proto.errors import WireError
from grapevine_proto.program import (
    OPSET,
    Argument,
    BufferUpdate,
    Constant,
    Graph,
    InputSpec,
    Node,
    Operator,
    Program,
    Ref,
    TensorSpec,
)

MAX_PROGRAM_BYTES = 500 * 1024
MAX_NODES = 8192  # in one graph
MAX_TENSORS = 4096  # parameters, buffers, constants
MAX_ARGUMENTS = 16
MAX_ITEMS = 1024  # of one list
MAX_DIMENSIONS = 8
MAX_NAME = 200

# Words with dots between them. Nothing here makes a file of a name, but others may: so no name is a path or a device.
_TENSOR_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_DEVICE = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]", re.IGNORECASE)
_DTYPES = {"float32": pb.DTYPE_FLOAT32, "int64": pb.DTYPE_INT64}
_DTYPE_NAMES = {int(number): name for name, number in _DTYPES.items()}
_OPERATORS = {int(operator): operator for operator in Operator}


def encode_program(program: Program) -> bytes:
    """The bytes of a program; the same program gives the same bytes.

    Raises ValueError or TypeError when a field does not fit its wire type.
    """
    return program_to_wire(program).SerializeToString(deterministic=True)


def decode_program(encoded: bytes) -> Program:
    """The program in these bytes. Raises WireError, and nothing else, when they are not one."""
    if len(encoded) > MAX_PROGRAM_BYTES:
        raise WireError("too-big", f"a program of {len(encoded)} bytes; at most {MAX_PROGRAM_BYTES}")
    try:
        wire = pb.Program.FromString(encoded)
    except DecodeError as error:
        raise WireError("malformed", f"not a program: {error}") from error
    return program_from_wire(wire)


def dtype_to_wire(dtype: str) -> pb.DType:
    """The enumerator of "float32" or "int64". Raises ValueError for another dtype."""
    if dtype not in _DTYPES:
        raise ValueError(f"no dtype {dtype!r} on the wire; use one of {', '.join(_DTYPES)}")
    return _DTYPES[dtype]


def dtype_from_wire(number: int) -> str:
    """The name of a dtype. Raises WireError for an unknown one."""
    if number not in _DTYPE_NAMES:
        raise WireError("bad-program", f"unknown dtype {number}")
    return _DTYPE_NAMES[number]


# --- out ------------------------------------------------------------------------------------------


def program_to_wire(program: Program) -> pb.Program:
    """The protobuf message of a program."""
    return pb.Program(
        opset=program.opset,
        inputs=[pb.InputSpec(name=i.name, dtype=dtype_to_wire(i.dtype), shape=i.shape) for i in program.inputs],
        parameters=[pb.TensorSpec(name=t.name, shape=t.shape) for t in program.parameters],
        buffers=[pb.TensorSpec(name=t.name, shape=t.shape) for t in program.buffers],
        constants=[
            pb.Constant(dtype=dtype_to_wire(c.dtype), shape=c.shape, content=c.content) for c in program.constants
        ],
        train=_graph_to_wire(program.train),
        eval=_graph_to_wire(program.eval),
    )


def _graph_to_wire(graph: Graph) -> pb.Graph:
    return pb.Graph(
        nodes=[
            pb.Node(
                operator=f"OPERATOR_{node.operator.name}",
                arguments=[_argument_to_wire(argument) for argument in node.arguments],
                num_results=node.num_results,
            )
            for node in graph.nodes
        ],
        output=graph.output,
        updates=[pb.BufferUpdate(buffer=u.buffer, value=u.value) for u in graph.updates],
    )


def _argument_to_wire(argument: Argument) -> pb.Argument:
    match argument:
        case None:
            return pb.Argument(nothing=pb.Nothing())
        case Ref(value=value):
            return pb.Argument(value=value)
        case bool():  # before int: a bool is one
            return pb.Argument(flag=argument)
        case int():
            return pb.Argument(integer=argument)
        case float():
            return pb.Argument(real=argument)
        case tuple():
            items = [pb.Item(value=i.value) if isinstance(i, Ref) else pb.Item(integer=i) for i in argument]
            return pb.Argument(list=pb.List(items=items))


# --- in -------------------------------------------------------------------------------------------


def program_from_wire(wire: pb.Program) -> Program:
    """The program in a protobuf message. Raises WireError when it is not well-formed."""
    if wire.opset != OPSET:
        raise WireError("unknown-opset", f"a program of opset {wire.opset}; this version knows opset {OPSET}")
    if not wire.HasField("train") or not wire.HasField("eval"):
        raise WireError("bad-program", "a graph is missing; both train and eval are needed")
    for tensors, what in (
        (wire.inputs, "inputs"),
        (wire.parameters, "parameters"),
        (wire.buffers, "buffers"),
        (wire.constants, "constants"),
    ):
        if len(tensors) > MAX_TENSORS:
            raise WireError("bad-program", f"{len(tensors)} {what}; at most {MAX_TENSORS}")
    program = Program(
        opset=wire.opset,
        inputs=tuple(
            InputSpec(name=_tensor_name(i.name), dtype=dtype_from_wire(i.dtype), shape=shape_from_wire(i.shape))
            for i in wire.inputs
        ),
        parameters=tuple(_tensor(t) for t in wire.parameters),
        buffers=tuple(_tensor(t) for t in wire.buffers),
        constants=tuple(
            Constant(dtype=dtype_from_wire(c.dtype), shape=shape_from_wire(c.shape), content=c.content)
            for c in wire.constants
        ),
        train=_graph_from_wire(wire.train),
        eval=_graph_from_wire(wire.eval),
    )
    names = [t.name for t in (*program.parameters, *program.buffers)]
    if len(set(names)) != len(names):
        raise WireError("bad-program", "two parameters or buffers have the same name")
    return program


def _tensor(wire: pb.TensorSpec) -> TensorSpec:
    return TensorSpec(name=_tensor_name(wire.name), shape=shape_from_wire(wire.shape))


def _tensor_name(name: str) -> str:
    if len(name) > MAX_NAME or not _TENSOR_NAME.fullmatch(name) or _DEVICE.fullmatch(name):
        wanted = "words of letters, digits, '_' and '-' with dots between"
        raise WireError("bad-program", f"a tensor is called {name[:40]!r}; use {wanted}")
    return name


def shape_from_wire(wire: Iterable[int]) -> tuple[int, ...]:
    """A shape without zeros. Raises WireError."""
    shape = tuple(wire)
    if len(shape) > MAX_DIMENSIONS or 0 in shape:
        raise WireError("bad-program", f"the shape {shape[:10]} has more than {MAX_DIMENSIONS} dimensions, or a zero")
    return shape


def _graph_from_wire(wire: pb.Graph) -> Graph:
    if len(wire.nodes) > MAX_NODES or len(wire.updates) > MAX_TENSORS:
        raise WireError("bad-program", f"{len(wire.nodes)} nodes; at most {MAX_NODES}")
    return Graph(
        nodes=tuple(_node_from_wire(node) for node in wire.nodes),
        output=wire.output,
        updates=tuple(BufferUpdate(buffer=u.buffer, value=u.value) for u in wire.updates),
    )


def _node_from_wire(wire: pb.Node) -> Node:
    operator = _OPERATORS.get(wire.operator)
    if operator is None:
        raise WireError("unknown-operator", f"operator {wire.operator} is not in opset {OPSET}")
    if len(wire.arguments) > MAX_ARGUMENTS or not 1 <= wire.num_results <= MAX_ARGUMENTS:
        raise WireError("bad-program", f"{operator.name}: {len(wire.arguments)} arguments, {wire.num_results} results")
    return Node(
        operator=operator,
        arguments=tuple(_argument_from_wire(argument) for argument in wire.arguments),
        num_results=wire.num_results,
    )


def _argument_from_wire(wire: pb.Argument) -> Argument:
    match wire.WhichOneof("kind"):
        case "value":
            return Ref(wire.value)
        case "integer":
            return wire.integer
        case "real":
            if not math.isfinite(wire.real):
                raise WireError("bad-program", f"an argument is {wire.real}")
            return wire.real
        case "flag":
            return wire.flag
        case "list":
            if len(wire.list.items) > MAX_ITEMS:
                raise WireError("bad-program", f"a list of {len(wire.list.items)} items; at most {MAX_ITEMS}")
            return tuple(_item_from_wire(item) for item in wire.list.items)
        case "nothing":
            return None
        case _:
            raise WireError("bad-program", "an argument is missing; one left out on purpose is `nothing`")


def _item_from_wire(wire: pb.Item) -> Ref | int:
    match wire.WhichOneof("kind"):
        case "value":
            return Ref(wire.value)
        case "integer":
            return wire.integer
        case _:
            raise WireError("bad-program", "an item of a list is missing")
