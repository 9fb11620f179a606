"""How attacks on graphs are made: out of nodes, in a manifest that is honest but for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.unit.tasks.hostile.attack import (
    FIRST,
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
    Graph,
    Node,
    Operator,
    Program,
    Ref,
)

Op = Operator
X = Ref(0)
SQUARE = (1, 1)


def attack(name: str, target: str, make: Callable[[], Program], reason: str, batch_size: int = 32) -> Attack:
    """An attack of the program that this makes, in an otherwise honest manifest."""

    def attempt(_folder: object) -> object:
        manifest = honest_manifest(make())
        return judged(encode_manifest(replace(manifest, training=TrainingPlan(batch_size=batch_size))))

    return Attack(name=name, target=target, attempt=attempt, reason=reason)


def nodes_attack(
    name: str, target: str, reason: str, *nodes: Node, output: int | None = None, batch_size: int = 32
) -> Attack:
    """An attack of one graph, used to train and to evaluate."""

    def make() -> Program:
        graph = graph_of(*nodes, output=output) if nodes else Graph(nodes=(), output=99 if output is None else output)
        return replace(honest_program(), train=graph, eval=graph)

    return attack(name, target, make, reason, batch_size)


def updates_attack(name: str, reason: str, *updates: BufferUpdate, nodes: tuple[Node, ...] = ()) -> Attack:
    """An attack of the honest program with these updates of its buffer."""

    def make() -> Program:
        honest = honest_program()
        graph = graph_of(*honest.train.nodes, *nodes, output=FIRST, updates=updates)
        return replace(honest, train=graph)

    return attack(name, "state that is not its own", make, reason)


def doubled(operator: Operator, times: int) -> tuple[Node, ...]:
    """Each node takes the one before twice."""
    first = node(operator, (X, X), 1)
    return (first, *(node(operator, (Ref(FIRST + i), Ref(FIRST + i)), 1) for i in range(times)))


def image(channels: int, side: int) -> tuple[Node, ...]:
    """Value 4: the input, expanded to [batch, channels, side, side] without any memory of its own."""
    return (
        node(Op.SLICE, X, 1, 0, 1, 1),
        node(Op.RESHAPE, Ref(FIRST), (-1, 1, 1, 1)),
        node(Op.EXPAND, Ref(FIRST + 1), (-1, channels, side, side)),
    )


IMAGE = FIRST + 2
