"""Which programs draw random numbers, so that what runs them gives each model a generator of its own."""

from __future__ import annotations

from grapevine_proto.program import Graph, Node
from grapevine_proto.program import Operator as Op
from grapevine_tasks.opset import RULES

_ALWAYS = frozenset({Op.DROPOUT, Op.NORMAL, Op.BERNOULLI})
_WITH_DROPOUT = frozenset({Op.LSTM, Op.GRU, Op.RNN, Op.ATTENTION})


def random_operators(graph: Graph) -> frozenset[Op]:
    """The operators of a checked graph that draw; recurrent layers and attention do so where they drop out."""
    return frozenset(node.operator for node in graph.nodes if _draws(node))


def _draws(node: Node) -> bool:
    if node.operator not in _WITH_DROPOUT:
        return node.operator in _ALWAYS
    named = dict(zip((slot.name for slot in RULES[node.operator].slots), node.arguments, strict=True))
    return bool(named["dropout"]) and bool(named.get("train", True))
