"""Programs that want to cost too much, to confuse the checks, or to reach what is not theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from tests.unit.tasks.hostile.attack import (
    BIAS,
    BUFFER,
    FIRST,
    WEIGHT,
    Attack,
    graph_of,
    honest_manifest,
    honest_program,
    judged,
    node,
)

from grapevine_proto.manifest import TrainingPlan
from grapevine_proto.manifest_codec import encode_manifest
from grapevine_proto.program import (
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

Op = Operator
X = Ref(0)
SQUARE = (1, 1)


def _attack(name: str, target: str, make: Callable[[], Program], reason: str, batch_size: int = 32) -> Attack:
    def attempt(_folder: object) -> object:
        manifest = honest_manifest(make())
        return judged(encode_manifest(replace(manifest, training=TrainingPlan(batch_size=batch_size))))

    return Attack(name=name, target=target, attempt=attempt, reason=reason)


def _nodes(
    name: str, target: str, reason: str, *nodes: Node, output: int | None = None, batch_size: int = 32
) -> Attack:
    """An attack of one graph, used to train and to evaluate."""

    def make() -> Program:
        graph = graph_of(*nodes, output=output) if nodes else Graph(nodes=(), output=99 if output is None else output)
        return replace(honest_program(), train=graph, eval=graph)

    return _attack(name, target, make, reason, batch_size)


def _updates(name: str, reason: str, *updates: BufferUpdate, nodes: tuple[Node, ...] = ()) -> Attack:
    def make() -> Program:
        honest = honest_program()
        graph = graph_of(*honest.train.nodes, *nodes, output=FIRST, updates=updates)
        return replace(honest, train=graph)

    return _attack(name, "state that is not its own", make, reason)


def _doubled(operator: Operator, times: int) -> tuple[Node, ...]:
    """Each node takes the one before twice."""
    first = node(operator, (X, X), 1)
    return (first, *(node(operator, (Ref(FIRST + i), Ref(FIRST + i)), 1) for i in range(times)))


def _image(channels: int, side: int) -> tuple[Node, ...]:
    """Value 4: the input, expanded to [batch, channels, side, side] without any memory of its own."""
    return (
        node(Op.SLICE, X, 1, 0, 1, 1),
        node(Op.RESHAPE, Ref(FIRST), (-1, 1, 1, 1)),
        node(Op.EXPAND, Ref(FIRST + 1), (-1, channels, side, side)),
    )


IMAGE = FIRST + 2

STRUCTURE = (
    _nodes("forward reference", "the order of nodes", "does not exist yet", node(Op.RELU, Ref(FIRST + 5))),
    _nodes("self reference", "the order of nodes", "does not exist yet", node(Op.RELU, Ref(FIRST))),
    _nodes(
        "cycle of two",
        "the order of nodes",
        "does not exist yet",
        node(Op.RELU, Ref(FIRST + 1)),
        node(Op.RELU, Ref(FIRST)),
    ),
    _nodes("reference to 2^32 - 1", "an index out of range", "does not exist yet", node(Op.RELU, Ref(2**32 - 1))),
    _nodes("output that does not exist", "an index out of range", "output is None"),
    _nodes("output that is the input", "nothing to learn", "depends on no parameter", output=0),
    _nodes("output that is a parameter", "an alias of the model", r"must be float32\[batch", output=WEIGHT),
    _nodes("output that is a size", "a number for a tensor", r"must be float32\[batch", node(Op.SIZE, X, 0)),
    _nodes("output without its batch", "samples mixed", r"must be float32\[batch", node(Op.PERMUTE, X, (1, 0))),
    _nodes("four thousand nodes too many", "the checker's time", "nodes; this device", *[node(Op.RELU, X)] * 4097),
    _nodes("more nodes than are decoded", "the decoder's time", "8193 nodes in the", *[node(Op.RELU, X)] * 8193),
    _nodes("a result too many", "an index out of range", "2 results", node(Op.RELU, X, num_results=2)),
    _nodes("results without end", "memory of the table of values", "results", node(Op.RELU, X, num_results=2**32 - 1)),
    _nodes("arguments without end", "the checker's time", "arguments", node(Op.RELU, *[X] * 17)),
    _nodes("a list without end", "the decoder's time", "node 0 has", node(Op.CONCATENATE, (X,) * 60_000, 1)),
    _nodes("a list too long", "the checker's time", "items; at most", node(Op.CONCATENATE, (X,) * 1025, 1)),
    _nodes(
        "sixty long lists in each graph",
        "the decoder's memory",
        "arguments and items",
        *[node(Op.STACK, (X,) * 1024, 0)] * 60,
    ),
    _nodes("no arguments", "a missing argument", "expected", node(Op.LINEAR)),
    _nodes("nothing for a tensor", "a missing argument", "is missing", node(Op.RELU, None)),
    _nodes("an empty list", "the first of nothing", "tensors is", node(Op.CONCATENATE, (), 0)),
    _attack(
        "no nodes at all",
        "an empty program",
        lambda: replace(honest_program(), train=Graph(nodes=(), output=0), eval=Graph(nodes=(), output=0)),
        "depends on no parameter",
    ),
    _attack("no parameters", "an empty program", lambda: replace(honest_program(), parameters=()), "nothing to train"),
    _attack("no inputs", "an empty program", lambda: replace(honest_program(), inputs=()), "nothing to train"),
    _attack("a later opset", "rules that are not known here", lambda: replace(honest_program(), opset=2), "opset 2"),
    _attack(
        "graphs that disagree",
        "a check of one graph only",
        lambda: replace(honest_program(), eval=graph_of(node(Op.RELU, X))),
        "but the eval graph",
    ),
)

SIZES = (
    _nodes(
        "expand to 2^40",
        "memory",
        "bytes at a batch",
        node(Op.UNSQUEEZE, X, 0),
        node(Op.EXPAND, Ref(FIRST), (2**40, -1, -1)),
    ),
    _nodes(
        "expand, then make it contiguous",
        "memory",
        "bytes at a batch",
        node(Op.UNSQUEEZE, X, 0),
        node(Op.EXPAND, Ref(FIRST), (2**20, -1, -1)),
        node(Op.EXP, Ref(FIRST + 1)),
    ),
    _nodes("concatenate doubled 60 times", "memory", "for one value", *_doubled(Op.CONCATENATE, 60)),
    _nodes("stack doubled 9 times", "a tensor of many dimensions", "at most 8 dimensions", *_doubled(Op.STACK, 9)),
    _nodes(
        "stack of a thousand, again and again",
        "memory",
        "for one value",
        node(Op.STACK, (X,) * 1000, 0),
        node(Op.STACK, (Ref(FIRST),) * 1000, 0),
        node(Op.STACK, (Ref(FIRST + 1),) * 1000, 0),
    ),
    _nodes("pad by 10^9", "memory", "amounts is 1000000000", node(Op.PAD, X, (0, 10**9), 0.0)),
    _nodes("pad by less than nothing", "a negative size", "amounts is -3", node(Op.PAD, X, (-3, 0), 0.0)),
    _nodes(
        "pad in every dimension",
        "memory",
        "for one value",
        *_image(64, 16),
        node(Op.PAD, Ref(IMAGE), (1024, 1024, 1024, 1024), 0.0),
    ),
    _nodes(
        "convolution's padding",
        "memory",
        "for one value",
        *_image(1, 1),
        node(Op.RESHAPE, Ref(WEIGHT), (12, 1, 1, 1)),
        node(Op.CONV2D, Ref(IMAGE), Ref(FIRST + 3), None, SQUARE, (128, 128), SQUARE, 1),
    ),
    _nodes(
        "a convolution's unfolded input",
        "memory beside the result",
        "for one value",
        *_image(16, 64),
        node(Op.EXPAND, Ref(BUFFER), (16, 16, 48, 4)),
        node(Op.RESHAPE, Ref(FIRST + 3), (16, 16, 16, 12)),
        node(Op.CONV2D, Ref(IMAGE), Ref(FIRST + 4), None, SQUARE, (8, 8), SQUARE, 1),
    ),
    _nodes(
        "pooling to a thousand by a thousand",
        "memory",
        "for one value",
        *_image(64, 2),
        node(Op.ADAPTIVE_AVG_POOL2D, Ref(IMAGE), (1024, 1024)),
    ),
    _nodes(
        "a kernel larger than its image",
        "a negative size",
        "does not fit",
        *_image(1, 2),
        node(Op.MAX_POOL2D, Ref(IMAGE), (9, 9), SQUARE, (0, 0), SQUARE, False),
    ),
    _nodes(
        "a maximum of nothing but padding",
        "memory that is not its own",
        "has a window beside all of the 2 numbers",
        *_image(1, 2),
        node(Op.MAX_POOL2D, Ref(IMAGE), (2, 2), SQUARE, SQUARE, (3, 3), False),
    ),
    _nodes(
        "outer product by broadcasting",
        "memory",
        "for one value",
        node(Op.EXPAND, Ref(BUFFER), (5000, 4)),
        node(Op.RESHAPE, Ref(FIRST), (20_000, 1)),
        node(Op.TRANSPOSE, Ref(FIRST + 1), 0, 1),
        node(Op.MUL, Ref(FIRST + 1), Ref(FIRST + 2)),
    ),
    _nodes(
        "batch by batch",
        "memory that grows with the square of the batch",
        "for one value",
        node(Op.TRANSPOSE, X, 0, 1),
        node(Op.MATMUL, X, Ref(FIRST)),
        batch_size=65536,
    ),
    _nodes(
        "repeated squaring of a size",
        "numbers of millions of digits",
        "th power of the batch",
        node(Op.SIZE, X, 0),
        *(node(Op.INT_MUL, Ref(FIRST + i), Ref(FIRST + i)) for i in range(30)),
    ),
    _nodes(
        "repeated squaring of a number",
        "numbers of millions of digits",
        r"sizes lie between 0 and 2\^48",
        node(Op.INT_ADD, 3, 3),
        *(node(Op.INT_MUL, Ref(FIRST + i), Ref(FIRST + i)) for i in range(30)),
    ),
    _nodes(
        "a polynomial of many terms",
        "the checker's time",
        "th power of the batch",
        node(Op.SIZE, X, 0),
        node(Op.INT_ADD, Ref(FIRST), 1),
        *(node(Op.INT_MUL, Ref(FIRST + 1 + i), Ref(FIRST + 1)) for i in range(40)),
    ),
    _nodes(
        "a size doubled 100 times",
        "overflow of int64",
        r"2\^48",
        node(Op.INT_ADD, 1, 1),
        *(node(Op.INT_ADD, Ref(FIRST + i), Ref(FIRST + i)) for i in range(100)),
    ),
    _nodes("2^63 - 1 plus itself", "overflow of int64", r"2\^48", node(Op.INT_ADD, 2**63 - 1, 2**63 - 1)),
    _nodes("a negative size", "overflow of unsigned numbers", "not negative", node(Op.RESHAPE, X, (-2, 4))),
    _nodes("the smallest number", "overflow of int64", "not negative", node(Op.RESHAPE, X, (-(2**63), 4))),
    _nodes(
        "a size that shrinks as the batch grows",
        "a check at the largest batch only",
        "between 0",
        node(Op.SIZE, X, 0),
        node(Op.INT_SUB, 4096, Ref(FIRST)),
    ),
    _nodes(
        "division by nothing",
        "an exception",
        "divided by 0",
        node(Op.SIZE, X, 0),
        node(Op.INT_FLOORDIV, Ref(FIRST), 0),
    ),
    _nodes(
        "division by the batch",
        "a size that is zero for some batches",
        "only positive numbers",
        node(Op.SIZE, X, 0),
        node(Op.INT_FLOORDIV, 64, Ref(FIRST)),
    ),
    _nodes("a shape of two unknowns", "a size out of nothing", "only one", node(Op.RESHAPE, X, (-1, -1))),
    _nodes("a shape of a thousand ones", "dimensions", "at most 8", node(Op.RESHAPE, X, (-1, 4, *(1,) * 1000))),
    _nodes("a slice of the batch", "other people's samples", "depend on the batch", node(Op.SLICE, X, 0, 1, 5, 1)),
    _nodes(
        "two thousand middling values",
        "memory in all",
        "bytes of memory",
        *_image(64, 16),
        node(Op.SUM, Ref(BIAS), (0,), True),
        node(Op.MUL, Ref(IMAGE), Ref(IMAGE + 1)),  # from here on, gradients flow and values are kept
        *(node(Op.EXP, Ref(IMAGE + 2 + i)) for i in range(2000)),
    ),
    _nodes(
        "two hundred products of matrices",
        "time",
        "floating-point operations",
        node(Op.EXPAND, Ref(BUFFER), (1024, 256, 4)),
        node(Op.RESHAPE, Ref(FIRST), (1024, 1024)),
        *(node(Op.MATMUL, Ref(FIRST + 1), Ref(FIRST + 1)) for _ in range(200)),
        node(Op.LINEAR, X, Ref(WEIGHT), Ref(BIAS)),
    ),
    _attack("a gigantic batch", "memory", honest_program, "batch_size is 4000000000", batch_size=4_000_000_000),
    _attack(
        "a parameter of 2^256 numbers",
        "memory",
        lambda: replace(honest_program(), parameters=(TensorSpec(name="w", shape=(2**32 - 1,) * 8),)),
        "parameters; this device",
    ),
    _attack(
        "a buffer of 2^32 numbers",
        "memory",
        lambda: replace(honest_program(), buffers=(TensorSpec(name="b", shape=(2**32 - 1,)),)),
        "parameters; this device",
    ),
    _attack(
        "an input of 2^256 numbers",
        "memory",
        lambda: replace(honest_program(), inputs=(InputSpec(name="x", shape=(2**32 - 1,) * 8),)),
        r"2\^48",
    ),
    _attack(
        "a parameter without numbers",
        "division by zero",
        lambda: replace(honest_program(), parameters=(TensorSpec(name="w", shape=(0, 4)),)),
        "or a zero",
    ),
    _attack(
        "a tensor of nine dimensions",
        "dimensions",
        lambda: replace(honest_program(), parameters=(TensorSpec(name="w", shape=(1,) * 9),)),
        "more than 8 dimensions",
    ),
)


def _with_constant(content: bytes) -> Program:
    return replace(honest_program(), constants=(Constant(dtype="float32", shape=(1,), content=content),))


NUMBERS = (
    _nodes("an operand that is not a number", "NaN in the model", "an argument is nan", node(Op.ADD, X, float("nan"))),
    _nodes("an operand that is infinite", "NaN in the model", "an argument is inf", node(Op.ADD, X, float("inf"))),
    _nodes("an operand beyond float32", "NaN in the model", "outside", node(Op.MUL, X, 1e300)),
    _nodes("a dropout of more than all", "NaN in the model", "outside", node(Op.DROPOUT, X, 1.5)),
    _nodes("an epsilon of zero", "division by zero", "outside", node(Op.LAYER_NORM, X, (4,), None, None, 0.0)),
    _nodes(
        "a stride of zero",
        "division by zero",
        "outside",
        *_image(1, 4),
        node(Op.MAX_POOL2D, Ref(IMAGE), SQUARE, (0, 0), (0, 0), SQUARE, False),
    ),
    _nodes("groups of zero", "division by zero", "outside", node(Op.GROUP_NORM, X, 0, None, None, 1e-5)),
    *(
        _attack(
            f"a constant that is {what}",
            "NaN in the model",
            partial(_with_constant, content),
            "not finite",
        )
        for what, content in (("NaN", b"\x00\x00\xc0\x7f"), ("infinite", b"\x00\x00\x80\xff"))
    ),
    _attack(
        "a constant that lies about its shape",
        "memory beyond the manifest",
        lambda: replace(
            honest_program(), constants=(Constant(dtype="float32", shape=(2**31, 2**31), content=bytes(16)),)
        ),
        "constant 0 of shape",
    ),
    _attack(
        "constants of 400 kB",
        "a data set inside a manifest",
        lambda: replace(
            honest_program(), constants=(Constant(dtype="int64", shape=(50_000,), content=bytes(400_000)),)
        ),
        "bytes of constants",
    ),
    _attack(
        "constants without end",
        "the checker's time",
        lambda: replace(honest_program(), constants=(Constant(dtype="float32", shape=(), content=bytes(4)),) * 20_000),
        "20000 constants; at most",
    ),
)

TYPES = (
    _nodes("a number for a tensor", "an exception", "x is 3", node(Op.RELU, 3)),
    _nodes("a flag for a number", "an exception", "dim is True", node(Op.SOFTMAX, X, True)),
    _nodes("a real for a flag", "an exception", "keep is 1.0", node(Op.SUM, X, (1,), 1.0)),
    _nodes("a size for a tensor", "an exception", "must be a tensor", node(Op.SIZE, X, 0), node(Op.RELU, Ref(FIRST))),
    _nodes("a tensor for a size", "an exception", "must be a size", node(Op.INT_ADD, X, 1)),
    _nodes("numbers for tensors", "an exception", "not numbers", node(Op.CONCATENATE, (1, 2), 0)),
    _nodes("a tensor for numbers", "an exception", "written out", node(Op.PERMUTE, X, (Ref(1), Ref(0)))),
    _nodes("a dim that is not there", "an index out of range", "outside", node(Op.SOFTMAX, X, 5)),
    _nodes("a dim named twice", "an index out of range", "twice", node(Op.SUM, X, (1, 1), True)),
    _nodes(
        "layers that do not fit", "memory out of bounds", "as the weight", node(Op.LINEAR, Ref(BIAS), Ref(WEIGHT), None)
    ),
    _attack(
        "whole numbers through a layer",
        "a wrong dtype",
        lambda: replace(honest_program(), inputs=(InputSpec(name="x", shape=(4,), dtype="int64"),)),
        "takes float32",
    ),
    _attack(
        "an input of another type than the data",
        "a wrong dtype",
        lambda: replace(
            honest_program(),
            inputs=(InputSpec(name="x", shape=(4,), dtype="int64"),),
            train=_converted(),
            eval=_converted(),
        ),
        "make them the same",
    ),
)


def _converted() -> Graph:
    return graph_of(node(Op.TO_FLOAT32, X), node(Op.LINEAR, Ref(FIRST), Ref(WEIGHT), Ref(BIAS)))


BUFFERS = (
    _updates("an update of a buffer that is not there", "does not exist", BufferUpdate(buffer=1, value=BUFFER)),
    _updates("an update of buffer 2^32 - 1", "does not exist", BufferUpdate(buffer=2**32 - 1, value=BUFFER)),
    _updates(
        "two updates of one buffer",
        "updated twice",
        BufferUpdate(buffer=0, value=BUFFER),
        BufferUpdate(buffer=0, value=BUFFER),
    ),
    _updates("an update with a value that is not there", "updated with None", BufferUpdate(buffer=0, value=999)),
    _updates("an update with the weights", "is updated with", BufferUpdate(buffer=0, value=WEIGHT)),
    _updates("an update with the samples themselves", "is updated with", BufferUpdate(buffer=0, value=0)),
    _updates(
        "an update with a size",
        "is updated with",
        BufferUpdate(buffer=0, value=FIRST + 1),
        nodes=(node(Op.SIZE, X, 0),),
    ),
    _updates(
        "an update of another type",
        "is updated with",
        BufferUpdate(buffer=0, value=FIRST + 1),
        nodes=(node(Op.RESHAPE, Ref(BUFFER), (2, 2)),),
    ),
    _attack(
        "an evaluation that changes the model",
        "state that is not its own",
        lambda: replace(
            honest_program(),
            eval=replace(honest_program().eval, updates=(BufferUpdate(buffer=0, value=BUFFER),)),
        ),
        "eval graph updates",
    ),
)

GRAPHS = (*STRUCTURE, *SIZES, *NUMBERS, *TYPES, *BUFFERS)
